/** Operations on grants. (AWS KMS API Reference; Developer Guide, "Grants in AWS KMS".) */

import { randomBytes } from 'node:crypto';
import type * as z from 'zod';
import { KMS_CONSTRAINT_PAIRS_MAX, KMS_CONSTRAINT_VALUE_CHARS_MAX, KMS_GRANTS_PER_KEY } from '../../../limits.js';
import { looksLikeArn, parseArn } from '../../shared/arn.js';
import type { EncryptionContext } from '../../shared/encryption-context.js';
import { dryRunSucceeded, KmsFault, keyNotFound, limitExceeded, validation } from '../faults.js';
import { contextOf, type GrantRequest } from '../grants/grant-store.js';
import { isSymmetricOperation } from '../grants/permits.js';
import { grantsOfTokens, grantTokenOf, invalidGrantToken } from '../grants/tokens.js';
import { activeKey, keyByIdOrArn } from '../keys/access.js';
import { keyArn, parseKeyName, rootArn } from '../keys/names.js';
import { authorize, authorizeRetiring } from '../policy/authorization.js';
import { isPrincipal, isService } from '../policy/caller.js';
import type { GrantRecord, KeyRecord } from '../store/records.js';
import type { KmsStore } from '../store/store.js';
import { changeOperation, type OperationCall, readOperation } from './define.js';
import { paged, pageOf } from './paging.js';
import * as requests from './requests.js';

const createGrant = changeOperation(requests.createGrantRequest, (call, request) => {
  const { store, facts } = call;
  const principals = principalsOf(request);
  const operations = operationsOf(request.Operations);
  const constraints = constraintsOf(request.Constraints);
  const grant = (keyId: string): GrantRequest => ({
    keyId,
    ...(request.Name === undefined ? {} : { name: request.Name }),
    ...principals,
    issuingPrincipal: call.caller.principalArn,
    operations,
    ...constraints,
  });
  // The key's id is not known yet; no check of a parent grant needs it.
  const use = { action: 'CreateGrant', grantTokens: request.GrantTokens, newGrant: grant('') };
  const { keyId } = keyByIdOrArn(call, use, request.KeyId);
  if (request.DryRun === true) throw dryRunSucceeded();
  const requested = grant(keyId);
  const known = store.grantSameAs(requested);
  const grantId = known?.grantId ?? randomBytes(32).toString('hex');
  if (known === undefined) {
    if (store.grantCount(keyId) >= KMS_GRANTS_PER_KEY)
      throw limitExceeded(`${keyArn(store.account, keyId)} already has ${KMS_GRANTS_PER_KEY} grants`);
    store.addGrant({ ...requested, grantId, createdAtSeconds: Date.now() / 1000 });
  }
  facts.grantId = grantId;
  return { body: { GrantId: grantId, GrantToken: grantTokenOf(store, { keyId, grantId }) } };
});

const listGrants = readOperation(requests.listGrantsRequest, (call, request) => {
  const { GrantId } = request;
  const grantee = oneOf('GranteePrincipal', request.GranteePrincipal, request.GranteeServicePrincipal);
  const { keyId } = keyByIdOrArn(call, { action: 'ListGrants' }, request.KeyId);
  const page = pageOf(request, 50);
  if (GrantId !== undefined) {
    const grant = knownGrant(call, keyId, GrantId);
    const shown = grantee === undefined || grant.granteePrincipal === grantee ? [entryOf(call, grant)] : [];
    return { body: { Grants: shown, Truncated: false } };
  }
  const found = call.store.grants(keyId, page.lookFor, page.after, grantee);
  return {
    body: paged(
      page,
      'Grants',
      found,
      ({ grantId }) => grantId,
      (grant) => entryOf(call, grant),
    ),
  };
});

const listRetirableGrants = readOperation(requests.listRetirableGrantsRequest, (call, request) => {
  const retiring = oneOf('RetiringPrincipal', request.RetiringPrincipal, request.RetiringServicePrincipal);
  if (retiring === undefined) throw validation('Please specify either RetiringPrincipal or RetiringServicePrincipal.');
  checkPrincipal(retiring);
  // A service has no identity policies, so it could never list its own.
  if (!isService(call.caller.principalArn) || retiring !== call.caller.principalArn) {
    authorize(call, { action: 'ListRetirableGrants', resourceArn: retiring });
  }
  const page = pageOf(request, 50);
  const found = call.store.grantsRetirableBy(retiring, page.lookFor, page.after);
  return {
    body: paged(
      page,
      'Grants',
      found,
      ({ keyId, grantId }) => `${keyId}/${grantId}`,
      (grant) => entryOf(call, grant),
    ),
  };
});

const retireGrant = changeOperation(requests.retireGrantRequest, (call, request) => {
  const { key, grant } = grantToRetire(call, request);
  call.facts.keyArns.add(keyArn(call.store.account, key.keyId));
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
function entryOf({ store }: OperationCall, grant: GrantRecord): object {
  const { constraint, sourceArn, retiringPrincipal, servicePrincipals = [] } = grant;
  const context = constraint && contextOf(constraint);
  const constraints = {
    ...(constraint?.kind === 'subset' ? { EncryptionContextSubset: context } : {}),
    ...(constraint?.kind === 'equals' ? { EncryptionContextEquals: context } : {}),
    ...(sourceArn === undefined ? {} : { SourceArn: sourceArn }),
  };
  return {
    KeyId: keyArn(store.account, grant.keyId),
    GrantId: grant.grantId,
    ...(grant.name === undefined ? {} : { Name: grant.name }),
    CreationDate: grant.createdAtSeconds,
    [servicePrincipals.includes('grantee') ? 'GranteeServicePrincipal' : 'GranteePrincipal']: grant.granteePrincipal,
    ...(retiringPrincipal === undefined
      ? {}
      : { [servicePrincipals.includes('retiring') ? 'RetiringServicePrincipal' : 'RetiringPrincipal']: retiringPrincipal }),
    IssuingAccount: rootArn(store.account),
    Operations: grant.operations,
    ...(Object.keys(constraints).length === 0 ? {} : { Constraints: constraints }),
  };
}

function grantToRetire(call: OperationCall, request: z.infer<typeof requests.retireGrantRequest>): { key: KeyRecord; grant: GrantRecord } {
  const { store } = call;
  const { GrantToken, KeyId, GrantId } = request;
  if ((GrantToken === undefined) === (KeyId === undefined || GrantId === undefined)) {
    throw validation('Please specify either a grant token, or a key ARN and a grant ID.');
  }
  const grant =
    GrantToken === undefined ? knownGrant(call, retirableKeyId(store, KeyId!), GrantId!) : grantsOfTokens(store, [GrantToken])[0];
  if (grant === undefined) throw invalidGrantToken();
  const key = activeKey(store, grant.keyId);
  if (key === undefined) throw keyNotFound(keyArn(store.account, grant.keyId));
  return { key, grant };
}

/** RetireGrant accepts a key ARN and no other form. */
function retirableKeyId(store: KmsStore, text: string): string {
  const name = parseKeyName(store.account, text);
  if (!looksLikeArn(text) || !('keyId' in name)) throw new KmsFault('InvalidArnException', `Invalid arn ${text}`);
  return name.keyId;
}

function knownGrant({ store }: OperationCall, keyId: string, grantId: string): GrantRecord {
  if (activeKey(store, keyId) === undefined) throw keyNotFound(keyArn(store.account, keyId));
  const grant = store.grant(keyId, grantId);
  if (grant === undefined) throw new KmsFault('NotFoundException', `Grant ID ${grantId} not found`);
  return grant;
}

function checkPrincipal(text: string): void {
  if (!isPrincipal(text)) throw new KmsFault('InvalidArnException', `Invalid principal ${text}`);
}

type CreateGrantRequest = z.infer<typeof requests.createGrantRequest>;

function principalsOf(request: CreateGrantRequest): Pick<GrantRequest, 'granteePrincipal' | 'retiringPrincipal' | 'servicePrincipals'> {
  const { GranteeServicePrincipal, RetiringServicePrincipal } = request;
  const granteePrincipal = oneOf('GranteePrincipal', request.GranteePrincipal, GranteeServicePrincipal);
  const retiringPrincipal = oneOf('RetiringPrincipal', request.RetiringPrincipal, RetiringServicePrincipal);
  if (granteePrincipal === undefined) throw validation('Please specify either GranteePrincipal or GranteeServicePrincipal.');
  for (const principal of [granteePrincipal, retiringPrincipal]) if (principal !== undefined) checkPrincipal(principal);
  for (const service of [GranteeServicePrincipal, RetiringServicePrincipal]) {
    if (service !== undefined && !isService(service)) throw validation(`${service} is not a service principal.`);
  }
  if (GranteeServicePrincipal !== undefined && (request.Constraints?.SourceArn === undefined || retiringPrincipal === undefined)) {
    throw validation('A grant to a GranteeServicePrincipal must have a SourceArn constraint and a retiring principal.');
  }
  const servicePrincipals = [
    ...(GranteeServicePrincipal === undefined ? [] : ['grantee' as const]),
    ...(RetiringServicePrincipal === undefined ? [] : ['retiring' as const]),
  ];
  return {
    granteePrincipal,
    ...(retiringPrincipal === undefined ? {} : { retiringPrincipal }),
    ...(servicePrincipals.length === 0 ? {} : { servicePrincipals }),
  };
}

/** @param name of the member for principals; the member for services has `Service` in its name. */
function oneOf(name: string, principal: string | undefined, service: string | undefined): string | undefined {
  if (principal !== undefined && service !== undefined) {
    throw validation(`Please specify either ${name} or ${name.replace('Principal', 'ServicePrincipal')}, not both.`);
  }
  return principal ?? service;
}

function operationsOf(requested: CreateGrantRequest['Operations']): string[] {
  const operations = [...new Set<string>(requested)];
  const other = operations.find((operation) => !isSymmetricOperation(operation));
  if (other !== undefined) throw validation(`The grant operation ${other} is not supported on a symmetric encryption KMS key.`);
  if (operations.length === 1 && operations[0] === 'CreateGrant') {
    throw validation('A grant cannot permit CreateGrant alone: it must permit at least one other operation.');
  }
  return operations;
}

function constraintsOf(constraints: CreateGrantRequest['Constraints']): Pick<GrantRequest, 'constraint' | 'sourceArn'> {
  const { EncryptionContextSubset: subset, EncryptionContextEquals: equals, SourceArn: sourceArn } = constraints ?? {};
  if (sourceArn !== undefined && parseArn(sourceArn) === undefined) {
    throw new KmsFault('InvalidArnException', `Invalid arn ${sourceArn}`);
  }
  return { ...contextConstraintOf(subset, equals), ...(sourceArn === undefined ? {} : { sourceArn }) };
}

/** Clients that always send both members leave one of them empty. */
function contextConstraintOf(
  subset: EncryptionContext | undefined,
  equals: EncryptionContext | undefined,
): Pick<GrantRequest, 'constraint'> {
  const isEmpty = (context: EncryptionContext): boolean => Object.keys(context).length === 0;
  if (subset !== undefined && equals !== undefined) {
    if (isEmpty(equals)) return contextConstraintOf(subset, undefined);
    if (isEmpty(subset)) return contextConstraintOf(undefined, equals);
    throw validation('Please specify either EncryptionContextSubset or EncryptionContextEquals, not both.');
  }
  const context = subset ?? equals;
  if (context === undefined || (subset !== undefined && isEmpty(subset))) return {};
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
