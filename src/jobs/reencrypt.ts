/** A volume under a new data key, in a new file: decrypted with the old key and encrypted with the new in one pass. */

import { VOLUME_ID_CONTEXT_KEY } from '../context-keys.js';
import { withPath } from '../errors.js';
import { chooseKms, forNewKeys, type KmsEndpoint } from '../kms/shared/endpoint.js';
import { logged } from '../logging.js';
import type { Allocation } from '../luks2/token.js';
import { resolveTarget } from '../output/resolve-target.js';
import type { JobOptions } from '../transfer/transform.js';
import { withVolume } from '../volume/session.js';
import { endpointOf, type OpenOptions, withAccess } from '../volume/unlock.js';
import { asksKeyslot } from '../volume/unlock-keyslot.js';
import type { HeaderContents, OpenFiles } from '../volume/volume-file.js';
import { buildVolume, type EncryptedImage } from './build-volume.js';
import { checkSectorBytes } from './encrypt.js';
import { contextOf } from './new-volume-key.js';
import type { VolumePlan } from './volume-plan.js';

/** Options of `reencryptVolume`. */
export interface ReencryptOptions extends OpenOptions, JobOptions {
  /** The KMS key that wraps the new data key: id, ARN, alias name or alias ARN. Default: the one that wraps the old. */
  key?: string | undefined;
  /** 512, 1024, 2048 or 4096. Default: as before. */
  sectorBytes?: number | undefined;
  /** Default: as before. */
  allocation?: Allocation | undefined;
  /** Puts the new header into a file of its own. */
  newHeader?: string | undefined;
  /** Replaces existing targets, the volume itself among them, once the new files are complete. */
  force?: boolean | undefined;
  /** Default true: what is reported as done is on the disk. */
  fsync?: boolean | undefined;
  /**
   * Called when the target file or object is complete, before it can be seen at its path; what it throws ends the job,
   * and the target is as it was. A device has no such moment.
   */
  beforePublish?: (() => Promise<void>) | undefined;
  /** Called with a warning, one sentence, about something that does not stop the job. */
  onWarning?: ((warning: string) => void) | undefined;
}

/** What `reencryptVolume` made. */
export interface ReencryptedVolume extends EncryptedImage {
  /** Path of the old volume. */
  from: string;
  /** How many keyslots the old volume has; they do not open the new one. */
  oldKeyslots: number;
}

/** What `tryReencrypt` found. */
export interface ReencryptPreview {
  /** Path of the old volume. */
  from: string;
  /** Path of the new volume. */
  path: string;
  /** `vol-` and 17 hexadecimal digits. */
  volumeId: string;
  /** ARN of the KMS key that wraps the old data key. */
  fromKeyArn: string;
  /** The KMS key that would wrap the new data key, as the caller named it. */
  toKey: string;
  /** Bytes of the image. */
  imageBytes: number;
}

const STOPPED = 'the volume is as it was, and targets are as they were';

/**
 * Makes a new volume of the same image, under a new data key and a new UUID. Id, encryption context, sector size and
 * allocation stay, unless the options say otherwise: a sparse volume stays sparse. Neither key nor plaintext touches
 * the disk or JavaScript. The old volume is only read, and is locked against writers meanwhile; keyslots are not taken
 * along.
 *
 * The old data key opens the old volume, its copies and the backups of its header as before: destroy those where that
 * matters.
 *
 * @throws {VolsealError} as `attach` and `encryptImage`. Whatever fails, target files are as they were.
 */
export async function reencryptVolume(path: string, newPath: string, options: ReencryptOptions = {}): Promise<ReencryptedVolume> {
  return logged('reencrypt', { source: path, target: newPath }, options, (own) => reencrypt(path, newPath, own));
}

async function reencrypt(path: string, newPath: string, options: ReencryptOptions): Promise<ReencryptedVolume> {
  try {
    return await withVolume(path, options, { lock: 'shared', ifStopped: STOPPED }, async (session) => {
      const plan = planReencryption(session.file, newPath, options);
      await session.unlock();
      const side = { ...session.imageSource(), sizeBytes: session.file.token.imageBytes };
      const source = { ...plan.source, side };
      const { signal, onProgress } = options;
      const made = await buildVolume({ ...plan, source }, { signal, onProgress });
      return { ...made, from: path, oldKeyslots: Object.keys(session.file.found.header.metadata.keyslots).length };
    });
  } catch (error) {
    throw withPath(error, path);
  }
}

/**
 * Opens the volume, proves its header, and asks KMS whether it would make the new data key (DryRun); nothing is made.
 *
 * @param newPath undefined for a job in place
 * @throws {VolsealError} as `reencryptVolume`
 */
export async function tryReencrypt(path: string, newPath: string | undefined, options: ReencryptOptions = {}): Promise<ReencryptPreview> {
  return withVolume(path, options, { lock: 'none', ifStopped: 'nothing was changed' }, async (session) => {
    const plan = planReencryption(session.file, newPath ?? path, options);
    await session.unlock();
    const { endpoint, keyId, output, kmsAccess } = plan;
    if (newPath !== undefined) await resolveTarget(newPath, { ...output, sparse: plan.allocation === 'sparse' });
    const task = { kind: 'tryNewKey', kms: endpoint, keyId, context: contextOf(plan), grantTokens: kmsAccess?.grantTokens } as const;
    await session.pool.run(task, options.signal);
    const { volumeId, keyId: fromKeyArn, imageBytes } = session.file.token;
    return { from: path, path: newPath ?? path, volumeId, fromKeyArn, toKey: keyId, imageBytes };
  });
}

/** The new volume: as the old one, but for what the options say. @throws {VolsealError} `ERR_ARGUMENT` */
export function planReencryption(file: OpenFiles & HeaderContents, volumePath: string, options: ReencryptOptions): VolumePlan {
  const { data, segment, token } = file;
  const { [VOLUME_ID_CONTEXT_KEY]: _, ...contextPairs } = token.encryptionContext;
  return {
    source: { path: data.path, imageBytes: token.imageBytes, side: sourceSide(file), file: data, fileBytes: data.sizeBytes() },
    volumePath,
    header: options.newHeader,
    sectorBytes: options.sectorBytes === undefined ? segment.sectorBytes : checkSectorBytes(options.sectorBytes),
    allocation: options.allocation ?? token.allocation,
    endpoint: newEndpoint(file, options),
    kmsAccess: options.kmsAccess,
    volumeId: token.volumeId,
    hasChosenId: true,
    keyId: options.key ?? token.keyId,
    contextPairs,
    sha256: false,
    output: {
      force: options.force === true,
      fsync: options.fsync !== false,
      resume: false,
      onWarning: options.onWarning,
      beforePublish: options.beforePublish,
    },
    logger: options.logger,
  };
}

function sourceSide({ data, segment, token }: OpenFiles & HeaderContents) {
  const { offsetBytes } = segment;
  return { kind: 'file', fd: data.fd, offsetBytes, sizeBytes: token.imageBytes, sparse: token.allocation === 'sparse' } as const;
}

/** The KMS of the new key: the one that has the old, unless a keyslot opens the volume and another one is named. */
function newEndpoint(file: OpenFiles & HeaderContents, options: ReencryptOptions): KmsEndpoint {
  const isNew = asksKeyslot(options) && options.kms !== undefined;
  return isNew ? withAccess(forNewKeys(chooseKms(options)), options.kmsAccess) : endpointOf(file, options);
}
