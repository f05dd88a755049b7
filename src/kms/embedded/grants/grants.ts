/**
 * Grants of the embedded KMS: what one allows, when a child is no wider than its parent, and tokens.
 * (AWS KMS Developer Guide, "Grants in AWS KMS"; API Reference, CreateGrant.)
 */
import { timingSafeEqual } from 'node:crypto';
import { native } from '../../../native.js';
import type { EncryptionContext } from '../../shared/encryption-context.js';
import { KmsFault } from '../faults.js';
import { keyIdBytes, keyIdText } from '../keys/names.js';
import { identitiesOf } from '../policy/caller.js';
import type { GrantConstraint, GrantRecord } from '../store/records.js';
import type { KmsStore } from '../store/store.js';
import { contextOf, type GrantRequest } from './grant-store.js';

/** What a grant on a symmetric key may allow. */
export const GRANT_OPERATIONS = [
  'Decrypt',
  'Encrypt',
  'GenerateDataKey',
  'GenerateDataKeyWithoutPlaintext',
  'ReEncryptFrom',
  'ReEncryptTo',
  'CreateGrant',
  'RetireGrant',
  'DescribeKey',
] as const;

/** What a principal wants to do, as far as a grant has a say in it. */
export interface GrantUse {
  readonly principalArn: string;
  readonly keyId: string;
  /** Without "kms:". */
  readonly operation: string;
  /** Undefined for operations that have none. */
  readonly encryptionContext?: EncryptionContext | undefined;
  /** Of CreateGrant: the grant to be. */
  readonly newGrant?: GrantRequest | undefined;
}

/** The grant that lets the principal do it, those of `tokens` first. */
export function grantAllowing(store: KmsStore, use: GrantUse, tokens: readonly GrantRecord[]): GrantRecord | undefined {
  const named = tokens.find((grant) => allows(grant, use));
  if (named !== undefined) return named;
  // A child is bound by its parent's pairs, so its own pairs lead to the parent as a request's context leads to a grant.
  const context = use.newGrant === undefined ? use.encryptionContext : use.newGrant.constraint && contextOf(use.newGrant.constraint);
  for (const principal of identitiesOf(use.principalArn)) {
    for (const grant of store.grantsFor(use.keyId, principal, use.operation, context ?? {})) if (allows(grant, use)) return grant;
  }
  return undefined;
}

function allows(grant: GrantRecord, { principalArn, keyId, operation, encryptionContext, newGrant }: GrantUse): boolean {
  return (
    grant.keyId === keyId &&
    grant.operations.includes(operation) &&
    identitiesOf(principalArn).includes(grant.granteePrincipal) &&
    (newGrant !== undefined
      ? isNoWider(newGrant, grant)
      : encryptionContext === undefined || grant.constraint === undefined || meets(grant.constraint, encryptionContext))
  );
}

/** Whether a child allows no more than its parent. (Developer Guide, "Granting CreateGrant permission".) */
function isNoWider(child: GrantRequest, parent: GrantRecord): boolean {
  if (!child.operations.every((operation) => parent.operations.includes(operation))) return false;
  if (parent.constraint === undefined) return true;
  if (child.constraint === undefined) return false;
  if (parent.constraint.kind === 'equals' && child.constraint.kind !== 'equals') return false;
  return meets(parent.constraint, contextOf(child.constraint));
}

/** Pairs count by bytes, upper and lower case apart, in any order. */
function meets(constraint: GrantConstraint, context: EncryptionContext): boolean {
  const holds = constraint.pairs.every(([key, value]) => Object.hasOwn(context, key) && context[key] === value);
  return holds && (constraint.kind === 'subset' || Object.keys(context).length === constraint.pairs.length);
}

const TOKEN_FORMAT = 1;
const TOKEN_BODY_BYTES = 1 + 16 + 32;
const TOKEN_BYTES = TOKEN_BODY_BYTES + 32;
const TOKEN_LABEL = Buffer.from('volseal kms grant token\0');

/** A token that names a grant: key and grant id, with a MAC under the root key, so that nobody else can make one. */
export function grantTokenOf(store: KmsStore, { keyId, grantId }: Pick<GrantRecord, 'keyId' | 'grantId'>): string {
  const body = Buffer.concat([Buffer.of(TOKEN_FORMAT), keyIdBytes(keyId), Buffer.from(grantId, 'hex')]);
  return Buffer.concat([body, macOf(store, body)]).toString('base64');
}

/**
 * The grants that `tokens` name. One that has been retired or revoked since is left out: its token allows nothing any more.
 * @throws {KmsFault} InvalidGrantTokenException for a text that this KMS never gave out
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
