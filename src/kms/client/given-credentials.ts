/** Credentials of the caller's own provider, fetched before a call to KMS leaves for a thread. */
import { messageOf, VolsealError } from '../../errors.js';
import { KMS_DEADLINE_MS } from '../../limits.js';
import { checkCredentials } from '../shared/credentials.js';
import type { KmsEndpoint } from '../shared/endpoint.js';
import { abortedError, deadlineError, kmsError } from './errors.js';
import { untilAborted } from './until-aborted.js';

/**
 * `endpoint` with the credentials that its provider gives now.
 * @throws {VolsealError} `ERR_KMS_DENIED` where the provider fails, `ERR_KMS_UNREACHABLE` where what it asks does not
 * answer, `ERR_ARGUMENT` where it gives something else, `ERR_ABORTED`
 */
export async function withGivenCredentials(endpoint: KmsEndpoint, signal: AbortSignal | undefined): Promise<KmsEndpoint> {
  const { credentials: provider } = endpoint;
  if (typeof provider !== 'function') return endpoint;
  const call = { operation: 'Fetching credentials', endpoint };
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(), KMS_DEADLINE_MS);
  try {
    signal?.throwIfAborted();
    const ended = signal === undefined ? deadline.signal : AbortSignal.any([signal, deadline.signal]);
    const given = await untilAborted((async () => provider())(), ended);
    return { ...endpoint, credentials: checkCredentials(given) };
  } catch (error) {
    if (signal?.aborted) throw abortedError(error, call);
    if (deadline.signal.aborted) throw deadlineError(error, call);
    const known = kmsError(error, call);
    if (known.code !== 'ERR_KMS_REQUEST') throw known;
    const message = `the provider of credentials for KMS failed: ${messageOf(error)}; check what it asks`;
    throw new VolsealError('ERR_KMS_DENIED', message, { cause: error, details: known.details });
  } finally {
    clearTimeout(timer);
  }
}
