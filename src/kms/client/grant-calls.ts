/**
 * The calls to KMS about grants. (AWS KMS API Reference, CreateGrant, ListGrants, ListRetirableGrants, RetireGrant,
 * RevokeGrant.)
 */
import type { GrantListEntry, GrantOperation } from '@aws-sdk/client-kms';
import { checkContext, type EncryptionContext } from '../shared/encryption-context.js';
import { type CallFrame, type MakeCall, optionsOf } from './connection.js';
import { type KmsCall, replyError, succeedsDry } from './errors.js';

export interface GrantRequest {
  /** Id or ARN; a grant is on a key, not on an alias. */
  readonly keyId: string;
  /** ARN of a user or a role, or the name of an AWS service. */
  readonly granteePrincipal: string;
  readonly retiringPrincipal?: string | undefined;
  /** `Decrypt`, `GenerateDataKeyWithoutPlaintext`, `CreateGrant` ... */
  readonly operations: readonly string[];
  /** Pairs that the encryption context of every request must contain. Not with `contextEquals`. */
  readonly contextSubset?: EncryptionContext | undefined;
  /** The exact encryption context of every request. */
  readonly contextEquals?: EncryptionContext | undefined;
  /** The same request with the same name returns the same grant, so it can be repeated safely. */
  readonly name?: string | undefined;
  readonly grantTokens?: readonly string[] | undefined;
}

export interface NewGrant {
  readonly grantId: string;
  /**
   * Makes the grant usable at once, before all of KMS knows it: pass it with the calls that need the grant. Never log
   * it.
   */
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

/**
 * Errors as `Kms` (calls.ts). The `try` calls ask KMS for a dry run (DryRun): nothing is done, and they return if KMS
 * would do it.
 */
export interface GrantCalls {
  createGrant(request: GrantRequest): Promise<NewGrant>;
  tryCreateGrant(request: GrantRequest): Promise<void>;
  /** All grants of a key, or those of one grantee, however many pages KMS makes of them. */
  listGrants(request: { keyId: string; granteePrincipal?: string }): Promise<GrantEntry[]>;
  /** All grants that name this retiring principal. */
  listRetirableGrants(request: { retiringPrincipal: string }): Promise<GrantEntry[]>;
  /**
   * Ends a grant, as its retiring principal or its grantee does. @throws {VolsealError} also `ERR_KMS_NOT_FOUND`: the
   * grant does not exist any more
   */
  retireGrant(request: { keyArn: string; grantId: string }): Promise<void>;
  tryRetireGrant(request: { keyArn: string; grantId: string }): Promise<void>;
  /**
   * Ends a grant, as an administrator of the key does. @throws {VolsealError} also `ERR_KMS_NOT_FOUND`: the grant does
   * not exist any more
   */
  revokeGrant(request: { keyId: string; grantId: string }): Promise<void>;
}

/** The calls, made by `call`. */
export function grantCalls(call: MakeCall): GrantCalls {
  const granting = <Result>(request: GrantRequest, run: (frame: CallFrame) => Promise<Result>): Promise<Result> => {
    const { keyId, granteePrincipal, contextSubset, contextEquals, grantTokens } = request;
    return call({ operation: `CreateGrant to ${granteePrincipal}`, keyId, context: contextSubset ?? contextEquals, grantTokens }, run);
  };
  const retiring = <Result>({ keyArn, grantId }: { keyArn: string; grantId: string }, run: (frame: CallFrame) => Promise<Result>) =>
    call({ operation: 'RetireGrant', keyId: keyArn, grantId }, run);
  return {
    createGrant: (request) =>
      granting(request, async ({ sdk, client, sendOptions, named }) => {
        const command = new sdk.CreateGrantCommand(grantInput(request));
        const { GrantId: grantId, GrantToken: grantToken } = await client.send(command, sendOptions);
        if (!grantId || !grantToken) throw replyError('the reply does not name the grant', named);
        return { grantId, grantToken };
      }),

    tryCreateGrant: (request) =>
      granting(request, ({ sdk, client, sendOptions, named }) =>
        succeedsDry(client.send(new sdk.CreateGrantCommand({ ...grantInput(request), DryRun: true }), sendOptions), named),
      ),

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

    retireGrant: ({ keyArn, grantId }) =>
      retiring({ keyArn, grantId }, async ({ sdk, client, sendOptions }) => {
        await client.send(new sdk.RetireGrantCommand({ KeyId: keyArn, GrantId: grantId }), sendOptions);
      }),

    tryRetireGrant: ({ keyArn, grantId }) =>
      retiring({ keyArn, grantId }, ({ sdk, client, sendOptions, named }) =>
        succeedsDry(client.send(new sdk.RetireGrantCommand({ KeyId: keyArn, GrantId: grantId, DryRun: true }), sendOptions), named),
      ),

    revokeGrant({ keyId, grantId }) {
      return call({ operation: 'RevokeGrant', keyId, grantId }, async ({ sdk, client, sendOptions }) => {
        await client.send(new sdk.RevokeGrantCommand({ KeyId: keyId, GrantId: grantId }), sendOptions);
      });
    },
  };
}

function grantInput(request: GrantRequest) {
  const { keyId, granteePrincipal, retiringPrincipal, operations, contextSubset, contextEquals, name, grantTokens } = request;
  const constraints = {
    ...(contextSubset === undefined ? {} : { EncryptionContextSubset: checkContext(contextSubset) }),
    ...(contextEquals === undefined ? {} : { EncryptionContextEquals: checkContext(contextEquals) }),
  };
  return {
    KeyId: keyId,
    GranteePrincipal: granteePrincipal,
    ...(retiringPrincipal === undefined ? {} : { RetiringPrincipal: retiringPrincipal }),
    Operations: operations as GrantOperation[],
    ...(Object.keys(constraints).length === 0 ? {} : { Constraints: constraints }),
    ...(name === undefined ? {} : { Name: name }),
    ...optionsOf({ grantTokens }),
  };
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
