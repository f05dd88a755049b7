/** The values of the condition keys (./condition-keys.ts) in one request. */
import { parseArn } from '../../shared/arn.js';
import type { EncryptionContext } from '../../shared/encryption-context.js';
import { contextOf, type GrantRequest } from '../grants/grant-store.js';
import type { KmsAccount } from '../keys/names.js';
import type { GrantRecord, KeyRecord } from '../store/records.js';
import type { KmsStore } from '../store/store.js';
import { accountOf, type Caller, identitiesOf, isService, principalTypeOf, userIdOf, userNameOf } from './caller.js';
import type { ConditionValues } from './conditions.js';

/** What authorization decides about. */
export interface AuthorizationRequest {
  /** Without "kms:". */
  readonly action: string;
  /** Undefined for operations on no key. */
  readonly key?: KeyRecord | undefined;
  /** Key ARN, alias ARN or `*`. */
  readonly resourceArn: string;
  /** Of cryptographic operations; `{}` where the request names none. */
  readonly encryptionContext?: EncryptionContext | undefined;
  readonly grantTokens?: readonly string[] | undefined;
  /** Of CreateGrant. */
  readonly newGrant?: GrantRequest | undefined;
  /** Of RetireGrant. */
  readonly retiredGrant?: GrantRecord | undefined;
  /** Condition keys of this operation alone, by their names. */
  readonly conditions?: Readonly<Record<string, readonly string[]>> | undefined;
}

/** Whether an ARN of this KMS names a key, not an alias. */
export const isKeyArn = (resourceArn: string): boolean => resourceArn.includes(':key/');

const ALGORITHM = 'SYMMETRIC_DEFAULT';

/** What is done with a symmetric key. (Developer Guide, "Cryptographic operations".) */
export const CRYPTOGRAPHIC_ACTIONS = [
  'Decrypt',
  'Encrypt',
  'GenerateDataKey',
  'GenerateDataKeyWithoutPlaintext',
  'ReEncryptFrom',
  'ReEncryptTo',
] as const;
/** A key without an algorithm of its own in the request: its operations use the only one it has. */
const HAVE_ALGORITHM: ReadonlySet<string> = new Set(CRYPTOGRAPHIC_ACTIONS);
const GRANT_ACTIONS: ReadonlySet<string> = new Set(['CreateGrant', 'ListGrants', 'RevokeGrant']);

/** Adds values of a condition key; undefined ones are left out, and a key without a value is absent. */
type Supply = (name: string, ...values: readonly (string | undefined)[]) => void;

/** The part of a key that conditions ask about. A key that is about to be made has it before it is in the store. */
export type AskedKey = Pick<KeyRecord, 'keyId' | 'policy' | 'tags'>;

/** What policies may ask about a request, by condition key in lower case. */
export function conditionsOf(
  store: KmsStore,
  caller: Caller,
  request: Omit<AuthorizationRequest, 'key'> & { readonly key?: AskedKey | undefined },
): ConditionValues {
  const { action, key, encryptionContext, newGrant, retiredGrant } = request;
  const conditions = new Map<string, string[]>();
  const supply: Supply = (name, ...values) => {
    const known = values.filter((value) => value !== undefined);
    const folded = name.toLowerCase();
    // Two keys of a context may differ in case alone: to policies they are one key with two values.
    if (known.length > 0) conditions.set(folded, [...(conditions.get(folded) ?? []), ...known]);
  };
  supplyCaller(supply, store.account, caller);
  supplyService(supply, store.account, caller);
  // CreateKey with tags asks for TagResource on a key that is not yet in the store: it is of the same kind.
  if (action === 'CreateKey' || key !== undefined || isKeyArn(request.resourceArn)) supplyKeyKind(supply);
  if (key !== undefined) supplyKey(supply, store, caller, key);
  if (HAVE_ALGORITHM.has(action)) supply('kms:EncryptionAlgorithm', ALGORITHM);
  if (encryptionContext !== undefined) supplyContext(supply, encryptionContext);
  if (GRANT_ACTIONS.has(action)) {
    supply('kms:GrantIsForAWSResource', String(isService(caller.principalArn) || caller.viaService !== undefined));
  }
  if (newGrant !== undefined) supplyNewGrant(supply, newGrant);
  const grant = newGrant ?? retiredGrant;
  if (grant !== undefined) supplyConstraints(supply, grant);
  for (const [name, values] of Object.entries(request.conditions ?? {})) supply(name, ...values);
  return conditions;
}

function supplyCaller(supply: Supply, { region, accountId }: KmsAccount, caller: Caller): void {
  const { principalArn } = caller;
  const account = accountOf(principalArn);
  const now = new Date();
  supply('aws:PrincipalArn', isService(principalArn) ? undefined : identitiesOf(principalArn).at(-1));
  supply('aws:PrincipalAccount', account);
  supply('aws:PrincipalType', principalTypeOf(principalArn));
  supply('aws:userid', userIdOf(principalArn));
  supply('aws:username', userNameOf(principalArn));
  supply('aws:PrincipalIsAWSService', String(isService(principalArn)));
  supply('aws:CurrentTime', now.toISOString());
  supply('aws:EpochTime', String(Math.floor(now.getTime() / 1000)));
  supply('aws:RequestedRegion', region);
  supply('aws:ResourceAccount', accountId);
  supply('aws:SourceIp', caller.sourceIp);
  supply('aws:UserAgent', caller.userAgent);
  supply('aws:SecureTransport', 'false');
  supply('kms:CallerAccount', account);
}

/** The services that ask themselves, and those that ask on a principal's behalf. */
function supplyService(supply: Supply, { region }: KmsAccount, { principalArn, viaService, sourceArn }: Caller): void {
  if (isService(principalArn)) {
    supply('aws:PrincipalServiceName', principalArn);
    supply('aws:PrincipalServiceNamesList', principalArn);
    supply('aws:SourceArn', sourceArn);
    supply('aws:SourceAccount', sourceArn === undefined ? undefined : parseArn(sourceArn)?.accountId || undefined);
  }
  supply('aws:ViaAWSService', String(viaService !== undefined));
  // Callers in process do not know the region: `workspaces.local.amazonaws.com` stands for the service in any.
  const name = viaService?.split('.')[0];
  supply('kms:ViaService', name && `${name}.${region}.amazonaws.com`);
  const service = name && `${name}.amazonaws.com`;
  for (const key of ['aws:CalledVia', 'aws:CalledViaFirst', 'aws:CalledViaLast']) supply(key, service);
}

function supplyKey(supply: Supply, store: KmsStore, caller: Caller, key: AskedKey): void {
  for (const { TagKey, TagValue } of key.tags ?? []) supply(`aws:ResourceTag/${TagKey}`, TagValue);
  // All aliases of the store are read for this one: only where a policy may ask.
  const asks = (text: string | undefined): boolean => text?.toLowerCase().includes('resourcealiases') ?? false;
  if (asks(key.policy) || identitiesOf(caller.principalArn).some((arn) => store.principal(arn)?.policies.some(asks))) {
    supply('kms:ResourceAliases', ...store.aliases().flatMap(({ keyId, aliasName }) => (keyId === key.keyId ? [aliasName] : [])));
  }
}

/** All keys here are of one kind, and CreateKey can ask for no other. */
function supplyKeyKind(supply: Supply): void {
  supply('kms:KeyOrigin', 'AWS_KMS');
  supply('kms:KeySpec', ALGORITHM);
  supply('kms:CustomerMasterKeySpec', ALGORITHM);
  supply('kms:KeyUsage', 'ENCRYPT_DECRYPT');
  supply('kms:CustomerMasterKeyUsage', 'ENCRYPT_DECRYPT');
  supply('kms:MultiRegion', 'false');
}

function supplyContext(supply: Supply, context: EncryptionContext): void {
  supply('kms:EncryptionContextKeys', ...Object.keys(context));
  for (const [name, value] of Object.entries(context)) supply(`kms:EncryptionContext:${name}`, value);
}

/** Each member of CreateGrant has a key of its own: a service that is named as one is no `kms:GranteePrincipal`. */
function supplyNewGrant(
  supply: Supply,
  { operations, granteePrincipal, retiringPrincipal, sourceArn, servicePrincipals }: GrantRequest,
): void {
  const kindOf = (role: 'grantee' | 'retiring'): string => (servicePrincipals?.includes(role) ? 'ServicePrincipal' : 'Principal');
  supply('kms:GrantOperations', ...operations);
  supply(`kms:Grantee${kindOf('grantee')}`, granteePrincipal);
  supply(`kms:Retiring${kindOf('retiring')}`, retiringPrincipal);
  supply('kms:GrantConstraintSourceArn', sourceArn);
}

function supplyConstraints(supply: Supply, { constraint, sourceArn }: GrantRequest | GrantRecord): void {
  const kinds = { subset: 'EncryptionContextSubset', equals: 'EncryptionContextEquals' };
  supply('kms:GrantConstraintType', constraint && kinds[constraint.kind], sourceArn && 'SourceArn');
  if (constraint !== undefined) supplyContext(supply, contextOf(constraint));
}

/** The tags in a request, as `aws:RequestTag/KEY` and `aws:TagKeys`. */
export const tagConditions = (tags: NonNullable<KeyRecord['tags']>): Record<string, readonly string[]> => ({
  'aws:TagKeys': tags.map(({ TagKey }) => TagKey),
  ...Object.fromEntries(tags.map(({ TagKey, TagValue }) => [`aws:RequestTag/${TagKey}`, [TagValue]])),
});
