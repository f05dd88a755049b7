/** Operations on grants. (AWS KMS API Reference; Developer Guide, "Grants in AWS KMS".) */

import { randomBytes } from 'node:crypto';
import type * as z from 'zod';
import { KMS_CONSTRAINT_PAIRS_MAX, KMS_CONSTRAINT_VALUE_CHARS_MAX, KMS_GRANTS_PER_KEY } from '../../../limits.js';
import { looksLikeArn } from '../../shared/arn.js';
import type { EncryptionContext } from '../../shared/encryption-context.js';
import { dryRunSucceeded, KmsFault, keyNotFound, limitExceeded, validation } from '../faults.js';
import { contextOf, type GrantRequest } from '../grants/grant-store.js';
import { grantsOfTokens, grantTokenOf, invalidGrantToken } from '../grants/tokens.js';
import { activeKey, keyByIdOrArn } from '../keys/access.js';
import { ACCOUNT, keyArn, parseKeyName } from '../keys/names.js';
import { authorize, authorizeRetiring } from '../policy/authorization.js';
import { isPrincipal } from '../policy/caller.js';
import type { GrantConstraint, GrantRecord, KeyRecord } from '../store/records.js';
import { changeOperation, type OperationCall, readOperation } from './define.js';
import { paged, pageOf } from './paging.js';
import * as requests from './requests.js';

const createGrant = changeOperation(requests.createGrantRequest, (call, request) => {
  const { store, facts } = call;
  checkPrincipal(request.GranteePrincipal);
  if (request.RetiringPrincipal !== undefined) checkPrincipal(request.RetiringPrincipal);
  const grant = (keyId: string): GrantRequest => ({
    keyId,
    ...(request.Name === undefined ? {} : { name: request.Name }),
    granteePrincipal: request.GranteePrincipal,
    ...(request.RetiringPrincipal === undefined ? {} : { retiringPrincipal: request.RetiringPrincipal }),
    issuingPrincipal: call.caller.principalArn,
    operations: [...new Set<string>(request.Operations)],
    ...constraintOf(request.Constraints),
  });
  // The key's id is not known yet; no check of a parent grant needs it.
  const use = { action: 'CreateGrant', grantTokens: request.GrantTokens, newGrant: grant('') };
  const { keyId } = keyByIdOrArn(call, use, request.KeyId);
  if (request.DryRun === true) throw dryRunSucceeded();
  const requested = grant(keyId);
  const known = store.grantSameAs(requested);
  const grantId = known?.grantId ?? randomBytes(32).toString('hex');
  if (known === undefined) {
    if (store.grantCount(keyId) >= KMS_GRANTS_PER_KEY) throw limitExceeded(`${keyArn(keyId)} already has ${KMS_GRANTS_PER_KEY} grants`);
    store.addGrant({ ...requested, grantId, createdAtSeconds: Date.now() / 1000 });
  }
  facts.grantId = grantId;
  return { body: { GrantId: grantId, GrantToken: grantTokenOf(store, { keyId, grantId }) } };
});

const listGrants = readOperation(requests.listGrantsRequest, (call, request) => {
  const { GrantId, GranteePrincipal } = request;
  const { keyId } = keyByIdOrArn(call, { action: 'ListGrants' }, request.KeyId);
  const page = pageOf(request, 50);
  if (GrantId !== undefined) {
    const grant = knownGrant(call, keyId, GrantId);
    const shown = GranteePrincipal === undefined || grant.granteePrincipal === GranteePrincipal ? [entryOf(grant)] : [];
    return { body: { Grants: shown, Truncated: false } };
  }
  const found = call.store.grants(keyId, page.lookFor, page.after, GranteePrincipal);
  return { body: paged(page, 'Grants', found, ({ grantId }) => grantId, entryOf) };
});

const listRetirableGrants = readOperation(requests.listRetirableGrantsRequest, (call, request) => {
  const { RetiringPrincipal } = request;
  checkPrincipal(RetiringPrincipal);
  // A principal may list its own without permission.
  if (RetiringPrincipal !== call.caller.principalArn) authorize(call, { action: 'ListRetirableGrants', resourceArn: '*' });
  const page = pageOf(request, 50);
  const found = call.store.grantsRetirableBy(RetiringPrincipal, page.lookFor, page.after);
  return { body: paged(page, 'Grants', found, ({ keyId, grantId }) => `${keyId}/${grantId}`, entryOf) };
});

const retireGrant = changeOperation(requests.retireGrantRequest, (call, request) => {
  const { key, grant } = grantToRetire(call, request);
  call.facts.keyArns.add(keyArn(key.keyId));
  call.facts.grantId = grant.grantId;
  authorizeRetiring(call, key, grant);
  if (request.DryRun === true) throw dryRunSucceeded();
  call.store.removeGrant(grant);
  return { body: {} };
});

const revokeGrant = changeOperation(requests.revokeGrantRequest, (call, { KeyId, GrantId, DryRun }) => {
  const { keyId } = keyByIdOrArn(call, { action: 'RevokeGrant' }, KeyId);
  const grant = knownGrant(call, keyId, GrantId);
  call.facts.grantId = grant.grantId;
  if (DryRun === true) throw dryRunSucceeded();
  call.store.removeGrant(grant);
  return { body: {} };
});

/** AWS's `GrantListEntry`. */
function entryOf(grant: GrantRecord): object {
  const { constraint } = grant;
  const context = constraint && contextOf(constraint);
  return {
    KeyId: keyArn(grant.keyId),
    GrantId: grant.grantId,
    ...(grant.name === undefined ? {} : { Name: grant.name }),
    CreationDate: grant.createdAtSeconds,
    GranteePrincipal: grant.granteePrincipal,
    ...(grant.retiringPrincipal === undefined ? {} : { RetiringPrincipal: grant.retiringPrincipal }),
    IssuingAccount: `arn:aws:iam::${ACCOUNT}:root`,
    Operations: grant.operations,
    ...(constraint === undefined
      ? {}
      : { Constraints: constraint.kind === 'subset' ? { EncryptionContextSubset: context } : { EncryptionContextEquals: context } }),
  };
}

function grantToRetire(call: OperationCall, request: z.infer<typeof requests.retireGrantRequest>): { key: KeyRecord; grant: GrantRecord } {
  const { store } = call;
  const { GrantToken, KeyId, GrantId } = request;
  if ((GrantToken === undefined) === (KeyId === undefined || GrantId === undefined)) {
    throw validation('Please specify either a grant token, or a key ARN and a grant ID.');
  }
  const grant = GrantToken === undefined ? knownGrant(call, retirableKeyId(KeyId!), GrantId!) : grantsOfTokens(store, [GrantToken])[0];
  if (grant === undefined) throw invalidGrantToken();
  const key = activeKey(store, grant.keyId);
  if (key === undefined) throw keyNotFound(keyArn(grant.keyId));
  return { key, grant };
}

/** RetireGrant accepts a key ARN and no other form. */
function retirableKeyId(text: string): string {
  const name = parseKeyName(text);
  if (!looksLikeArn(text) || !('keyId' in name)) throw new KmsFault('InvalidArnException', `Invalid arn ${text}`);
  return name.keyId;
}

function knownGrant({ store }: OperationCall, keyId: string, grantId: string): GrantRecord {
  if (activeKey(store, keyId) === undefined) throw keyNotFound(keyArn(keyId));
  const grant = store.grant(keyId, grantId);
  if (grant === undefined) throw new KmsFault('NotFoundException', `Grant ID ${grantId} not found`);
  return grant;
}

function checkPrincipal(text: string): void {
  if (!isPrincipal(text)) throw new KmsFault('InvalidArnException', `Invalid principal ${text}`);
}

type Constraints = z.infer<typeof requests.createGrantRequest>['Constraints'];

function constraintOf(constraints: Constraints): { constraint?: GrantConstraint } {
  const { EncryptionContextSubset: subset, EncryptionContextEquals: equals } = constraints ?? {};
  if (subset !== undefined && equals !== undefined) {
    throw validation('Please specify either EncryptionContextSubset or EncryptionContextEquals, not both.');
  }
  const context = subset ?? equals;
  if (context === undefined) return {};
  checkConstraint(context);
  return { constraint: { kind: subset === undefined ? 'equals' : 'subset', pairs: Object.entries(context) } };
}

function checkConstraint(context: EncryptionContext): void {
  const pairs = Object.entries(context);
  if (pairs.length > KMS_CONSTRAINT_PAIRS_MAX) throw validation(`A grant constraint has at most ${KMS_CONSTRAINT_PAIRS_MAX} pairs.`);
  const long = pairs.find(([, value]) => value.length > KMS_CONSTRAINT_VALUE_CHARS_MAX);
  if (long !== undefined) {
    throw validation(
      `The value of ${JSON.stringify(long[0])} in a grant constraint has at most ${KMS_CONSTRAINT_VALUE_CHARS_MAX} characters.`,
    );
  }
}

export const GRANT_API = {
  CreateGrant: createGrant,
  ListGrants: listGrants,
  ListRetirableGrants: listRetirableGrants,
  RetireGrant: retireGrant,
  RevokeGrant: revokeGrant,
};
