/** Which KMS is asked for a volume's key, and asking it. */
import { VOLUME_ID_CONTEXT_KEY } from '../context-keys.js';
import { VolsealError, withPath } from '../errors.js';
import { describeContext, type EncryptionContext } from '../kms/shared/encryption-context.js';
import { asCaller, type KmsEndpoint, parseKmsUri } from '../kms/shared/endpoint.js';
import type { KeyHandle } from '../native.js';
import type { PoolLease } from '../workers/pool.js';
import type { UnlockTask } from '../workers/tasks.js';
import type { HeaderContents, OpenFiles } from './volume-file.js';

/** With which rights KMS is asked, where they are not those of the credentials alone. */
export interface KmsAccess {
  /** Embedded KMS: the principal that asks. AWS: the ARN of a role that is assumed first. */
  readonly principal?: string | undefined;
  /** Tokens of new grants, which KMS may not know everywhere yet. */
  readonly grantTokens?: readonly string[] | undefined;
}

/** Options of everything that opens a volume. */
export interface OpenOptions {
  /** The file with the header, where that is detached. */
  header?: string | undefined;
  /**
   * The KMS that is asked for the key: `embedded`, `embedded:/HOME`, `aws`, `aws:REGION`, `http://HOST:PORT`. Default: what the header records,
   * unless that is a URL.
   */
  kms?: string | undefined;
  /** Directory of the embedded KMS if neither `kms` nor the header names one. Default: the user's data directory. */
  embeddedHome?: string | undefined;
  /** Pairs that the volume's encryption context must have: whose volume the caller expects this to be. */
  encryptionContext?: EncryptionContext | undefined;
  /** With which rights KMS is asked, where they are not those of the credentials alone. */
  kmsAccess?: KmsAccess | undefined;
  /** Ends the call with `ERR_ABORTED`, however long KMS would take. An attached volume is not affected. */
  signal?: AbortSignal | undefined;
}

/** The KMS that is asked for this volume's key, and as whom. @throws {VolsealError} `ERR_ARGUMENT` */
export const endpointOf = (volume: OpenFiles & HeaderContents, options: OpenOptions): KmsEndpoint =>
  withAccess(chooseKms(volume, options), options.kmsAccess);

/** The endpoint, asked as the principal of `access`. @throws {VolsealError} `ERR_ARGUMENT`, as `asCaller` */
export function withAccess(endpoint: KmsEndpoint, access: KmsAccess | undefined): KmsEndpoint {
  return access?.principal === undefined ? endpoint : asCaller(endpoint, { principal: access.principal });
}

/** A URL from a header is never followed: whoever wrote the header would choose who answers. */
function chooseKms({ data, token }: OpenFiles & HeaderContents, { kms, embeddedHome }: OpenOptions): KmsEndpoint {
  if (kms !== undefined) return parseKmsUri(kms, embeddedHome);
  const recorded = token.kms;
  if (recorded === 'embedded' || recorded.startsWith('aws:')) return parseKmsUri(recorded, embeddedHome);
  const message = `${data.path}: its key was wrapped by the KMS at ${recorded}; name that KMS yourself if you trust it`;
  throw new VolsealError('ERR_ARGUMENT', message, { details: { path: data.path, kms: recorded } });
}

/** The pairs a caller expects must all stand in the volume's context. @throws {VolsealError} `ERR_CONTEXT_MISMATCH` */
function checkExpectedContext(expected: EncryptionContext | undefined, { data, token }: OpenFiles & HeaderContents): void {
  const actual = token.encryptionContext;
  const wanted = { [VOLUME_ID_CONTEXT_KEY]: token.volumeId, ...expected };
  const differing = Object.entries(wanted).filter(([key, value]) => !Object.hasOwn(actual, key) || actual[key] !== value);
  if (differing.length === 0) return;
  const pairs = differing.map(
    ([key, value]) =>
      `${JSON.stringify(key)} is ${Object.hasOwn(actual, key) ? JSON.stringify(actual[key]) : 'not there'}, expected was ${JSON.stringify(value)}`,
  );
  throw new VolsealError(
    'ERR_CONTEXT_MISMATCH',
    `${data.path}: the encryption context of ${token.volumeId} is ${describeContext(actual)}: ${pairs.join('; ')}`,
    { details: { path: data.path, volumeId: token.volumeId, encryptionContext: actual } },
  );
}

/**
 * The volume's key, unwrapped by KMS into the vault; it proves the header. The caller wipes the handle.
 *
 * @throws {VolsealError} `ERR_KMS_*`, `ERR_CONTEXT_MISMATCH`, `ERR_KEY_DIGEST`, `ERR_HEADER_MAC`, `ERR_MEMORY_LOCK`, `ERR_ABORTED`
 */
export async function unlockVolume(
  volume: OpenFiles & HeaderContents,
  options: Omit<OpenOptions, 'header'>,
  pool: PoolLease,
): Promise<KeyHandle> {
  checkExpectedContext(options.encryptionContext, volume);
  const { keyId, encryptedDataKey, encryptionContext } = volume.token;
  try {
    const task: UnlockTask = {
      kind: 'unlock',
      kms: endpointOf(volume, options),
      request: { keyArn: keyId, encryptedDataKey, context: encryptionContext, grantTokens: options.kmsAccess?.grantTokens ?? [] },
      header: volume.found.header,
      headerPath: volume.header.path,
    };
    return await pool.run(task, options.signal);
  } catch (error) {
    throw withPath(error, volume.data.path);
  }
}
