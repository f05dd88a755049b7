/** The same volume under another KMS key: the data key is wrapped anew inside KMS, and the header says so. The data is not touched. */
import { VolsealError, withPath } from '../errors.js';
import { parseKmsArn } from '../kms/shared/arn.js';
import type { EncryptionContext } from '../kms/shared/encryption-context.js';
import type { Luks2Header } from '../luks2/header.js';
import { sealHeader } from '../luks2/header-mac.js';
import { repairHeader, writeHeader } from '../luks2/store.js';
import { findToken, type UnsealedToken, withToken } from '../luks2/token.js';
import { type KeyHandle, native } from '../native.js';
import { endpointOf, type KmsAccess, openVolumeFile, unlockVolume, type VolumeFile } from '../volume/volume-file.js';
import { throwIfAborted } from '../workers/abort.js';
import { leasePool, type PoolLease } from '../workers/pool.js';
import type { RewrapTask } from '../workers/tasks.js';

/** Options of `rewrapVolume`. */
export interface RewrapOptions {
  /** The KMS key to be, of the same KMS: id, ARN, alias name or alias ARN. */
  key: string;
  /** The file with the header, where that is detached. */
  header?: string | undefined;
  /** Where the key is rewrapped; default: what the header records, unless that is a URL. */
  kms?: string | undefined;
  /** Where the embedded KMS lies if neither `kms` nor the header says. Default: the user's data folder. */
  embeddedHome?: string | undefined;
  /** Pairs that the volume's encryption context must have. */
  encryptionContext?: EncryptionContext | undefined;
  /** Who asks KMS, and how long it may take. */
  kmsAccess?: KmsAccess | undefined;
  /** Asks KMS whether it would, and changes nothing. */
  dryRun?: boolean | undefined;
  /** Ends it with `ERR_ABORTED` before the header is written. */
  signal?: AbortSignal | undefined;
}

/** What `rewrapVolume` did, or would do. */
export interface RewrappedVolume {
  /** Path of the volume. */
  path: string;
  /** `vol-` and 17 hexadecimal digits. */
  volumeId: string;
  /** ARN of the KMS key that wrapped the data key before. */
  fromKeyArn: string;
  /** Of a dry run what the caller named; else the ARN that KMS answered with. */
  toKeyArn: string;
  /** True where nothing was written. */
  dryRun: boolean;
}

const AS_BEFORE = 'the volume is as it was';

/**
 * Wraps a volume's data key under another KMS key of the same KMS, with the same encryption context (ReEncrypt).
 *
 * The new token is proved before the old one is given up: KMS unwraps it, and what comes out must be the key of this volume's digest.
 * Then the header's copies are written one after the other; whenever that ends, kill -9 included, one of them is whole, and the data key
 * in it opens. Nothing but the header is written.
 *
 * @throws {VolsealError} as `attach`; `ERR_ARGUMENT` for a key of another region: ReEncrypt works inside one KMS
 */
export async function rewrapVolume(path: string, options: RewrapOptions): Promise<RewrappedVolume> {
  const { signal } = options;
  const dryRun = options.dryRun === true;
  const file = await openVolumeFile(path, { header: options.header, writable: !dryRun, lock: dryRun ? 'none' : 'exclusive' });
  const pool = leasePool();
  let key: KeyHandle | undefined;
  try {
    throwIfAborted(signal, AS_BEFORE);
    const { token } = file;
    checkSameKms(token.keyId, options.key, path);
    if (dryRun) {
      await pool.run({ ...rewrapTask(file, options), kind: 'tryRewrap' }, signal);
      return { path, volumeId: token.volumeId, fromKeyArn: token.keyId, toKeyArn: options.key, dryRun };
    }
    // First, so that nobody makes KMS wrap anew what a forged header holds.
    key = await unlockVolume(file, options, pool);
    await repairHeader(file.header, file.found, file.headerPath);
    const wrapped = await pool.run(rewrapTask(file, options), signal);
    const header = headerWith(file, key, { keyId: wrapped.keyArn, encryptedDataKey: Buffer.from(wrapped.encryptedDataKey) });
    await proveHeader(file, header, options, pool);
    throwIfAborted(signal, AS_BEFORE);
    await writeHeader(file.header, header, file.headerPath);
    return { path, volumeId: token.volumeId, fromKeyArn: token.keyId, toKeyArn: wrapped.keyArn, dryRun };
  } catch (error) {
    throw withPath(error, path);
  } finally {
    if (key !== undefined) native.keyWipe(key);
    await pool.release();
    await file.close();
  }
}

function rewrapTask(file: VolumeFile, options: RewrapOptions): RewrapTask {
  const { keyId: keyArn, encryptedDataKey, encryptionContext: context } = file.token;
  const { grantTokens = [] } = options.kmsAccess ?? {};
  return {
    kind: 'rewrap',
    kms: endpointOf(file, options),
    request: { keyArn, encryptedDataKey, context, toKeyId: options.key, grantTokens },
  };
}

function headerWith(
  { found, token, headerPath }: VolumeFile,
  key: KeyHandle,
  wrapped: Pick<UnsealedToken, 'keyId' | 'encryptedDataKey'>,
): Luks2Header {
  const { headerMac: _, ...unsealed } = token;
  const metadata = withToken(found.header.metadata, { ...unsealed, ...wrapped });
  return sealHeader(key, { ...found.header, sequence: found.header.sequence + 1n, metadata }, headerPath);
}

/** Unlocks the volume as the next attach will, by the header that is to be written. */
async function proveHeader(file: VolumeFile, header: Luks2Header, options: RewrapOptions, pool: PoolLease): Promise<void> {
  const token = findToken(header.metadata, file.headerPath);
  const proved = await unlockVolume({ ...file, token, found: { ...file.found, header } }, options, pool);
  native.keyWipe(proved);
}

function checkSameKms(fromKeyArn: string, toKey: string, path: string): void {
  const [from, to] = [fromKeyArn, toKey].map((name) => {
    const arn = parseKmsArn(name);
    return arn === undefined ? undefined : `${arn.partition}:${arn.region}`;
  });
  if (to === undefined || from === to) return;
  throw new VolsealError(
    'ERR_ARGUMENT',
    `${path}: its key is in ${from}, ${toKey} in ${to}: KMS rewraps within one region; to move to another, decrypt the volume and encrypt it there`,
    { details: { path } },
  );
}
