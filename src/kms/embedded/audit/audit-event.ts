/** The record of a call to the embedded KMS, in CloudTrail's shape. */
import { randomUUID } from 'node:crypto';
import { shortened, shownParameters } from '../../../audit/parameters.js';
import type { AuditEvent } from '../../../audit/record.js';
import type { LogOwner } from '../../../audit/state.js';
import { native } from '../../../native.js';
import { parseStrictJson } from '../../../strict-json.js';
import type { KmsFault } from '../faults.js';
import type { KmsAccount } from '../keys/names.js';
import type { OperationFacts, OperationReply } from '../operations/define.js';
import { isReadOnly } from '../operations/registry.js';
import { accountOf, type Caller, identitiesOf, isService } from '../policy/caller.js';
import type { KmsStore } from '../store/store.js';

/** What is known of a call when it ends. */
export interface RecordedCall {
  /** The API's name, as it was asked for. */
  readonly name: string;
  readonly requestId: string;
  /** Of the KMS. */
  readonly account: KmsAccount;
  readonly caller: Caller;
  /** JSON, or not. */
  readonly body: Buffer;
  readonly facts: OperationFacts;
}

type Outcome = { readonly reply: OperationReply } | { readonly error: Pick<KmsFault, 'name' | 'message'> };

const LABEL = Buffer.from('volseal audit log\0');
/** Operations whose `requestParameters` CloudTrail leaves out. */
const WITHOUT_PARAMETERS: ReadonlySet<string> = new Set(['RetireGrant']);

/** What the store of an embedded KMS keeps for its audit log. */
export const auditOwner = (store: KmsStore): LogOwner => ({
  authenticate: (message) => native.keyHmac(store.rootKey, Buffer.concat([LABEL, message])),
  state: { read: () => store.auditState(), write: (state) => store.putAuditState(state) },
  mayLackState: true,
});

/** The record of `call`, which ended with `outcome`. */
export function auditEvent(call: RecordedCall, outcome: Outcome): AuditEvent {
  const { name, requestId, account, caller, facts } = call;
  const extra = {
    ...(facts.keyMaterialId === undefined ? {} : { keyMaterialId: facts.keyMaterialId }),
    ...(name === 'RetireGrant' && facts.grantId !== undefined ? { grantId: facts.grantId } : {}),
  };
  const allowedBy = facts.allowingGrantId === undefined ? {} : { grantId: facts.allowingGrantId };
  return {
    userIdentity: identityOf(account, caller),
    eventTime: new Date().toISOString().replace(/\.\d+Z$/, 'Z'),
    eventName: shortened(name),
    awsRegion: account.region,
    sourceIPAddress: caller.sourceIp ?? (isService(caller.principalArn) ? caller.principalArn : 'in process'),
    userAgent: shortened(caller.userAgent ?? ''),
    ...('error' in outcome ? { errorCode: outcome.error.name, errorMessage: shortened(outcome.error.message) } : {}),
    requestParameters: WITHOUT_PARAMETERS.has(name) ? null : parametersOf(call.body, 'error' in outcome),
    responseElements: 'error' in outcome ? null : elementsOf(name, outcome.reply, facts),
    ...(Object.keys(extra).length === 0 ? {} : { additionalEventData: extra }),
    requestID: requestId,
    eventID: randomUUID(),
    readOnly: isReadOnly(name),
    resources: [...facts.keyArns].map((ARN) => ({ accountId: account.accountId, type: 'AWS::KMS::Key' as const, ARN })),
    recipientAccountId: account.accountId,
    volseal: { endpoint: 'embedded', ...allowedBy },
  };
}

function identityOf({ accountId }: KmsAccount, { principalArn, accessKeyId, viaService }: Caller): AuditEvent['userIdentity'] {
  if (isService(principalArn)) return { type: 'AWSService', invokedBy: principalArn };
  const type = principalArn.endsWith(':root') ? 'Root' : principalArn.includes(':user/') ? 'IAMUser' : 'AssumedRole';
  return {
    type,
    principalId: type === 'Root' ? accountId : (identitiesOf(principalArn).at(-1) ?? principalArn),
    arn: principalArn,
    accountId: accountOf(principalArn) ?? accountId,
    ...(accessKeyId === undefined ? {} : { accessKeyId }),
    ...(viaService === undefined ? {} : { invokedBy: viaService }),
  };
}

function parametersOf(body: Buffer, isRefused: boolean): Record<string, unknown> | null {
  try {
    const value = parseStrictJson(body.toString('utf8'));
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? shownParameters(value, isRefused) : null;
  } catch {
    // A body that is not JSON was refused.
    return null;
  }
}

/** CloudTrail shows what calls answer that change something. */
function elementsOf(name: string, { body }: OperationReply, { keyArns }: OperationFacts): Record<string, unknown> | null {
  const shown = shownParameters(body);
  if (isReadOnly(name) || Object.keys(shown).length === 0) return null;
  return name === 'CreateGrant' ? { ...shown, keyId: [...keyArns][0] } : shown;
}
