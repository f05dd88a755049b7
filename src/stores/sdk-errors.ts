/** What errors of the AWS SDK say, whatever the service. */
import type { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';

interface SdkError {
  readonly name?: string;
  readonly code?: string;
  readonly Code?: string;
  readonly $metadata?: { readonly httpStatusCode?: number };
}

/** The HTTP status; 0 where there was no reply. */
export const statusOf = (error: unknown): number => (error as SdkError).$metadata?.httpStatusCode ?? 0;

/** The service's name for the failure, or Node's. */
export const nameOf = (error: unknown): string => {
  const { Code, name, code } = error as SdkError;
  return Code ?? (name === undefined || name === 'Error' ? (code ?? 'Error') : name);
};

/** Failures of connections: the request may not have arrived. */
const NETWORK = new Set([
  ...['ECONNRESET', 'ECONNREFUSED', 'ECONNABORTED', 'EPIPE', 'ETIMEDOUT', 'EAI_AGAIN', 'ENOTFOUND', 'EHOSTUNREACH', 'ENETUNREACH'],
  ...['TimeoutError', 'NetworkingError', 'ERR_STREAM_PREMATURE_CLOSE', 'IncompleteBody', 'ReplyTooLong'],
]);
const CREDENTIALS = new Set([
  ...['CredentialsProviderError', 'InvalidAccessKeyId', 'SignatureDoesNotMatch', 'ExpiredToken', 'InvalidToken', 'TokenRefreshRequired'],
  ...['UnrecognizedClientException', 'InvalidSignatureException', 'ExpiredTokenException', 'MissingAuthenticationTokenException'],
  ...['IncompleteSignatureException', 'InvalidClientTokenId'],
]);

/** Whether the connection failed, not the request. */
export const isNetwork = (error: unknown): boolean => NETWORK.has(nameOf(error)) || NETWORK.has((error as SdkError).code ?? '');

/** Whether the service does not accept whoever asks. */
export const isAboutCredentials = (error: unknown): boolean => CREDENTIALS.has(nameOf(error));

/**
 * Fills `target` with a reply. Listeners, not `for await`: over TLS a chunk has 16 KiB, and a promise for each costs
 * more than to copy it.
 * @throws {Error} `IncompleteBody`, which is worth another try, where the reply is not as long as `target`
 */
export async function fillFrom(body: Readable, target: Uint8Array): Promise<void> {
  let filledBytes = 0;
  const incomplete = (): Error =>
    Object.assign(new Error(`the reply ended after ${filledBytes} of ${target.length} bytes`), { name: 'IncompleteBody' });
  body.on('data', (chunk: Uint8Array) => {
    if (filledBytes + chunk.length > target.length) return void body.destroy(incomplete());
    target.set(chunk, filledBytes);
    filledBytes += chunk.length;
  });
  await finished(body, { writable: false });
  if (filledBytes < target.length) throw incomplete();
}
