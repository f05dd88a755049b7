/** The header of a volume whose data key is under another KMS key, wherever the volume is. */
import { VolsealError } from '../errors.js';
import { parseKmsArn } from '../kms/shared/arn.js';
import { intactHeader, type Luks2Header } from '../luks2/header.js';
import { nextHeader } from '../luks2/header-mac.js';
import { type KeyHandle, native } from '../native.js';
import type { StoreOptions } from '../stores/store.js';
import { traced } from '../tracing.js';
import { checkExpected, endpointOf, type NamedContents, type OpenOptions, unlockByKms } from '../volume/unlock.js';
import { claimsOf } from '../volume/volume-file.js';
import type { PoolLease } from '../workers/pool.js';
import type { RewrapTask } from '../workers/tasks.js';

/** Options of `rewrapVolume`. */
export interface RewrapOptions extends OpenOptions {
  /** The new KMS key, of the same KMS: id, ARN, alias name or alias ARN. */
  key: string;
  /** Asks KMS whether it would, and changes nothing. */
  dryRun?: boolean | undefined;
  /** How a store is reached where the volume is an object (`s3://BUCKET/KEY`). */
  store?: StoreOptions | undefined;
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

/** Asks KMS whether it would. @returns the key as the caller named it @throws {VolsealError} as `rewrapVolume` */
export async function tryRewrap(volume: NamedContents, pool: PoolLease, options: RewrapOptions): Promise<string> {
  checkExpected(volume, options);
  await pool.run({ ...rewrapTask(volume, options), kind: 'tryRewrap' }, options.signal);
  return options.key;
}

/**
 * The next header of an unlocked volume, with its data key under the new KMS key; proved as the next attach will.
 * @throws {VolsealError} as `rewrapVolume`
 */
export async function rewrappedHeader(
  volume: NamedContents,
  key: KeyHandle,
  pool: PoolLease,
  options: RewrapOptions,
): Promise<{ keyArn: string; header: Luks2Header }> {
  const { path } = volume.header;
  const { keyArn, encryptedDataKey } = await traced('volseal.kms', { operation: 'ReEncrypt' }, () =>
    pool.run(rewrapTask(volume, options), options.signal),
  );
  const token = { ...volume.token, keyId: keyArn, encryptedDataKey: Buffer.from(encryptedDataKey) };
  const header = nextHeader(key, volume.found.header, token, path);
  const written = { ...volume, ...claimsOf(intactHeader(header), path) };
  native.keyWipe(await unlockByKms(written, { ...options, expectedKey: undefined }, pool));
  return { keyArn, header };
}

function rewrapTask(file: NamedContents, options: RewrapOptions): RewrapTask {
  const { keyId: keyArn, encryptedDataKey, encryptionContext: context } = file.token;
  const { grantTokens = [] } = options.kmsAccess ?? {};
  return {
    kind: 'rewrap',
    kms: endpointOf(file, options),
    request: { keyArn, encryptedDataKey, context, toKeyId: options.key, grantTokens },
  };
}

/** @throws {VolsealError} `ERR_ARGUMENT` keys of two regions */
export function checkSameKms(fromKeyArn: string, toKey: string, path: string): void {
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
