/**
 * The embedded KMS: a KMS in this process, with its store in a folder, that speaks the wire protocol of AWS KMS.
 *
 * Master keys and data keys exist in the vault alone; what is written down is sealed.
 */
import { randomUUID } from 'node:crypto';
import { type AuditLog, auditFolder, openAudit } from '../../audit/log.js';
import { VolsealError } from '../../errors.js';
import { type KeyHandle, native } from '../../native.js';
import { KMS_CONTENT_TYPE, KMS_TARGET_PREFIX, type WireReply, type WireRequest } from '../shared/wire.js';
import { auditEvent, auditKey, type RecordedCall } from './audit/audit-event.js';
import { KmsFault } from './faults.js';
import type { SignedRequest } from './http/signature.js';
import type { OperationFacts, OperationReply } from './operations/operation.js';
import { operationNamed } from './operations/table.js';
import { ACCOUNT_ROOT, type Caller } from './policy/caller.js';
import { secretOf } from './policy/principals.js';
import { type KmsStore, openStore } from './store/store.js';

export class EmbeddedKms {
  /** Undefined once closed: LMDB must not be touched after that. */
  #store: KmsStore | undefined;
  readonly #audit: AuditLog;

  private constructor(store: KmsStore, audit: AuditLog) {
    this.#store = store;
    this.#audit = audit;
  }

  /**
   * Opens the KMS whose store lies in `home`, and makes one where there is none; every call is recorded in the audit log there. Several
   * may be open at once, in this process and in others.
   * @throws {VolsealError} `ERR_KMS_STORE`, `ERR_AUDIT`, `ERR_IO`, `ERR_MEMORY_LOCK`
   */
  static open(home: string): EmbeddedKms {
    const store = openStore(home);
    try {
      return new EmbeddedKms(store, openAudit(auditFolder(home, 'embedded'), auditKey(store)));
    } catch (error) {
      void store.close();
      throw error;
    }
  }

  /**
   * The caller who signed a request that came over HTTP.
   * @throws {KmsFault} MissingAuthenticationTokenException, IncompleteSignatureException, InvalidSignatureException,
   * UnrecognizedClientException
   */
  async authenticate(request: SignedRequest): Promise<Caller> {
    // What nobody in process needs: most of a start is loading.
    const { accessKeyIdOf, checkSignature } = await import('./http/signature.js');
    const store = this.#opened();
    store.refresh();
    const key = store.accessKey(accessKeyIdOf(request));
    // A session token would be one of AWS STS, which is not here.
    if (key === undefined || request.headers['x-amz-security-token'] !== undefined) {
      throw new KmsFault('UnrecognizedClientException', 'The security token included in the request is invalid.');
    }
    await checkSignature(request, secretOf(store, key));
    return { principalArn: key.principalArn, accessKeyId: key.accessKeyId };
  }

  /** Whether anybody has an access key, and so could sign a request. */
  hasAccessKeys(): boolean {
    return this.#opened().accessKeys().length > 0;
  }

  /**
   * Answers one request of `caller`, who is believed (the account's root, if it does not say who it is); what it changed is on the disk when this returns. Takes `request.plaintext` and wipes it; a key in the
   * reply is the caller's to wipe. Refusals are replies, with AWS's error in the body.
   * @throws {VolsealError} `ERR_KMS_STORE`, `ERR_AUDIT`, `ERR_MEMORY_LOCK`: faults of this KMS itself; `ERR_ARGUMENT` after `close`
   */
  handle(request: WireRequest, caller: Partial<Caller> = {}): WireReply {
    const requestId = randomUUID();
    const userAgent = request.headers['user-agent'];
    const identity = { principalArn: ACCOUNT_ROOT, ...(userAgent === undefined ? {} : { userAgent }), ...caller };
    const facts: OperationFacts = { keyArns: new Set() };
    const name = request.target.startsWith(KMS_TARGET_PREFIX) ? request.target.slice(KMS_TARGET_PREFIX.length) : '';
    const call: RecordedCall = { name, requestId, caller: identity, body: request.body, facts };
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

  /** Does it and records it, as one: what cannot be recorded is not done, and what it would have given is wiped. */
  #run(call: RecordedCall, plaintext: KeyHandle | undefined): OperationReply {
    const store = this.#opened();
    const operation = operationNamed(call.name);
    store.refresh();
    const perform = (): OperationReply => {
      const reply = operation.run({ store, caller: call.caller, plaintext, facts: call.facts }, call.body);
      try {
        this.#audit.append(auditEvent(call, { reply }));
        return reply;
      } catch (error) {
        if (reply.plaintext !== undefined) native.keyWipe(reply.plaintext);
        throw error;
      }
    };
    return operation.readOnly ? perform() : store.transaction(perform);
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
  // Of its own, not a part of Node's pool: the HTTP front writes the key into this memory and zeroes it again.
  // Longer than 64 bytes (a shorter array lies on V8's heap): white space at the end of JSON says nothing.
  const text = JSON.stringify(body).padEnd(plaintext === undefined ? 0 : KEY_REPLY_CHARS_MIN);
  const bytes = Buffer.alloc(Buffer.byteLength(text), text);
  return { status, headers, body: bytes, plaintext };
}
