/** Which KMS is asked for a volume's key, and asking it. */
import { VOLUME_ID_CONTEXT_KEY } from '../context-keys.js';
import { VolsealError, withPath } from '../errors.js';
import { isKeyArn, isKeyId, parseKeyArn } from '../kms/shared/arn.js';
import type { KmsCredentials, KmsCredentialsProvider } from '../kms/shared/credentials.js';
import { describeContext, type EncryptionContext } from '../kms/shared/encryption-context.js';
import { asCaller, chooseKms, type KmsCaller, type KmsEndpoint } from '../kms/shared/endpoint.js';
import { defaultKms } from '../kms/shared/environment.js';
import type { LogOptions } from '../logging.js';
import type { KeyHandle } from '../native.js';
import { traced } from '../tracing.js';
import type { PoolLease } from '../workers/pool.js';
import type { UnlockTask } from '../workers/tasks.js';
import { asksKeyslot, type KeyslotOptions, type KeyslotVolume, unlockKeyslot } from './unlock-keyslot.js';
import type { HeaderContents } from './volume-file.js';

/** With which rights KMS is asked, where they are not those of the credentials in the AWS environment alone. */
export interface KmsAccess {
  /**
   * AWS, or a server at a URL: with what requests are signed. Default: what the AWS environment and configuration name.
   * `fromKmsClient` takes them from a client of the AWS SDK.
   */
  readonly credentials?: KmsCredentials | KmsCredentialsProvider | undefined;
  /** A server at a URL: the region that requests are signed for, as a VPC endpoint wants it. Default: `us-east-1`. */
  readonly signingRegion?: string | undefined;
  /** Embedded KMS: the principal that asks. AWS: the ARN of a role that is assumed first. */
  readonly principal?: string | undefined;
  /** Tokens of new grants, which KMS may not know everywhere yet. */
  readonly grantTokens?: readonly string[] | undefined;
}

/** Options of everything that opens a volume. */
export interface OpenOptions extends KeyslotOptions, LogOptions {
  /** The file with the header, where that is detached. */
  header?: string | undefined;
  /**
   * The KMS that is asked for the key: `embedded`, `embedded:/HOME`, `aws`, `aws:REGION`, `http://HOST:PORT`. Default:
   * `$VOLSEAL_KMS`, else what the header records, unless that is a URL.
   */
  kms?: string | undefined;
  /**
   * Where volseal keeps its own files: the embedded KMS and the audit log. Default: `$VOLSEAL_HOME`, else the user's
   * data directory.
   */
  home?: string | undefined;
  /**
   * Pairs that the volume's encryption context must have. They do not say under whose KMS key it is: see `expectedKey`.
   */
  encryptionContext?: EncryptionContext | undefined;
  /**
   * The KMS key that the volume must be under, by ARN or id; otherwise it is refused before KMS is asked. Whoever may
   * use a KMS key can make a volume under it with any encryption context: only the key says whose volume it is.
   */
  expectedKey?: string | undefined;
  /** With which rights KMS is asked, where they are not those of the credentials alone. */
  kmsAccess?: KmsAccess | undefined;
  /**
   * A volume on a file system without locks (flock) is opened for writing all the same. Two that write at once destroy
   * each other's data: the caller makes sure that no process of any machine uses it. Readers need no such permission,
   * but get a warning.
   */
  allowNoLock?: boolean | undefined;
  /**
   * Opens a volume with a detached header also where nothing shows that the data is the header's: random data that
   * other tools have rewritten as a whole.
   */
  anyData?: boolean | undefined;
  /**
   * Called with a warning, one sentence, about something that does not stop the job. Default: `process.emitWarning`.
   */
  onWarning?: ((warning: string) => void) | undefined;
  /** Ends the call with `ERR_ABORTED`, however long KMS would take. An attached volume is not affected. */
  signal?: AbortSignal | undefined;
}

/** What a header says, and what messages call the files or the object that it belongs to. */
export interface NamedContents extends HeaderContents {
  readonly data: { readonly path: string };
  readonly header: { readonly path: string };
}

/** The KMS that is asked for this volume's key, and as whom. @throws {VolsealError} `ERR_ARGUMENT` */
export const endpointOf = (volume: NamedContents, options: OpenOptions): KmsEndpoint =>
  withAccess(kmsOf(volume, options), options.kmsAccess);

/** The endpoint, asked with the rights of `access`. @throws {VolsealError} `ERR_ARGUMENT`, as `asCaller` */
export function withAccess(endpoint: KmsEndpoint, { principal, credentials, signingRegion }: KmsAccess = {}): KmsEndpoint {
  const caller: KmsCaller = {
    ...(principal === undefined ? {} : { principal }),
    ...(credentials === undefined ? {} : { credentials }),
    ...(signingRegion === undefined ? {} : { signingRegion }),
  };
  return Object.keys(caller).length === 0 ? endpoint : asCaller(endpoint, caller);
}

/** A URL from a header is never followed: whoever wrote the header would choose who answers. */
function kmsOf({ data, token }: NamedContents, options: OpenOptions): KmsEndpoint {
  const recorded = token.kms;
  const isNamed = (options.kms ?? defaultKms()) !== undefined;
  if (isNamed || recorded === 'embedded' || recorded.startsWith('aws:')) return chooseKms(options, recorded);
  const message = `${data.path}: its key was wrapped by the KMS at ${recorded}; name that KMS yourself if you trust it`;
  throw new VolsealError('ERR_ARGUMENT', message, { details: { path: data.path, kms: recorded } });
}

/**
 * Checks that the volume is under the KMS key and has the pairs that the caller expects. @throws {VolsealError}
 * `ERR_KMS_KEY_MISMATCH`, `ERR_CONTEXT_MISMATCH`, `ERR_ARGUMENT`
 */
export function checkExpected(volume: NamedContents, options: OpenOptions): void {
  checkExpectedKey(options.expectedKey, volume);
  checkExpectedContext(options.encryptionContext, volume);
}

/** @throws {VolsealError} `ERR_KMS_KEY_MISMATCH`; `ERR_ARGUMENT` for what names no single key, an alias for example */
function checkExpectedKey(expected: string | undefined, { data: { path }, token }: NamedContents): void {
  if (expected === undefined) return;
  if (!isKeyArn(expected) && !isKeyId(expected)) {
    throw new VolsealError(
      'ERR_ARGUMENT',
      `the expected KMS key ${JSON.stringify(expected)} is neither the ARN nor the id of a key; an alias can be moved to another key`,
    );
  }
  if (expected === token.keyId || expected === parseKeyArn(token.keyId)?.keyId) return;
  throw new VolsealError(
    'ERR_KMS_KEY_MISMATCH',
    `${path}: ${token.volumeId} is under the KMS key ${token.keyId}; expected was ${expected}`,
    {
      details: { path, volumeId: token.volumeId, keyId: token.keyId },
    },
  );
}

/** The pairs a caller expects must all stand in the volume's context. @throws {VolsealError} `ERR_CONTEXT_MISMATCH` */
function checkExpectedContext(expected: EncryptionContext | undefined, { data, token }: NamedContents): void {
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
 * The volume's key in the vault, unwrapped by KMS, or from a keyslot where the options name what opens one; it proves
 * the header. The caller wipes the handle.
 *
 * @throws {VolsealError} `ERR_KEYSLOT`, `ERR_KMS_*`, `ERR_CONTEXT_MISMATCH`, `ERR_ARGUMENT`, `ERR_KEY_DIGEST`,
 * `ERR_HEADER_MAC`, `ERR_MEMORY_LOCK`, `ERR_ABORTED`
 */
export async function unlockVolume(volume: KeyslotVolume, options: Omit<OpenOptions, 'header'>, pool: PoolLease): Promise<KeyHandle> {
  checkExpected(volume, options);
  if (asksKeyslot(options)) return (await unlockKeyslot(volume, options, pool)).key;
  return await unlockByKms(volume, options, pool);
}

/** The same by KMS alone, of a volume whose files need not be open here. @throws {VolsealError} as `unlockVolume` */
export async function unlockByKms(volume: NamedContents, options: Omit<OpenOptions, 'header'>, pool: PoolLease): Promise<KeyHandle> {
  checkExpected(volume, options);
  const { keyId, encryptedDataKey, encryptionContext } = volume.token;
  try {
    const task: UnlockTask = {
      kind: 'unlock',
      kms: endpointOf(volume, options),
      request: { keyArn: keyId, encryptedDataKey, context: encryptionContext, grantTokens: options.kmsAccess?.grantTokens ?? [] },
      header: volume.found.header,
      headerPath: volume.header.path,
    };
    return await traced('volseal.kms', { operation: 'Decrypt' }, () => pool.run(task, options.signal));
  } catch (error) {
    throw withPath(error, volume.data.path);
  }
}
