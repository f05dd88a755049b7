/**
 * What a grant permits, and when a grant made under another is no wider than its parent.
 * (AWS KMS Developer Guide, "Grants in AWS KMS"; API Reference, CreateGrant.)
 */
import type { EncryptionContext } from '../../shared/encryption-context.js';
import { identitiesOf } from '../policy/caller.js';
import { CRYPTOGRAPHIC_ACTIONS } from '../policy/request-conditions.js';
import type { GrantConstraint, GrantRecord } from '../store/records.js';
import type { KmsStore } from '../store/store.js';
import { contextOf, type GrantRequest } from './grant-store.js';

/**
 * The operations that a grant on a symmetric key can permit. (Developer Guide, "Grants in AWS KMS", "Grant
 * operations".)
 */
const SYMMETRIC_OPERATIONS = [
  ...CRYPTOGRAPHIC_ACTIONS,
  'CreateGrant',
  'RetireGrant',
  'DescribeKey',
  'GenerateDataKeyPair',
  'GenerateDataKeyPairWithoutPlaintext',
] as const;

/**
 * All operations that CreateGrant knows, in AWS's order; those that a symmetric key lacks are refused by their names.
 */
export const GRANT_OPERATIONS = [
  ...SYMMETRIC_OPERATIONS.slice(0, 6),
  'Sign',
  'Verify',
  'GetPublicKey',
  ...SYMMETRIC_OPERATIONS.slice(6),
  'GenerateMac',
  'VerifyMac',
  'DeriveSharedSecret',
  'Encapsulate',
  'Decapsulate',
] as const;

/** Whether a grant on a symmetric key can permit `operation`. */
export const isSymmetricOperation = (operation: string): boolean => (SYMMETRIC_OPERATIONS as readonly string[]).includes(operation);

/** The part of a request that decides whether a grant permits it. */
export interface GrantUse {
  readonly principalArn: string;
  readonly keyId: string;
  /** Without "kms:". */
  readonly operation: string;
  /** Undefined for operations that have none. */
  readonly encryptionContext?: EncryptionContext | undefined;
  /** ARN of the AWS resource on whose behalf the request is made. */
  readonly sourceArn?: string | undefined;
  /** Of CreateGrant: the requested grant. */
  readonly newGrant?: GrantRequest | undefined;
}

/** A grant that permits the request; the grants of `tokens` are tried first. */
export function grantAllowing(store: KmsStore, use: GrantUse, tokens: readonly GrantRecord[]): GrantRecord | undefined {
  const named = tokens.find((grant) => allows(grant, use));
  if (named !== undefined) return named;
  // A child grant must contain its parent's pairs, so its pairs find the parent as the pairs of a request's context
  // find a grant.
  const context = use.newGrant === undefined ? use.encryptionContext : use.newGrant.constraint && contextOf(use.newGrant.constraint);
  for (const principal of identitiesOf(use.principalArn)) {
    for (const grant of store.grantsFor(use.keyId, principal, use.operation, context ?? {})) if (allows(grant, use)) return grant;
  }
  return undefined;
}

function allows(grant: GrantRecord, use: GrantUse): boolean {
  const { principalArn, keyId, operation, encryptionContext, sourceArn, newGrant } = use;
  return (
    grant.keyId === keyId &&
    grant.operations.includes(operation) &&
    identitiesOf(principalArn).includes(grant.granteePrincipal) &&
    (grant.sourceArn === undefined || grant.sourceArn === sourceArn) &&
    (newGrant !== undefined
      ? isNoWider(newGrant, grant)
      : encryptionContext === undefined || grant.constraint === undefined || meets(grant.constraint, encryptionContext))
  );
}

/** Whether a child allows no more than its parent. (Developer Guide, "Granting CreateGrant permission".) */
function isNoWider(child: GrantRequest, parent: GrantRecord): boolean {
  if (!child.operations.every((operation) => parent.operations.includes(operation))) return false;
  if (parent.sourceArn !== undefined && child.sourceArn !== parent.sourceArn) return false;
  if (parent.constraint === undefined) return true;
  if (child.constraint === undefined) return false;
  if (parent.constraint.kind === 'equals' && child.constraint.kind !== 'equals') return false;
  return meets(parent.constraint, contextOf(child.constraint));
}

/**
 * Whether a context meets a constraint, in any order. Values compare by bytes, keys without case; the encryption itself
 * distinguishes case. (API Reference, `GrantConstraints`.)
 */
function meets({ kind, pairs }: GrantConstraint, context: EncryptionContext): boolean {
  const given = Object.entries(context);
  const holds = pairs.every((pair) => given.some((one) => samePair(one, pair)));
  return holds && (kind === 'subset' || given.every((one) => pairs.some((pair) => samePair(one, pair))));
}

const samePair = ([key, value]: readonly [string, string], [otherKey, otherValue]: readonly [string, string]): boolean =>
  value === otherValue && key.toLowerCase() === otherKey.toLowerCase();
