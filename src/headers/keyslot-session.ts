/** An unlocked volume whose keyslots are changed, wherever it is. */

import type { Luks2Header } from '../luks2/header.js';
import { nextHeader } from '../luks2/header-mac.js';
import type { KnownKeyslots } from '../luks2/known-keyslots.js';
import type { Luks2Metadata } from '../luks2/metadata-object.js';
import type { KeyHandle } from '../native.js';
import type { KeyslotVolume } from '../volume/unlock-keyslot.js';
import type { PoolLease } from '../workers/pool.js';

/** What a change of keyslots works on. */
export interface KeyslotSession {
  readonly file: KeyslotVolume;
  readonly key: KeyHandle;
  readonly pool: PoolLease;
  /** Writes a part of the area behind the header. @throws {VolsealError} `ERR_IO`; `ERR_ARGUMENT` it is not in there */
  writeArea(bytes: Uint8Array, offsetBytes: number): Promise<void>;
  /** @throws {VolsealError} `ERR_IO` */
  writeHeader(header: Luks2Header): Promise<void>;
  /** Makes what was written since the last time part of the volume. @throws {VolsealError} as `replaceFront` */
  commit(): Promise<void>;
}

/** The next version of a header, with other keyslots, under its MAC. */
export const changedHeader = (
  { file, key }: KeyslotSession,
  old: Luks2Header,
  metadata: Luks2Metadata,
  keyslots: KnownKeyslots,
): Luks2Header => nextHeader(key, { ...old, metadata }, { ...file.token, keyslots }, file.header.path);
