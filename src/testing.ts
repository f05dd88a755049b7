/**
 * For the tests of programs that embed volseal: a KMS that needs no AWS, fails when it is told to, and says what it was
 * asked. It is the embedded KMS behind a socket, so keys, contexts, policies and errors are real.
 */
// Before the modules that need it.
import './async-dispose.js';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { administerKms } from './kms/embedded/administration.js';
import { type InterceptedCall, type InterceptedFault, type KmsServer, serveKms } from './kms/embedded/http/server.js';
import type { KmsCredentials } from './kms/shared/credentials.js';

/** A call that a fake KMS has received. */
export interface FakeKmsCall {
  /** `GenerateDataKeyWithoutPlaintext`, `Decrypt` and the like. */
  readonly operation: string;
  /** The request as AWS names its members (`KeyId`, `EncryptionContext`, `DryRun` ...), without a plaintext. */
  readonly request: Readonly<Record<string, unknown>>;
}

/**
 * How calls fail: an error of KMS by its name (`AccessDeniedException`, `ThrottlingException`, `DisabledException`,
 * `KMSInternalException` ...), or `unreachable`: the connection ends without an answer.
 */
export type FakeKmsFailure = string;

/** A KMS for one test. */
export interface FakeKms {
  /** To be spread into the options of volseal's functions. */
  readonly options: { readonly kms: string; readonly home: string; readonly kmsAccess: { readonly credentials: KmsCredentials } };
  /** `http://127.0.0.1:PORT`, for a `KMSClient` of the program itself. */
  readonly url: string;
  /** What such a client signs with: the account's root, who may do everything. */
  readonly credentials: KmsCredentials;
  /** The calls so far, oldest first: those that failed too, and each of the client's attempts. */
  readonly calls: readonly FakeKmsCall[];
  /**
   * Has the calls of an operation fail from now on.
   * @param operation `Decrypt` and the like
   * @returns ends that
   */
  fail(operation: string, failure: FakeKmsFailure): () => void;
  /** Ends the server and removes its keys: nothing opens volumes under them any more. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** HTTP statuses of errors that have another one than 400. */
const STATUSES: Readonly<Record<string, number>> = {
  KMSInternalException: 500,
  DependencyTimeoutException: 503,
  KeyUnavailableException: 500,
  ServiceUnavailable: 503,
};

/**
 * Starts a KMS on a free port of this machine, with a store of its own in a temporary directory. Its data keys go
 * through this process in readable form, as those of `volseal kms serve` do: for tests only.
 *
 *     await using kms = await fakeKms();
 *     await encryptImage('disk.raw', 'disk.vol', kms.options);
 *     kms.fail('Decrypt', 'AccessDeniedException');
 *
 * @throws {VolsealError} `ERR_IO`, `ERR_MEMORY_LOCK`
 */
export async function fakeKms(): Promise<FakeKms> {
  const home = await mkdtemp(join(tmpdir(), 'volseal-fake-kms-'));
  const removeHome = (): Promise<void> => rm(home, { recursive: true, force: true });
  const calls: FakeKmsCall[] = [];
  const failures = new Map<string, FakeKmsFailure>();
  const intercept = ({ operation, request }: InterceptedCall): InterceptedFault | undefined => {
    calls.push({ operation, request: request ?? {} });
    return faultOf(failures.get(operation));
  };
  let server: KmsServer;
  let credentials: KmsCredentials;
  try {
    const administration = administerKms(home);
    const { accessKeyId, secretAccessKey } = administration.createAccessKey('root');
    await administration.close();
    credentials = { accessKeyId, secretAccessKey };
    server = await serveKms({ home, host: '127.0.0.1', port: 0, intercept });
  } catch (error) {
    await removeHome();
    throw error;
  }
  const { url } = server;
  const close = async (): Promise<void> => {
    await server.close();
    await removeHome();
  };
  return {
    options: { kms: url, home, kmsAccess: { credentials } },
    url,
    credentials,
    calls,
    fail(operation, failure) {
      failures.set(operation, failure);
      return () => {
        failures.delete(operation);
      };
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

function faultOf(failure: FakeKmsFailure | undefined): InterceptedFault | undefined {
  if (failure === undefined) return undefined;
  if (failure === 'unreachable') return 'hang up';
  return { name: failure, message: 'The fake KMS was told to fail.', status: STATUSES[failure] ?? 400 };
}
