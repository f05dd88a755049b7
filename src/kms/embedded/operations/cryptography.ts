/** Cryptographic operations. Keys and plaintexts are handles of the vault throughout. (AWS KMS API Reference.) */
import type * as z from 'zod';
import { type KeyHandle, native } from '../../../native.js';
import type { EncryptionContext } from '../../shared/encryption-context.js';
import { redactedBase64 } from '../../shared/wire.js';
import {
  constraintsBroken,
  dryRunSucceeded,
  incorrectKey,
  invalidCiphertext,
  KmsFault,
  unknownCiphertextKey,
  unsupported,
  validation,
} from '../faults.js';
import { activeKey, authorizeKeyUse, idOfName, type KeyUse, keyByName } from '../keys/access.js';
import { openCiphertext, parseCiphertext, sealCiphertext } from '../keys/ciphertext.js';
import { currentMaterial, keyForSealing, withMasterKey } from '../keys/material.js';
import { keyArn } from '../keys/names.js';
import { authorize } from '../policy/authorization.js';
import type { KeyRecord } from '../store/records.js';
import { type OperationCall, type OperationReply, readOperation } from './define.js';
import * as requests from './requests.js';

type DataKeyRequest = z.infer<typeof requests.generateDataKeyWithoutPlaintextRequest>;

/** Makes a data key, wraps it, and passes it to `reply`, which owns it unless it throws. */
function wrapNewDataKey(
  call: OperationCall,
  action: string,
  request: DataKeyRequest,
  reply: (body: object, dataKey: KeyHandle) => OperationReply,
): OperationReply {
  const { KeySpec, NumberOfBytes } = request;
  if ((KeySpec === undefined) === (NumberOfBytes === undefined)) throw validation('Please specify either number of bytes or key spec.');
  const key = keyByName(call, useOf(action, request), request.KeyId);
  if (request.DryRun === true) throw dryRunSucceeded();
  const dataKey = native.keyGenerate(NumberOfBytes ?? (KeySpec === 'AES_128' ? 16 : 32));
  try {
    return reply(sealUnder(call, key, dataKey, request.EncryptionContext), dataKey);
  } catch (error) {
    native.keyWipe(dataKey);
    throw error;
  }
}

const generateDataKeyWithoutPlaintext = readOperation(requests.generateDataKeyWithoutPlaintextRequest, (call, request) =>
  wrapNewDataKey(call, 'GenerateDataKeyWithoutPlaintext', request, (body, dataKey) => {
    native.keyWipe(dataKey);
    return { body };
  }),
);

const generateDataKey = readOperation(requests.generateDataKeyRequest, (call, request) => {
  refuseRecipient(request);
  return wrapNewDataKey(call, 'GenerateDataKey', request, (body, dataKey) => ({
    body: { ...body, Plaintext: redactedBase64(native.keyByteLength(dataKey)) },
    plaintext: dataKey,
  }));
});

const generateRandom = readOperation(requests.generateRandomRequest, (call, { NumberOfBytes, CustomKeyStoreId, Recipient }) => {
  refuseRecipient({ Recipient });
  if (CustomKeyStoreId !== undefined) throw unsupported('custom key stores');
  authorize(call, { action: 'GenerateRandom', resourceArn: '*' });
  if (NumberOfBytes === undefined) throw validation('NumberOfBytes is required.');
  const plaintext = native.keyGenerate(NumberOfBytes);
  return { body: { Plaintext: redactedBase64(NumberOfBytes) }, plaintext };
});

const encrypt = readOperation(requests.encryptRequest, (call, request) => {
  const { plaintext } = call;
  if (plaintext === undefined) throw constraintsBroken([`Value null at 'plaintext' failed to satisfy constraint: Member must not be null`]);
  const key = keyByName(call, useOf('Encrypt', request), request.KeyId);
  checkAlgorithm(request.EncryptionAlgorithm);
  if (request.DryRun === true) throw dryRunSucceeded();
  const { KeyMaterialId: _, ...body } = sealUnder(call, key, plaintext, request.EncryptionContext);
  return { body: { ...body, EncryptionAlgorithm: 'SYMMETRIC_DEFAULT' } };
});

const decrypt = readOperation(requests.decryptRequest, (call, request) => {
  refuseRecipient(request);
  const use = useOf('Decrypt', request);
  if (ignoresCiphertext(request)) {
    keyByName(call, use, requiredKeyId(request.KeyId, 'KeyId'));
    checkAlgorithm(request.EncryptionAlgorithm);
    throw dryRunSucceeded();
  }
  const opened = openBlob(call, use, requiredBlob(request.CiphertextBlob), request.KeyId);
  try {
    checkAlgorithm(request.EncryptionAlgorithm);
    if (request.DryRun === true) throw dryRunSucceeded();
    const Plaintext = redactedBase64(native.keyByteLength(opened.plaintext));
    return {
      body: {
        KeyId: keyArn(call.store.account, opened.key.keyId),
        Plaintext,
        EncryptionAlgorithm: 'SYMMETRIC_DEFAULT',
        KeyMaterialId: opened.materialId,
      },
      plaintext: opened.plaintext,
    };
  } catch (error) {
    native.keyWipe(opened.plaintext);
    throw error;
  }
});

const reEncrypt = readOperation(requests.reEncryptRequest, (call, request) => {
  const { GrantTokens: grantTokens, SourceEncryptionContext, DestinationEncryptionContext } = request;
  const conditions = { 'kms:ReEncryptOnSameKey': [String(isOnSameKey(call, request))] };
  const from = { action: 'ReEncryptFrom', encryptionContext: SourceEncryptionContext, grantTokens, conditions };
  const to = { action: 'ReEncryptTo', encryptionContext: DestinationEncryptionContext, grantTokens, conditions };
  if (ignoresCiphertext(request)) {
    keyByName(call, from, requiredKeyId(request.SourceKeyId, 'SourceKeyId'));
    keyByName(call, to, request.DestinationKeyId);
    checkAlgorithm(request.SourceEncryptionAlgorithm);
    checkAlgorithm(request.DestinationEncryptionAlgorithm);
    throw dryRunSucceeded();
  }
  const opened = openBlob(call, from, requiredBlob(request.CiphertextBlob), request.SourceKeyId);
  try {
    const key = keyByName(call, to, request.DestinationKeyId);
    checkAlgorithm(request.SourceEncryptionAlgorithm);
    checkAlgorithm(request.DestinationEncryptionAlgorithm);
    if (request.DryRun === true) throw dryRunSucceeded();
    const { KeyId, CiphertextBlob, KeyMaterialId } = sealUnder(call, key, opened.plaintext, DestinationEncryptionContext);
    return {
      body: {
        CiphertextBlob,
        KeyId,
        SourceKeyId: keyArn(call.store.account, opened.key.keyId),
        SourceEncryptionAlgorithm: 'SYMMETRIC_DEFAULT',
        DestinationEncryptionAlgorithm: 'SYMMETRIC_DEFAULT',
        SourceKeyMaterialId: opened.materialId,
        DestinationKeyMaterialId: KeyMaterialId,
      },
    };
  } finally {
    native.keyWipe(opened.plaintext);
  }
});

const useOf = (action: string, request: { EncryptionContext: EncryptionContext; GrantTokens?: string[] | undefined }): KeyUse => ({
  action,
  encryptionContext: request.EncryptionContext,
  grantTokens: request.GrantTokens,
});

type ReEncryptRequest = z.infer<typeof requests.reEncryptRequest>;

/** Both permissions may ask about it, so it is known before either key is looked up. */
function isOnSameKey({ store }: OperationCall, request: ReEncryptRequest): boolean {
  const { SourceKeyId, CiphertextBlob, DestinationKeyId } = request;
  const byName = CiphertextBlob === undefined || ignoresCiphertext(request);
  const source = byName ? idOfName(store, SourceKeyId ?? '') : parseCiphertext(CiphertextBlob).keyId;
  return source !== undefined && source === idOfName(store, DestinationKeyId);
}

/** Whether a dry run is to check permissions alone: then a request needs no ciphertext. */
function ignoresCiphertext({ DryRun, DryRunModifiers }: { DryRun?: boolean | undefined; DryRunModifiers?: string[] | undefined }): boolean {
  if (DryRunModifiers === undefined || DryRunModifiers.length === 0) return false;
  if (DryRun !== true) throw validation('DryRunModifiers is only valid when DryRun is true.');
  return true;
}

function requiredKeyId(keyId: string | undefined, member: string): string {
  if (keyId === undefined) throw validation(`${member} is required when DryRunModifiers is IGNORE_CIPHERTEXT.`);
  return keyId;
}

function requiredBlob(blob: Buffer | undefined): Buffer {
  if (blob === undefined) {
    throw constraintsBroken([`Value null at 'ciphertextBlob' failed to satisfy constraint: Member must not be null`]);
  }
  return blob;
}

interface OpenedBlob {
  readonly key: KeyRecord;
  /** The caller's to wipe. */
  readonly plaintext: KeyHandle;
  readonly materialId: string;
}

/** Decrypts a blob with the key that the blob names. @param keyId The `KeyId` of the request, if it has one. */
function openBlob(call: OperationCall, use: KeyUse, blob: Buffer, keyId: string | undefined): OpenedBlob {
  const ciphertext = parseCiphertext(blob);
  const key = activeKey(call.store, ciphertext.keyId);
  if (key === undefined) throw unknownCiphertextKey();
  // Without KeyId the blob alone names the key; with KeyId, that name is looked up, and refused, as in every operation.
  const named = keyId === undefined ? authorizeKeyUse(call, use, key) : keyByName(call, use, keyId);
  if (named.keyId !== key.keyId) throw incorrectKey();
  const material = key.materials.find(({ materialId }) => materialId === ciphertext.materialId);
  if (material === undefined) throw invalidCiphertext();
  const context = use.encryptionContext ?? {};
  const plaintext = withMasterKey(call.store, key, material, (master) => openCiphertext(master, ciphertext, context));
  call.facts.keyMaterialId = material.materialId;
  return { key, plaintext, materialId: material.materialId };
}

function sealUnder(call: OperationCall, authorized: KeyRecord, plaintext: KeyHandle, context: EncryptionContext) {
  const key = keyForSealing(call.store, authorized);
  const { materialId } = currentMaterial(key);
  const blob = withMasterKey(call.store, key, currentMaterial(key), (master) =>
    sealCiphertext(master, { keyId: key.keyId, materialId }, plaintext, context),
  );
  call.facts.keyMaterialId = materialId;
  return { KeyId: keyArn(call.store.account, key.keyId), CiphertextBlob: blob.toString('base64'), KeyMaterialId: materialId };
}

function checkAlgorithm(algorithm: string | undefined): void {
  if ((algorithm ?? 'SYMMETRIC_DEFAULT') === 'SYMMETRIC_DEFAULT') return;
  throw new KmsFault('InvalidKeyUsageException', 'The requested encryption algorithm does not fit the key, which is symmetric.');
}

function refuseRecipient({ Recipient }: { Recipient?: unknown }): void {
  if (Recipient !== undefined) throw unsupported('Nitro enclaves (Recipient)');
}

export const CRYPTOGRAPHIC_API = {
  Decrypt: decrypt,
  Encrypt: encrypt,
  GenerateDataKey: generateDataKey,
  GenerateDataKeyWithoutPlaintext: generateDataKeyWithoutPlaintext,
  GenerateRandom: generateRandom,
  ReEncrypt: reEncrypt,
};
