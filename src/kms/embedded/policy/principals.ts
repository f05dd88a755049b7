/**
 * The principals that the embedded KMS knows, their identity policies and their access keys. IAM's part in AWS; here an
 * administrator of the store's directory does it, and no request can.
 */

import { randomBytes } from 'node:crypto';
import { VolsealError } from '../../../errors.js';
import { native } from '../../../native.js';
import { looksLikeArn, parseArn } from '../../shared/arn.js';
import { KmsFault } from '../faults.js';
import { type KmsAccount, rootArn } from '../keys/names.js';
import type { AccessKeyRecord } from '../store/records.js';
import type { KmsStore } from '../store/store.js';
import { accountOf, isPrincipal } from './caller.js';
import { parsePolicy } from './document.js';

/** As AWS's: 40 characters of base64. */
const SECRET_BYTES = 30;
const SECRET_CHARS = 40;
/** As long as AWS's, with a prefix of its own, so that nobody who scans for leaked keys of AWS is alarmed. */
const ACCESS_KEY_ID_PREFIX = 'VSIA';
const ID_ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

/** A new access key. The secret is shown once: the store has it sealed. */
export interface NewAccessKey {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly principalArn: string;
}

/**
 * The ARN of a principal of this account by a short name: `root`, `user/anna`, `role/backup`; an ARN stays what it is.
 * @throws {VolsealError} `ERR_ARGUMENT`
 */
export function principalArnOf({ accountId }: KmsAccount, text: string): string {
  const arn = looksLikeArn(text) ? text : `arn:aws:iam::${accountId}:${text}`;
  if (!isPrincipal(arn) || accountOf(arn) !== accountId || parseArn(arn)?.service !== 'iam') {
    throw new VolsealError('ERR_ARGUMENT', `${JSON.stringify(text)} is no principal: expected root, user/NAME or role/NAME`);
  }
  return arn;
}

/**
 * Makes a user or a role with these identity policies (JSON texts), or gives one that exists these instead.
 * @throws {VolsealError} `ERR_ARGUMENT` root, which needs none; a policy that is malformed
 */
export function putPrincipal(store: KmsStore, principalArn: string, policies: readonly string[]): void {
  if (principalArn === rootArn(store.account))
    throw new VolsealError('ERR_ARGUMENT', 'root is always there, and no policy of its own binds it');
  for (const text of policies) checkIdentityPolicy(text);
  store.transaction(() => {
    const createdAtSeconds = store.principal(principalArn)?.createdAtSeconds ?? Date.now() / 1000;
    store.putPrincipal({ principalArn, policies: [...policies], createdAtSeconds });
  });
}

function checkIdentityPolicy(text: string): void {
  try {
    parsePolicy(text, 'identity');
  } catch (error) {
    if (error instanceof KmsFault) throw new VolsealError('ERR_ARGUMENT', error.message);
    throw error;
  }
}

/**
 * Removes a principal and its access keys. Grants to it stay: whoever makes it again has them again, as in AWS by ARN.
 * @throws {VolsealError} `ERR_ARGUMENT`
 */
export function removePrincipal(store: KmsStore, principalArn: string): void {
  store.transaction(() => {
    if (store.principal(principalArn) === undefined) throw noPrincipal(principalArn);
    for (const key of store.accessKeys()) if (key.principalArn === principalArn) store.removeAccessKey(key.accessKeyId);
    store.removePrincipal(principalArn);
  });
}

/** @throws {VolsealError} `ERR_ARGUMENT` where there is no such principal */
export function createAccessKey(store: KmsStore, principalArn: string): NewAccessKey {
  const accessKeyId = ACCESS_KEY_ID_PREFIX + [...randomBytes(16)].map((byte) => ID_ALPHABET[byte % ID_ALPHABET.length]).join('');
  const secret = native.keyGenerate(SECRET_BYTES);
  try {
    const sealedSecret = native.keySeal(store.rootKey, secret, boundTo(accessKeyId, principalArn)).toString('base64');
    store.transaction(() => {
      if (principalArn !== rootArn(store.account) && store.principal(principalArn) === undefined) throw noPrincipal(principalArn);
      store.putAccessKey({ accessKeyId, principalArn, sealedSecret, createdAtSeconds: Date.now() / 1000 });
    });
    return { accessKeyId, secretAccessKey: textOf(secret), principalArn };
  } finally {
    native.keyWipe(secret);
  }
}

/** @throws {VolsealError} `ERR_ARGUMENT` where there is no such access key */
export function removeAccessKey(store: KmsStore, accessKeyId: string): void {
  store.transaction(() => {
    if (store.accessKey(accessKeyId) === undefined) throw new VolsealError('ERR_ARGUMENT', `there is no access key ${accessKeyId}`);
    store.removeAccessKey(accessKeyId);
  });
}

/** The secret of an access key, for checking a signature. @throws {VolsealError} `ERR_KMS_STORE` */
export function secretOf(store: KmsStore, { accessKeyId, principalArn, sealedSecret }: AccessKeyRecord): string {
  const secret = native.keyOpen(store.rootKey, Buffer.from(sealedSecret, 'base64'), boundTo(accessKeyId, principalArn));
  if (secret === undefined) {
    throw new VolsealError('ERR_KMS_STORE', `the access key ${accessKeyId} does not open under the root key: the store was changed`);
  }
  try {
    return textOf(secret);
  } finally {
    native.keyWipe(secret);
  }
}

/** Signatures are made with the text: it is the one secret of this KMS that JavaScript sees. */
function textOf(secret: ReturnType<typeof native.keyGenerate>): string {
  const text = Buffer.alloc(2 * SECRET_CHARS);
  native.keyRevealBase64(secret, text, 0);
  try {
    return text.toString('latin1', 0, SECRET_CHARS);
  } finally {
    text.fill(0);
  }
}

const boundTo = (accessKeyId: string, principalArn: string): Buffer => Buffer.from(`volseal access key\0${accessKeyId}\0${principalArn}`);

const noPrincipal = (principalArn: string): VolsealError =>
  new VolsealError('ERR_ARGUMENT', `there is no principal ${principalArn}: volseal kms create-principal makes one`);
