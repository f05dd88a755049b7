/** The calls to KMS about grants. (AWS KMS API Reference, CreateGrant, ListGrants, ListRetirableGrants, RetireGrant, RevokeGrant.) */
import type { GrantListEntry, GrantOperation } from '@aws-sdk/client-kms';
import { checkContext, type EncryptionContext } from '../shared/encryption-context.js';
import type { CallFacts, CallFrame } from './connection.js';
import { type KmsCall, replyError } from './errors.js';

export interface GrantRequest {
  /** Id or ARN; a grant is on a key, not on an alias. */
  readonly keyId: string;
  /** ARN of a user or a role, or the name of an AWS service. */
  readonly granteePrincipal: string;
  readonly retiringPrincipal?: string | undefined;
  /** `Decrypt`, `GenerateDataKeyWithoutPlaintext`, `CreateGrant` ... */
  readonly operations: readonly string[];
  /** Pairs that the context of every request must have. Not with `contextEquals`. */
  readonly contextSubset?: EncryptionContext | undefined;
  /** What the context of every request must be. */
  readonly contextEquals?: EncryptionContext | undefined;
  /** The same request with the same name gives the same grant: what makes it safe to ask again. */
  readonly name?: string | undefined;
  readonly grantTokens?: readonly string[] | undefined;
  /** Asks whether it would be done, and does nothing: `ERR_KMS_DRY_RUN` says yes. */
  readonly dryRun?: boolean | undefined;
}

export interface NewGrant {
  readonly grantId: string;
  /** Lets the grant be used at once, before KMS has spread it: carry it with the calls that need the grant. A secret of low worth: never log it. */
  readonly grantToken: string;
}

export interface GrantEntry {
  readonly grantId: string;
  readonly keyArn: string;
  readonly name: string | undefined;
  readonly granteePrincipal: string;
  readonly retiringPrincipal: string | undefined;
  readonly operations: readonly string[];
  readonly contextSubset: EncryptionContext | undefined;
  readonly contextEquals: EncryptionContext | undefined;
}

/** Errors as `Kms` (client.ts). */
export interface GrantCalls {
  createGrant(request: GrantRequest): Promise<NewGrant>;
  /** All grants of a key, or those of one grantee, however many pages KMS makes of them. */
  listGrants(request: { keyId: string; granteePrincipal?: string }): Promise<GrantEntry[]>;
  /** All grants that name this retiring principal. */
  listRetirableGrants(request: { retiringPrincipal: string }): Promise<GrantEntry[]>;
  /** Ends a grant, as its retiring principal or its grantee does. @throws {VolsealError} also `ERR_KMS_NOT_FOUND`: it is gone already */
  retireGrant(request: { keyArn: string; grantId: string; dryRun?: boolean }): Promise<void>;
  /** Ends a grant, as an administrator of the key does. @throws {VolsealError} also `ERR_KMS_NOT_FOUND`: it is gone already */
  revokeGrant(request: { keyId: string; grantId: string }): Promise<void>;
}

type Call = <Result>(facts: CallFacts, run: (frame: CallFrame) => Promise<Result>) => Promise<Result>;

/** The calls, made by `call`. */
export function grantCalls(call: Call): GrantCalls {
  return {
    createGrant({ keyId, granteePrincipal, retiringPrincipal, operations, contextSubset, contextEquals, name, grantTokens, dryRun }) {
      const context = contextSubset ?? contextEquals;
      return call(
        { operation: `CreateGrant to ${granteePrincipal}`, keyId, context, grantTokens },
        async ({ sdk, client, sendOptions, named }) => {
          const constraints = {
            ...(contextSubset === undefined ? {} : { EncryptionContextSubset: checkContext(contextSubset) }),
            ...(contextEquals === undefined ? {} : { EncryptionContextEquals: checkContext(contextEquals) }),
          };
          const input = {
            KeyId: keyId,
            GranteePrincipal: granteePrincipal,
            ...(retiringPrincipal === undefined ? {} : { RetiringPrincipal: retiringPrincipal }),
            Operations: operations as GrantOperation[],
            ...(context === undefined ? {} : { Constraints: constraints }),
            ...(name === undefined ? {} : { Name: name }),
            ...optionsOf({ grantTokens, dryRun }),
          };
          const { GrantId: grantId, GrantToken: grantToken } = await client.send(new sdk.CreateGrantCommand(input), sendOptions);
          if (!grantId || !grantToken) throw replyError('the reply does not name the grant', named);
          return { grantId, grantToken };
        },
      );
    },

    listGrants({ keyId, granteePrincipal }) {
      return call({ operation: 'ListGrants', keyId }, async ({ sdk, client, sendOptions, named, pageCame }) => {
        const input = { KeyId: keyId, ...(granteePrincipal === undefined ? {} : { GranteePrincipal: granteePrincipal }) };
        const grants: GrantEntry[] = [];
        for await (const page of sdk.paginateListGrants({ client }, input, sendOptions)) {
          pageCame();
          for (const entry of page.Grants ?? []) grants.push(entryOf(entry, named));
        }
        return grants;
      });
    },

    listRetirableGrants({ retiringPrincipal }) {
      return call({ operation: `ListRetirableGrants of ${retiringPrincipal}` }, async ({ sdk, client, sendOptions, named, pageCame }) => {
        const grants: GrantEntry[] = [];
        for await (const page of sdk.paginateListRetirableGrants({ client }, { RetiringPrincipal: retiringPrincipal }, sendOptions)) {
          pageCame();
          for (const entry of page.Grants ?? []) grants.push(entryOf(entry, named));
        }
        return grants;
      });
    },

    retireGrant({ keyArn, grantId, dryRun }) {
      return call({ operation: 'RetireGrant', keyId: keyArn, grantId }, async ({ sdk, client, sendOptions }) => {
        await client.send(new sdk.RetireGrantCommand({ KeyId: keyArn, GrantId: grantId, ...optionsOf({ dryRun }) }), sendOptions);
      });
    },

    revokeGrant({ keyId, grantId }) {
      return call({ operation: 'RevokeGrant', keyId, grantId }, async ({ sdk, client, sendOptions }) => {
        await client.send(new sdk.RevokeGrantCommand({ KeyId: keyId, GrantId: grantId }), sendOptions);
      });
    },
  };
}

/** Members of a request that are left out where nobody asked for them. */
export function optionsOf({ grantTokens = [], dryRun }: { grantTokens?: readonly string[] | undefined; dryRun?: boolean | undefined }) {
  return { ...(grantTokens.length === 0 ? {} : { GrantTokens: [...grantTokens] }), ...(dryRun === true ? { DryRun: true } : {}) };
}

function entryOf(entry: GrantListEntry, call: KmsCall): GrantEntry {
  const { GrantId: grantId, KeyId: keyArn, GranteePrincipal: granteePrincipal, Constraints: constraints } = entry;
  if (!grantId || !keyArn || !granteePrincipal) throw replyError('the reply holds a grant that does not say what it is', call);
  return {
    grantId,
    keyArn,
    name: entry.Name,
    granteePrincipal,
    retiringPrincipal: entry.RetiringPrincipal,
    operations: entry.Operations ?? [],
    contextSubset: constraints?.EncryptionContextSubset,
    contextEquals: constraints?.EncryptionContextEquals,
  };
}
