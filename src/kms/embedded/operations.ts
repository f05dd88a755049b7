/**
 * The operations of the embedded KMS, by their API names. (AWS KMS API Reference.)
 *
 * An operation reads its request, names the key it is about through src/kms/embedded/keys.ts, which admits it, and answers with a
 * JSON body and, where the API answers with a key, its vault handle beside.
 */
import type { z } from 'zod';
import { KMS_ALIASES_PER_KEY } from '../../limits.js';
import { type KeyHandle, native } from '../../native.js';
import { redactedBase64 } from '../wire.js';
import { openCiphertext, parseCiphertext, sealCiphertext } from './ciphertext.js';
import {
  aliasNotFound,
  constraintsBroken,
  dryRunSucceeded,
  incorrectKey,
  invalidCiphertext,
  KmsFault,
  notAuthorized,
  unknownCiphertextKey,
  unsupported,
  validation,
} from './faults.js';
import { admit, createKey, currentMaterial, type KeyOperation, keyNamed, keyWithId, withMasterKey } from './keys.js';
import { ACCOUNT, aliasArn, keyArn, RESERVED_ALIAS_PREFIX } from './names.js';
import * as requests from './requests.js';
import type { KeyRecord, KmsStore } from './store.js';

export interface OperationReply {
  readonly body: object;
  /** Owned by the caller. */
  readonly plaintext?: KeyHandle;
}

/** @param plaintext What Encrypt encrypts; stays the caller's. */
export type Operation = (store: KmsStore, body: Buffer, plaintext: KeyHandle | undefined) => OperationReply;

function operation<Schema extends z.ZodType>(
  schema: Schema,
  run: (store: KmsStore, request: z.infer<Schema>, plaintext: KeyHandle | undefined) => OperationReply,
): Operation {
  return (store, body, plaintext) => run(store, requests.parseRequest(schema, body), plaintext);
}

/** AWS's `KeyMetadata`. */
function metadataOf(key: KeyRecord): object {
  return {
    AWSAccountId: ACCOUNT,
    KeyId: key.keyId,
    Arn: keyArn(key.keyId),
    CreationDate: key.createdAtSeconds,
    Enabled: key.state === 'Enabled',
    Description: key.description,
    KeyUsage: 'ENCRYPT_DECRYPT',
    KeyState: key.state,
    Origin: 'AWS_KMS',
    KeyManager: key.manager,
    CustomerMasterKeySpec: 'SYMMETRIC_DEFAULT',
    KeySpec: 'SYMMETRIC_DEFAULT',
    EncryptionAlgorithms: ['SYMMETRIC_DEFAULT'],
    MultiRegion: false,
    CurrentKeyMaterialId: currentMaterial(key).materialId,
  };
}

const createKeyOperation = operation(requests.createKeyRequest, (store, request) => {
  const { KeySpec, CustomerMasterKeySpec, KeyUsage, Origin, MultiRegion } = request;
  for (const spec of [KeySpec, CustomerMasterKeySpec])
    if ((spec ?? 'SYMMETRIC_DEFAULT') !== 'SYMMETRIC_DEFAULT') throw unsupported(`the key spec ${spec}`);
  if ((KeyUsage ?? 'ENCRYPT_DECRYPT') !== 'ENCRYPT_DECRYPT') throw unsupported(`the key usage ${KeyUsage}`);
  if ((Origin ?? 'AWS_KMS') !== 'AWS_KMS') throw unsupported(`the origin ${Origin}`);
  if (MultiRegion === true) throw unsupported('multi-Region keys');
  if (request.Policy !== undefined) throw unsupported('key policies');
  if (request.Tags !== undefined && request.Tags.length > 0) throw unsupported('tags');
  if (request.CustomKeyStoreId !== undefined || request.XksKeyId !== undefined) throw unsupported('custom key stores');
  return { body: { KeyMetadata: metadataOf(createKey(store, 'CUSTOMER', request.Description ?? '')) } };
});

const describeKey = operation(requests.describeKeyRequest, (store, request) => {
  refuseGrantTokens(request);
  return { body: { KeyMetadata: metadataOf(keyNamed(store, 'DescribeKey', request.KeyId)) } };
});

const setKeyState = (name: 'EnableKey' | 'DisableKey', state: KeyRecord['state']): Operation =>
  operation(requests.keyStateRequest, (store, request) => {
    store.transaction(() => store.putKey({ ...keyWithId(store, name, request.KeyId), state }));
    return { body: {} };
  });

const listKeys = operation(requests.listKeysRequest, (store, { Limit = 100, Marker }) => {
  // One more than asked for tells whether there is a next page.
  const found = store.keys(Limit + 1, Marker === undefined ? undefined : nameFromMarker(Marker));
  const shown = found.slice(0, Limit);
  const Keys = shown.map(({ keyId }) => ({ KeyId: keyId, KeyArn: keyArn(keyId) }));
  return { body: { Keys, ...pageEnd(found.length > Limit ? shown.at(-1)?.keyId : undefined) } };
});

const listAliases = operation(requests.listAliasesRequest, (store, { KeyId, Limit = 50, Marker }) => {
  const keyId = KeyId === undefined ? undefined : keyWithId(store, 'ListAliases', KeyId).keyId;
  const after = Marker === undefined ? '' : nameFromMarker(Marker);
  const found = store.aliases().filter((alias) => alias.aliasName > after && (keyId === undefined || alias.keyId === keyId));
  const shown = found.slice(0, Limit);
  const Aliases = shown.map((alias) => ({
    AliasName: alias.aliasName,
    AliasArn: aliasArn(alias.aliasName),
    TargetKeyId: alias.keyId,
    CreationDate: alias.createdAtSeconds,
    LastUpdatedDate: alias.updatedAtSeconds,
  }));
  return { body: { Aliases, ...pageEnd(found.length > Limit ? shown.at(-1)?.aliasName : undefined) } };
});

const pageEnd = (lastName: string | undefined): object =>
  lastName === undefined ? { Truncated: false } : { Truncated: true, NextMarker: Buffer.from(lastName).toString('base64url') };

function nameFromMarker(marker: string): string {
  const bytes = Buffer.from(marker, 'base64url');
  if (bytes.length === 0 || bytes.toString('base64url') !== marker)
    throw new KmsFault('InvalidMarkerException', 'Could not deserialize marker');
  return bytes.toString('utf8');
}

const createAlias = operation(requests.aliasTargetRequest, (store, { AliasName, TargetKeyId }) => {
  checkAliasName(AliasName);
  store.transaction(() => {
    const { keyId } = keyWithId(store, 'CreateAlias', TargetKeyId);
    if (store.alias(AliasName) !== undefined) {
      throw new KmsFault('AlreadyExistsException', `An alias with the name ${aliasArn(AliasName)} already exists`);
    }
    refuseTooManyAliases(store, keyId);
    const now = Date.now() / 1000;
    store.putAlias({ aliasName: AliasName, keyId, createdAtSeconds: now, updatedAtSeconds: now });
  });
  return { body: {} };
});

const updateAlias = operation(requests.aliasTargetRequest, (store, { AliasName, TargetKeyId }) => {
  checkAliasName(AliasName);
  store.transaction(() => {
    const { keyId } = keyWithId(store, 'UpdateAlias', TargetKeyId);
    const alias = store.alias(AliasName);
    if (alias === undefined) throw aliasNotFound(aliasArn(AliasName));
    if (alias.keyId !== keyId) refuseTooManyAliases(store, keyId);
    store.putAlias({ ...alias, keyId, updatedAtSeconds: Date.now() / 1000 });
  });
  return { body: {} };
});

const deleteAlias = operation(requests.deleteAliasRequest, (store, { AliasName }) => {
  checkAliasName(AliasName, 'DeleteAlias');
  store.transaction(() => {
    if (store.alias(AliasName) === undefined) throw aliasNotFound(aliasArn(AliasName));
    store.removeAlias(AliasName);
  });
  return { body: {} };
});

function checkAliasName(aliasName: string, name: 'CreateAlias' | 'DeleteAlias' = 'CreateAlias'): void {
  if (!aliasName.startsWith('alias/') || aliasName === 'alias/') {
    throw validation(
      'Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/APIReference/API_CreateAlias.html',
    );
  }
  if (!aliasName.startsWith(RESERVED_ALIAS_PREFIX)) return;
  if (name === 'DeleteAlias') throw notAuthorized(name, aliasArn(aliasName));
  throw new KmsFault('NotAuthorizedException', `Aliases that begin with ${RESERVED_ALIAS_PREFIX} are reserved`);
}

function refuseTooManyAliases(store: KmsStore, keyId: string): void {
  if (store.aliases().filter((alias) => alias.keyId === keyId).length >= KMS_ALIASES_PER_KEY) {
    throw new KmsFault('LimitExceededException', `${keyArn(keyId)} already has ${KMS_ALIASES_PER_KEY} aliases`);
  }
}

type DataKeyRequest = z.infer<typeof requests.generateDataKeyWithoutPlaintextRequest>;

/** Makes a data key, wraps it, and hands it to `reply`, which says who owns it from then on. */
function wrapNewDataKey(
  store: KmsStore,
  name: KeyOperation,
  request: DataKeyRequest,
  reply: (body: object, dataKey: KeyHandle) => OperationReply,
): OperationReply {
  const { KeySpec, NumberOfBytes } = request;
  if ((KeySpec === undefined) === (NumberOfBytes === undefined)) throw validation('Please specify either number of bytes or key spec.');
  const key = keyNamed(store, name, request.KeyId);
  checkOptions(request);
  const dataKey = native.keyGenerate(NumberOfBytes ?? (KeySpec === 'AES_128' ? 16 : 32));
  try {
    return reply(sealUnder(store, key, dataKey, request), dataKey);
  } catch (error) {
    native.keyWipe(dataKey);
    throw error;
  }
}

const generateDataKeyWithoutPlaintext = operation(requests.generateDataKeyWithoutPlaintextRequest, (store, request) =>
  wrapNewDataKey(store, 'GenerateDataKeyWithoutPlaintext', request, (body, dataKey) => {
    native.keyWipe(dataKey);
    return { body };
  }),
);

const generateDataKey = operation(requests.generateDataKeyRequest, (store, request) => {
  refuseRecipient(request);
  return wrapNewDataKey(store, 'GenerateDataKey', request, (body, dataKey) => ({
    body: { ...body, Plaintext: redactedBase64(native.keyByteLength(dataKey)) },
    plaintext: dataKey,
  }));
});

const encrypt = operation(requests.encryptRequest, (store, request, plaintext) => {
  if (plaintext === undefined) throw constraintsBroken([`Value null at 'plaintext' failed to satisfy constraint: Member must not be null`]);
  const key = keyNamed(store, 'Encrypt', request.KeyId);
  checkOptions(request);
  const { KeyMaterialId: _, ...body } = sealUnder(store, key, plaintext, request);
  return { body: { ...body, EncryptionAlgorithm: 'SYMMETRIC_DEFAULT' } };
});

const decrypt = operation(requests.decryptRequest, (store, request) => {
  refuseRecipient(request);
  const ciphertext = parseCiphertext(request.CiphertextBlob);
  const key = store.key(ciphertext.keyId);
  if (key === undefined) throw unknownCiphertextKey();
  admit('Decrypt', key);
  if (request.KeyId !== undefined && keyNamed(store, 'Decrypt', request.KeyId).keyId !== key.keyId) throw incorrectKey();
  const material = key.materials.find(({ materialId }) => materialId === ciphertext.materialId);
  if (material === undefined) throw invalidCiphertext();
  const plaintext = withMasterKey(store, key, material, (master) => openCiphertext(master, ciphertext, request.EncryptionContext));
  try {
    checkOptions(request);
    const Plaintext = redactedBase64(native.keyByteLength(plaintext));
    return {
      body: { KeyId: keyArn(key.keyId), Plaintext, EncryptionAlgorithm: 'SYMMETRIC_DEFAULT', KeyMaterialId: material.materialId },
      plaintext,
    };
  } catch (error) {
    native.keyWipe(plaintext);
    throw error;
  }
});

function sealUnder(store: KmsStore, key: KeyRecord, plaintext: KeyHandle, request: Pick<DataKeyRequest, 'EncryptionContext'>) {
  const { materialId } = currentMaterial(key);
  const blob = withMasterKey(store, key, currentMaterial(key), (master) =>
    sealCiphertext(master, { keyId: key.keyId, materialId }, plaintext, request.EncryptionContext),
  );
  return { KeyId: keyArn(key.keyId), CiphertextBlob: blob.toString('base64'), KeyMaterialId: materialId };
}

/** The options that end a cryptographic operation which would succeed otherwise. */
function checkOptions(request: {
  GrantTokens?: string[] | undefined;
  DryRun?: boolean | undefined;
  EncryptionAlgorithm?: string | undefined;
}): void {
  if ((request.EncryptionAlgorithm ?? 'SYMMETRIC_DEFAULT') !== 'SYMMETRIC_DEFAULT') {
    throw new KmsFault('InvalidKeyUsageException', 'The requested encryption algorithm does not fit the key, which is symmetric.');
  }
  refuseGrantTokens(request);
  if (request.DryRun === true) throw dryRunSucceeded();
}

/** This KMS has given out no grant, so no token is one of its own. */
function refuseGrantTokens({ GrantTokens = [] }: { GrantTokens?: string[] | undefined }): void {
  if (GrantTokens.length > 0) throw new KmsFault('InvalidGrantTokenException', 'The grant token is not one of this KMS.');
}

function refuseRecipient({ Recipient }: { Recipient?: unknown }): void {
  if (Recipient !== undefined) throw unsupported('Nitro enclaves (Recipient)');
}

export const OPERATIONS: Readonly<Record<string, Operation>> = {
  CreateAlias: createAlias,
  CreateKey: createKeyOperation,
  Decrypt: decrypt,
  DeleteAlias: deleteAlias,
  DescribeKey: describeKey,
  DisableKey: setKeyState('DisableKey', 'Disabled'),
  EnableKey: setKeyState('EnableKey', 'Enabled'),
  Encrypt: encrypt,
  GenerateDataKey: generateDataKey,
  GenerateDataKeyWithoutPlaintext: generateDataKeyWithoutPlaintext,
  ListAliases: listAliases,
  ListKeys: listKeys,
  UpdateAlias: updateAlias,
};
