/** What an operation of the embedded KMS is given and gives back, and how one is made of a schema and a function. */
import type { z } from 'zod';
import type { KeyHandle } from '../../native.js';
import type { Caller } from './caller.js';
import { parseRequest } from './request-errors.js';
import type { KmsStore } from './store.js';

/** What an operation comes to know that neither request nor reply shows; filled in as it goes, so that a refusal has it too. */
export interface OperationFacts {
  /** ARNs of the keys it is about. */
  readonly keyArns: Set<string>;
  keyMaterialId?: string;
  /** The grant that it is about, or else the one that allowed it. */
  grantId?: string;
}

export interface OperationCall {
  readonly store: KmsStore;
  readonly caller: Caller;
  /** What Encrypt encrypts; stays the caller's. */
  readonly plaintext: KeyHandle | undefined;
  readonly facts: OperationFacts;
}

export interface OperationReply {
  readonly body: object;
  /** Owned by the caller. */
  readonly plaintext?: KeyHandle;
}

export interface Operation {
  /** As CloudTrail says it. */
  readonly readOnly: boolean;
  readonly run: (call: OperationCall, body: Buffer) => OperationReply;
}

type Run<Schema extends z.ZodType> = (call: OperationCall, request: z.infer<Schema>) => OperationReply;

/** An operation that changes nothing but what time changes by itself. */
export function reading<Schema extends z.ZodType>(schema: Schema, run: Run<Schema>): Operation {
  return { readOnly: true, run: (call, body) => run(call, parseRequest(schema, body)) };
}

/** An operation that is one transaction: all of it is on the disk when it returns, or nothing. */
export function changing<Schema extends z.ZodType>(schema: Schema, run: Run<Schema>): Operation {
  return {
    readOnly: false,
    run(call, body) {
      const request = parseRequest(schema, body);
      return call.store.transaction(() => run(call, request));
    },
  };
}
