/**
 * The type of an operation of the embedded KMS, and the functions that make one from a request schema and a function.
 */
import type * as z from 'zod';
import type { KeyHandle } from '../../../native.js';
import type { Caller } from '../policy/caller.js';
import type { KmsStore } from '../store/store.js';
import { parseRequest } from './parse-request.js';

/**
 * Facts for the audit log that neither request nor reply shows. An operation adds them as it learns them, so that a
 * refusal has them too.
 */
export interface OperationFacts {
  /** ARNs of the keys that the call names. */
  readonly keyArns: Set<string>;
  keyMaterialId?: string;
  /** The grant that the call names or makes. */
  grantId?: string;
  /** The grant that permitted the call, where no policy did. */
  allowingGrantId?: string;
}

export interface OperationCall {
  readonly store: KmsStore;
  readonly caller: Caller;
  /** The plaintext of Encrypt; the caller owns it. */
  readonly plaintext: KeyHandle | undefined;
  readonly facts: OperationFacts;
}

export interface OperationReply {
  readonly body: object;
  /** The caller owns it and wipes it. */
  readonly plaintext?: KeyHandle;
}

export interface Operation {
  /** CloudTrail's `readOnly`. The service runs an operation that is not read-only inside a transaction. */
  readonly readOnly: boolean;
  readonly run: (call: OperationCall, body: Buffer) => OperationReply;
}

type Run<Schema extends z.ZodType> = (call: OperationCall, request: z.infer<Schema>) => OperationReply;

/** A read-only operation. */
export const readOperation = <Schema extends z.ZodType>(schema: Schema, run: Run<Schema>): Operation => operation(true, schema, run);

/** An operation that runs as one transaction: when it returns, all of its changes are on the disk, or none. */
export const changeOperation = <Schema extends z.ZodType>(schema: Schema, run: Run<Schema>): Operation => operation(false, schema, run);

const operation = <Schema extends z.ZodType>(readOnly: boolean, schema: Schema, run: Run<Schema>): Operation => ({
  readOnly,
  run: (call, body) => run(call, parseRequest(schema, body)),
});
