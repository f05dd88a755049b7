/** What an operation of the embedded KMS is given and gives back, and how one is made of a schema and a function. */
import type * as z from 'zod';
import type { KeyHandle } from '../../../native.js';
import type { Caller } from '../policy/caller.js';
import type { KmsStore } from '../store/store.js';
import { parseRequest } from './request-errors.js';

/** What an operation comes to know that neither request nor reply shows; filled in as it goes, so that a refusal has it too. */
export interface OperationFacts {
  /** ARNs of the keys it is about. */
  readonly keyArns: Set<string>;
  keyMaterialId?: string;
  /** The grant that it is about. */
  grantId?: string;
  /** The grant that allowed it, where no policy did. */
  allowingGrantId?: string;
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
  /** As CloudTrail says it. What is not runs in a transaction, which the service opens. */
  readonly readOnly: boolean;
  readonly run: (call: OperationCall, body: Buffer) => OperationReply;
}

type Run<Schema extends z.ZodType> = (call: OperationCall, request: z.infer<Schema>) => OperationReply;

/** An operation that changes nothing but what time changes by itself. */
export const reading = <Schema extends z.ZodType>(schema: Schema, run: Run<Schema>): Operation => operation(true, schema, run);

/** An operation that runs as one transaction: all of it is on the disk when it returns, or nothing. */
export const changing = <Schema extends z.ZodType>(schema: Schema, run: Run<Schema>): Operation => operation(false, schema, run);

const operation = <Schema extends z.ZodType>(readOnly: boolean, schema: Schema, run: Run<Schema>): Operation => ({
  readOnly,
  run: (call, body) => run(call, parseRequest(schema, body)),
});
