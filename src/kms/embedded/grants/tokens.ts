/**
 * Grant tokens: texts that name a grant and that only this KMS can make. (API Reference, CreateGrant, `GrantToken`.)
 */
import { timingSafeEqual } from 'node:crypto';
import { native } from '../../../native.js';
import { KmsFault } from '../faults.js';
import { keyIdBytes, keyIdText } from '../keys/names.js';
import type { GrantRecord } from '../store/records.js';
import type { KmsStore } from '../store/store.js';

const TOKEN_FORMAT = 1;
const TOKEN_BODY_BYTES = 1 + 16 + 32;
const TOKEN_BYTES = TOKEN_BODY_BYTES + 32;
const TOKEN_LABEL = Buffer.from('volseal kms grant token\0');

/** A token that names a grant: key id, grant id, and a MAC under the root key, so that nobody else can make one. */
export function grantTokenOf(store: KmsStore, { keyId, grantId }: Pick<GrantRecord, 'keyId' | 'grantId'>): string {
  const body = Buffer.concat([Buffer.of(TOKEN_FORMAT), keyIdBytes(keyId), Buffer.from(grantId, 'hex')]);
  return Buffer.concat([body, macOf(store, body)]).toString('base64');
}

/**
 * The grants that `tokens` name, without those retired or revoked since: their tokens permit nothing any more.
 * @throws {KmsFault} InvalidGrantTokenException for a text that this KMS did not issue
 */
export function grantsOfTokens(store: KmsStore, tokens: readonly string[]): GrantRecord[] {
  return tokens.flatMap((token) => {
    const bytes = Buffer.from(token, 'base64');
    const body = bytes.subarray(0, TOKEN_BODY_BYTES);
    const genuine =
      bytes.length === TOKEN_BYTES &&
      bytes.toString('base64') === token &&
      timingSafeEqual(bytes.subarray(TOKEN_BODY_BYTES), macOf(store, body));
    if (!genuine) throw invalidGrantToken();
    const grant = store.grant(keyIdText(body.subarray(1, 17)), body.subarray(17).toString('hex'));
    return grant === undefined ? [] : [grant];
  });
}

/** A token that names no grant of this KMS. */
export const invalidGrantToken = (): KmsFault => new KmsFault('InvalidGrantTokenException', 'The grant token is not one of this KMS.');

const macOf = (store: KmsStore, body: Buffer): Buffer => native.keyHmac(store.rootKey, Buffer.concat([TOKEN_LABEL, body]));
