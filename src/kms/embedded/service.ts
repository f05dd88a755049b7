/**
 * The embedded KMS: a KMS in this process that keeps its store in a directory and speaks the wire protocol of AWS KMS.
 *
 * Master keys and data keys exist in clear only in the vault; the store holds them sealed.
 */
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { AuditLog, auditDirectory } from '../../audit/log.js';
import type { AuditEvent } from '../../audit/record.js';
import { VolsealError } from '../../errors.js';
import { type KeyHandle, native } from '../../native.js';
import { checkOwnDirectory } from '../../own-files.js';
import { KMS_CONTENT_TYPE, KMS_TARGET_PREFIX, type WireReply, type WireRequest } from '../shared/wire.js';
import { auditEvent, auditOwner, type RecordedCall } from './audit/audit-event.js';
import { KmsFault } from './faults.js';
import type { SignedRequest } from './http/signature.js';
import { rootArn } from './keys/names.js';
import type { OperationFacts, OperationReply } from './operations/define.js';
import { operationNamed } from './operations/registry.js';
import type { Caller } from './policy/caller.js';
import { secretOf } from './policy/principals.js';
import { type KmsStore, openStore, type StoreMode } from './store/store.js';

export class EmbeddedKms {
  /** Undefined once closed: LMDB must not be touched after that. */
  #store: KmsStore | undefined;
  readonly #audit: AuditLog;

  private constructor(store: KmsStore, audit: AuditLog) {
    this.#store = store;
    this.#audit = audit;
  }

  /**
   * Opens the KMS whose store is in `home`, and makes one where there is none. Every call is recorded in the audit log
   * there. The store may be open several times, in this process and in others.
   * @param mode `existing`: makes none
   * @throws {VolsealError} `ERR_KMS_STORE`, `ERR_AUDIT`, `ERR_IO`, `ERR_MEMORY_LOCK`, `ERR_KMS_NOT_FOUND` (`existing`,
   * and there is no store)
   */
  static open(home: string, mode: StoreMode = 'create'): EmbeddedKms {
    checkOwnDirectory(join(home, 'audit'));
    const store = openStore(home, mode);
    return new EmbeddedKms(store, new AuditLog(auditDirectory(home, 'embedded'), auditOwner(store)));
  }

  /**
   * Identifies the caller who signed an HTTP request.
   * @throws {KmsFault} MissingAuthenticationTokenException, IncompleteSignatureException, InvalidSignatureException,
   * UnrecognizedClientException
   */
  async authenticate(request: SignedRequest): Promise<Caller> {
    // Loaded on first use: a caller in process never needs it, and loading is most of the start-up time.
    const { accessKeyIdOf, checkSignature } = await import('./http/signature.js');
    const store = this.#opened();
    store.refresh();
    const key = store.accessKey(accessKeyIdOf(request));
    // There are no temporary credentials here, so a session token cannot be valid.
    if (key === undefined || request.headers['x-amz-security-token'] !== undefined) {
      throw new KmsFault('UnrecognizedClientException', 'The security token included in the request is invalid.');
    }
    await checkSignature(request, secretOf(store, key));
    return { principalArn: key.principalArn, accessKeyId: key.accessKeyId };
  }

  /** Whether an access key exists: without one nobody can sign a request. */
  hasAccessKeys(): boolean {
    return this.#opened().accessKeys().length > 0;
  }

  /**
   * Answers one request. Its changes are on the disk when this returns. Refusals are replies with AWS's error in the
   * body. Wipes `request.plaintext`; the caller wipes the key in the reply.
   * @param caller Believed as given; the account's root where it names no principal.
   * @throws {VolsealError} `ERR_KMS_STORE`, `ERR_AUDIT`, `ERR_MEMORY_LOCK`: faults of this KMS itself; `ERR_ARGUMENT`
   * after `close`
   */
  handle(request: WireRequest, caller: Partial<Caller> = {}): WireReply {
    const requestId = randomUUID();
    const { account } = this.#opened();
    const userAgent = request.headers['user-agent'];
    const identity = { principalArn: rootArn(account), ...(userAgent === undefined ? {} : { userAgent }), ...caller };
    const facts: OperationFacts = { keyArns: new Set() };
    const name = request.target.startsWith(KMS_TARGET_PREFIX) ? request.target.slice(KMS_TARGET_PREFIX.length) : '';
    const call: RecordedCall = { name, requestId, account, caller: identity, body: request.body, facts };
    try {
      return replyOf(200, this.#run(call, request.plaintext), requestId);
    } catch (error) {
      if (!(error instanceof KmsFault)) throw error;
      this.#audit.append(auditEvent(call, { error }));
      return replyOf(error.status, { body: error.toJson() }, requestId);
    } finally {
      if (request.plaintext !== undefined) native.keyWipe(request.plaintext);
    }
  }

  /**
   * Performs and records the call. A change and its record are one transaction: neither is there without the other. The
   * result of a call that cannot be recorded is not given out, and its key is wiped.
   */
  #run(call: RecordedCall, plaintext: KeyHandle | undefined): OperationReply {
    const store = this.#opened();
    const operation = operationNamed(call.name);
    let reply: OperationReply | undefined;
    const perform = (record: (event: AuditEvent) => void): OperationReply => {
      store.refresh();
      reply = operation.run({ store, caller: call.caller, plaintext, facts: call.facts }, call.body);
      record(auditEvent(call, { reply }));
      return reply;
    };
    try {
      if (operation.readOnly) return perform((event) => this.#audit.append(event));
      return this.#audit.change((record) => store.transaction(() => perform(record)));
    } catch (error) {
      if (reply?.plaintext !== undefined) native.keyWipe(reply.plaintext);
      if (!operation.readOnly && error instanceof VolsealError) this.#recordFailure(call, error);
      throw error;
    }
  }

  /** Records that this KMS itself has failed to make a change, where it can: the disk may be full. */
  #recordFailure(call: RecordedCall, { code, details }: VolsealError): void {
    const outcome = details.outcome === 'unknown' ? 'whether it took place is unknown' : 'it did not take place';
    const error = { name: 'KMSInternalException', message: `${code} ${details.errno ?? ''}: ${outcome}` };
    try {
      this.#audit.append(auditEvent(call, { error }));
    } catch {
      // The caller gets the first error.
    }
  }

  #opened(): KmsStore {
    if (this.#store === undefined) throw new VolsealError('ERR_ARGUMENT', 'the embedded KMS was closed');
    return this.#store;
  }

  /** Wipes the root key and closes the store; closing again does nothing. */
  async close(): Promise<void> {
    const store = this.#store;
    this.#store = undefined;
    if (store === undefined) return;
    this.#audit.close();
    await store.close();
  }
}

const KEY_REPLY_CHARS_MIN = 65;

function replyOf(status: number, { body, plaintext }: OperationReply, requestId: string): WireReply {
  const headers = { 'content-type': KMS_CONTENT_TYPE, 'x-amzn-requestid': requestId };
  // Its own allocation, not part of Node's pool: the HTTP server writes the key into it and zeroes it afterwards.
  // Padded to more than 64 bytes, because V8 keeps shorter arrays on its heap; white space after JSON has no meaning.
  const text = JSON.stringify(body).padEnd(plaintext === undefined ? 0 : KEY_REPLY_CHARS_MIN);
  const bytes = Buffer.alloc(Buffer.byteLength(text), text);
  return { status, headers, body: bytes, plaintext };
}
