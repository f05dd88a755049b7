/**
 * The calls to KMS about data keys. (AWS KMS API Reference, GenerateDataKeyWithoutPlaintext, Decrypt, ReEncrypt,
 * Encrypt.)
 */
import { DATA_KEY_BYTES, DATA_KEY_LENGTHS, KMS_CIPHERTEXT_BYTES_MAX } from '../../limits.js';
import { type KeyHandle, native } from '../../native.js';
import { isKeyArn } from '../shared/arn.js';
import { checkContext, type EncryptionContext } from '../shared/encryption-context.js';
import { type CallFrame, type MakeCall, optionsOf } from './connection.js';
import { type KmsCall, replyError, succeedsDry } from './errors.js';
import { carryKey, placeholderKey } from './key-request.js';
import { KeySlot, type SlotOptions } from './key-slot.js';

/** A data key as KMS wrapped it, and the key that can unwrap it. */
export interface WrappedKey {
  readonly keyArn: string;
  readonly encryptedDataKey: Buffer;
}

export interface UnwrapRequest extends WrappedKey {
  readonly context: EncryptionContext;
  /** Tokens of new grants, which KMS may not know everywhere yet (CreateGrant). */
  readonly grantTokens?: readonly string[];
}

export interface NewKeyRequest {
  /** Id, ARN or alias. */
  readonly keyId: string;
  readonly context: EncryptionContext;
  readonly grantTokens?: readonly string[];
}

export interface WrapRequest extends NewKeyRequest {
  /** As long as a data key, no volume key yet; stays the caller's. */
  readonly key: KeyHandle;
}

export interface RewrapRequest extends WrappedKey {
  readonly context: EncryptionContext;
  /** The new KMS key, by id, ARN or alias. */
  readonly toKeyId: string;
  readonly grantTokens?: readonly string[];
}

/**
 * Errors as `Kms` (calls.ts). The `try` calls ask KMS for a dry run (DryRun): nothing is done, and they return if KMS
 * would do it.
 */
export interface DataKeyCalls {
  /** A new 64-byte data key, wrapped: nobody sees its plaintext (GenerateDataKeyWithoutPlaintext). */
  generateWrappedKey(request: NewKeyRequest): Promise<WrappedKey>;
  tryGenerateWrappedKey(request: NewKeyRequest): Promise<void>;
  /**
   * The data key in the vault; the caller wipes the handle (Decrypt). @throws {VolsealError} also
   * `ERR_CONTEXT_MISMATCH`, `ERR_MEMORY_LOCK`
   */
  unwrapKey(request: UnwrapRequest): Promise<KeyHandle>;
  tryUnwrapKey(request: UnwrapRequest): Promise<void>;
  /**
   * The same data key wrapped by another KMS key under the same context, inside KMS (ReEncrypt). @throws {VolsealError}
   * also `ERR_CONTEXT_MISMATCH`
   */
  rewrapKey(request: RewrapRequest): Promise<WrappedKey>;
  tryRewrapKey(request: RewrapRequest): Promise<void>;
  /** A key that is in the vault already, wrapped (Encrypt). */
  wrapKey(request: WrapRequest): Promise<WrappedKey>;
  tryWrapKey(request: Omit<WrapRequest, 'key'>): Promise<void>;
}

/** The calls, made by `call`. */
export function dataKeyCalls(call: MakeCall): DataKeyCalls {
  const generating = <Result>(request: NewKeyRequest, run: (frame: CallFrame) => Promise<Result>): Promise<Result> =>
    call({ operation: 'GenerateDataKeyWithoutPlaintext', ...request }, run);
  const unwrapping = <Result>(
    { keyArn, context, grantTokens }: UnwrapRequest,
    run: (frame: CallFrame) => Promise<Result>,
  ): Promise<Result> => call({ operation: 'Decrypt', keyId: keyArn, context, grantTokens }, run);
  const rewrapping = <Result>(request: RewrapRequest, run: (frame: CallFrame) => Promise<Result>): Promise<Result> => {
    const { keyArn, toKeyId, context, grantTokens } = request;
    return call({ operation: 'ReEncrypt', keyId: `${keyArn} to ${toKeyId}`, context, grantTokens }, run);
  };
  const wrapping = <Result>(request: NewKeyRequest, run: (frame: CallFrame) => Promise<Result>): Promise<Result> =>
    call({ operation: 'Encrypt', ...request }, run);
  return {
    wrapKey: ({ key, ...request }) =>
      wrapping(request, async ({ sdk, client, sendOptions, named }) => {
        const command = new sdk.EncryptCommand(wrapInput(request, native.keyByteLength(key)));
        carryKey(command, key);
        return wrappedKeyOf(await client.send(command, sendOptions), request.keyId, named);
      }),
    tryWrapKey: (request) =>
      wrapping(request, ({ sdk, client, sendOptions }) =>
        succeedsDry(client.send(new sdk.EncryptCommand({ ...wrapInput(request), DryRun: true }), sendOptions)),
      ),
    generateWrappedKey: (request) =>
      generating(request, async ({ sdk, client, sendOptions, named }) => {
        const command = new sdk.GenerateDataKeyWithoutPlaintextCommand(generateInput(request));
        return wrappedKeyOf(await client.send(command, sendOptions), request.keyId, named);
      }),
    tryGenerateWrappedKey: (request) =>
      generating(request, ({ sdk, client, sendOptions }) =>
        succeedsDry(client.send(new sdk.GenerateDataKeyWithoutPlaintextCommand({ ...generateInput(request), DryRun: true }), sendOptions)),
      ),
    unwrapKey: (request) => unwrapping(request, (frame) => unwrap(frame, request)),
    tryUnwrapKey: (request) =>
      unwrapping(request, ({ sdk, client, sendOptions }) =>
        succeedsDry(client.send(new sdk.DecryptCommand({ ...unwrapInput(request), DryRun: true }), sendOptions)),
      ),
    rewrapKey: (request) =>
      rewrapping(request, async ({ sdk, client, sendOptions, named }) => {
        const reply = await client.send(new sdk.ReEncryptCommand(rewrapInput(request)), sendOptions);
        checkKey(reply.SourceKeyId, request.keyArn, named);
        return wrappedKeyOf(reply, request.toKeyId, named);
      }),
    tryRewrapKey: (request) =>
      rewrapping(request, ({ sdk, client, sendOptions }) =>
        succeedsDry(client.send(new sdk.ReEncryptCommand({ ...rewrapInput(request), DryRun: true }), sendOptions)),
      ),
  };
}

const generateInput = ({ keyId, context, grantTokens }: NewKeyRequest) => ({
  KeyId: keyId,
  NumberOfBytes: DATA_KEY_BYTES,
  EncryptionContext: checkContext(context),
  ...optionsOf({ grantTokens }),
});

const wrapInput = ({ keyId, context, grantTokens }: NewKeyRequest, keyBytes = DATA_KEY_BYTES) => ({
  KeyId: keyId,
  Plaintext: placeholderKey(keyBytes),
  EncryptionContext: checkContext(context),
  ...optionsOf({ grantTokens }),
});

const unwrapInput = ({ keyArn, encryptedDataKey, context, grantTokens }: UnwrapRequest) => ({
  KeyId: keyArn,
  CiphertextBlob: encryptedDataKey,
  EncryptionContext: checkContext(context),
  ...optionsOf({ grantTokens }),
});

function rewrapInput({ keyArn, encryptedDataKey, context, toKeyId, grantTokens }: RewrapRequest) {
  const EncryptionContext = checkContext(context);
  return {
    SourceKeyId: keyArn,
    CiphertextBlob: encryptedDataKey,
    SourceEncryptionContext: EncryptionContext,
    DestinationKeyId: toKeyId,
    DestinationEncryptionContext: EncryptionContext,
    ...optionsOf({ grantTokens }),
  };
}

async function unwrap({ sdk, client, sendOptions, named }: CallFrame, request: UnwrapRequest): Promise<KeyHandle> {
  const keySlot = new KeySlot();
  const options: SlotOptions = { ...sendOptions, keySlot };
  try {
    const reply = await client.send(new sdk.DecryptCommand(unwrapInput(request)), options);
    checkKey(reply.KeyId, request.keyArn, named);
    const key = keySlot.take();
    if (key === undefined) throw replyError('the reply holds no key', named);
    const byteLength = native.keyByteLength(key);
    if (!DATA_KEY_LENGTHS.includes(byteLength)) {
      native.keyWipe(key);
      throw replyError(`the reply holds a key of ${byteLength} bytes; a data key has ${DATA_KEY_LENGTHS.join(' or ')}`, named);
    }
    return key;
  } finally {
    keySlot.wipe();
  }
}

function checkKey(answered: string | undefined, asked: string, call: KmsCall): void {
  if (answered !== asked) throw replyError(`the reply comes from another key, ${JSON.stringify(answered)}`, call);
}

/** The wrapped data key of a reply. @param keyId what was asked for */
function wrappedKeyOf(
  { KeyId: keyArn, CiphertextBlob: blob }: { KeyId?: string | undefined; CiphertextBlob?: Uint8Array | undefined },
  keyId: string,
  call: KmsCall,
): WrappedKey {
  if (keyArn === undefined || !isKeyArn(keyArn)) {
    throw replyError(`the reply names the key ${JSON.stringify(keyArn)}, not the ARN of one`, call);
  }
  if (isKeyArn(keyId)) checkKey(keyArn, keyId, call);
  if (blob === undefined || blob.length === 0 || blob.length > KMS_CIPHERTEXT_BYTES_MAX) {
    throw replyError(
      `the reply holds an encrypted data key of ${blob?.length ?? 0} bytes; 1 to ${KMS_CIPHERTEXT_BYTES_MAX} are possible`,
      call,
    );
  }
  return { keyArn, encryptedDataKey: Buffer.from(blob) };
}
