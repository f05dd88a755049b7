/**
 * What is known of a volume before it is made: its source, the caller's options with their defaults, its files and
 * where its data lies.
 */

import type { EncryptionContext } from '../kms/shared/encryption-context.js';
import type { KmsEndpoint } from '../kms/shared/endpoint.js';
import type { SectorBytes } from '../limits.js';
import type { Logger } from '../logging.js';
import type { Allocation } from '../luks2/token.js';
import type { TransformSource } from '../native.js';
import type { NamedFile } from '../output/named-file.js';
import type { OpenTargetOptions, TargetFile } from '../output/target.js';
import type { ImageSource, SnapshotOptions } from '../stores/store.js';
import type { KmsAccess } from '../volume/unlock.js';

/** An image that is an object or a snapshot in a store. */
export interface StoredSide {
  readonly kind: 'stored';
  readonly source: ImageSource;
}

/** What is encrypted: an open image, a stream, an object, or zeros. */
export interface VolumeSource {
  /** What messages call it. */
  readonly path: string;
  readonly imageBytes: number;
  readonly side: TransformSource | StoredSide;
  /** Where it is an image with a name. */
  readonly file?: NamedFile;
  /** Bytes of that file, where they are not those of the image: it is a volume. */
  readonly fileBytes?: number;
}

/** A volume to make of a source: the caller's options, checked, with their defaults. */
export interface VolumePlan extends TargetPlan {
  readonly source: VolumeSource;
}

/** The same, whatever its source. */
export interface TargetPlan {
  readonly volumePath: string;
  /** The file for a detached header. */
  readonly header: string | undefined;
  readonly sectorBytes: SectorBytes;
  /** Undefined: what is usual for this source and target. */
  readonly allocation: Allocation | undefined;
  readonly endpoint: KmsEndpoint;
  readonly kmsAccess: KmsAccess | undefined;
  readonly volumeId: string;
  /** Whether the caller chose the id: then only a run with the same id resumes this one. */
  readonly hasChosenId: boolean;
  readonly keyId: string;
  /** What the volume is given where it is a new snapshot. */
  readonly snapshot?: SnapshotOptions | undefined;
  /** Pairs of the encryption context, without the volume's id. */
  readonly contextPairs: EncryptionContext;
  readonly sha256: boolean;
  readonly output: OpenTargetOptions;
  readonly logger?: Logger | undefined;
}

/** The files of a new volume, open, and where its data lies. */
export interface NewVolumeFiles {
  readonly volume: TargetFile;
  readonly detached: TargetFile | undefined;
  /** The file with the header: `detached`, else `volume`. */
  readonly header: TargetFile;
  readonly layout: Layout;
}

/** Where the data of a new volume lies in its file. */
export interface Layout {
  readonly dataOffsetBytes: number;
  /** Bytes of data, whole sectors. */
  readonly dataBytes: number;
  readonly allocation: Allocation;
}
