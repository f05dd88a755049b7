/**
 * The embedded KMS: a KMS in this process, with its store in a folder, that speaks the wire protocol of AWS KMS.
 *
 * Master keys and data keys exist in the vault alone; what is written down is sealed.
 */
import { randomUUID } from 'node:crypto';
import { VolsealError } from '../../errors.js';
import { native } from '../../native.js';
import { KMS_CONTENT_TYPE, KMS_TARGET_PREFIX, type WireReply, type WireRequest } from '../wire.js';
import { ACCOUNT_ROOT, type Caller } from './caller.js';
import { KmsFault } from './faults.js';
import type { OperationReply } from './operation.js';
import { operationNamed } from './operations.js';
import { secretOf } from './principals.js';
import { accessKeyIdOf, checkSignature, type SignedRequest } from './signature.js';
import { type KmsStore, openStore } from './store.js';

export class EmbeddedKms {
  /** Undefined once closed: LMDB must not be touched after that. */
  #store: KmsStore | undefined;

  private constructor(store: KmsStore) {
    this.#store = store;
  }

  /**
   * Opens the KMS whose store lies in `home`, and makes one where there is none. Several may be open at once, in this process
   * and in others.
   * @throws {VolsealError} `ERR_KMS_STORE`, `ERR_IO`, `ERR_MEMORY_LOCK`
   */
  static open(home: string): EmbeddedKms {
    return new EmbeddedKms(openStore(home));
  }

  /**
   * The caller who signed a request that came over HTTP.
   * @throws {KmsFault} MissingAuthenticationTokenException, IncompleteSignatureException, InvalidSignatureException,
   * UnrecognizedClientException
   */
  async authenticate(request: SignedRequest): Promise<Caller> {
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
   * @throws {VolsealError} `ERR_KMS_STORE`, `ERR_MEMORY_LOCK`: faults of this KMS itself; `ERR_ARGUMENT` after `close`
   */
  handle(request: WireRequest, caller: Partial<Caller> = {}): WireReply {
    try {
      return reply(200, this.#run(request, { principalArn: ACCOUNT_ROOT, ...caller }));
    } catch (error) {
      if (!(error instanceof KmsFault)) throw error;
      return reply(error.status, { body: error.toJson() });
    } finally {
      if (request.plaintext !== undefined) native.keyWipe(request.plaintext);
    }
  }

  #run({ target, body, plaintext }: WireRequest, caller: Caller): OperationReply {
    const store = this.#opened();
    const name = target.startsWith(KMS_TARGET_PREFIX) ? target.slice(KMS_TARGET_PREFIX.length) : '';
    const operation = operationNamed(name);
    store.refresh();
    return operation.run({ store, caller, plaintext, facts: { keyArns: new Set() } }, body);
  }

  #opened(): KmsStore {
    if (this.#store === undefined) throw new VolsealError('ERR_ARGUMENT', 'the embedded KMS was closed');
    return this.#store;
  }

  /** Wipes the root key and closes the store; closing again does nothing. */
  async close(): Promise<void> {
    const store = this.#store;
    this.#store = undefined;
    await store?.close();
  }
}

function reply(status: number, { body, plaintext }: OperationReply): WireReply {
  const headers = { 'content-type': KMS_CONTENT_TYPE, 'x-amzn-requestid': randomUUID() };
  // Of its own, not a part of Node's pool: the HTTP front writes the key into this memory and zeroes it again.
  const text = JSON.stringify(body);
  const bytes = Buffer.alloc(Buffer.byteLength(text), text);
  return { status, headers, body: bytes, plaintext };
}
