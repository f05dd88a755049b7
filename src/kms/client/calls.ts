/**
 * The calls to KMS that volseal makes. The AWS SDK's client always makes them; for AWS, for another server and for the
 * embedded KMS only the request handler under it differs.
 */
import type { KmsEndpoint } from '../shared/endpoint.js';
import { type Connection, type MakeCall, openConnection } from './connection.js';
import { type DataKeyCalls, dataKeyCalls } from './data-key-calls.js';
import { type GrantCalls, grantCalls } from './grant-calls.js';
import { type KeyCalls, keyCalls } from './key-calls.js';

/**
 * KMS at one endpoint. Every method throws {VolsealError}: `ERR_KMS_UNREACHABLE`, `ERR_KMS_DENIED`,
 * `ERR_KMS_NOT_FOUND`, `ERR_KMS_KEY_STATE`, `ERR_KMS_REQUEST`, `ERR_KMS_REPLY`, `ERR_KMS_STORE` (embedded only),
 * `ERR_ARGUMENT` (no region), `ERR_ABORTED`.
 */
export interface Kms extends DataKeyCalls, KeyCalls, GrantCalls {
  /** Ends connections and closes an embedded KMS. Calls under way fail. */
  close(): void;
}

/**
 * A client of the KMS at `endpoint`; its first call connects.
 *
 * @param signal ends calls under way, and all that come after it, with `ERR_ABORTED`; a key that arrives after that is
 * wiped
 */
export function openKms(endpoint: KmsEndpoint, signal?: AbortSignal): Kms {
  return kmsOver(openConnection(endpoint), signal);
}

/**
 * The calls over a connection that others may share. `close` closes it for all of them. @param signal as in `openKms`
 */
export function kmsOver(connection: Connection, signal?: AbortSignal): Kms {
  const call: MakeCall = (facts, run) => connection.call(facts, signal, run);
  return { ...dataKeyCalls(call), ...keyCalls(call), ...grantCalls(call), close: () => connection.close() };
}
