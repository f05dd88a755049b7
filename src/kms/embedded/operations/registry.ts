/** The operations of the embedded KMS, by their API names. (AWS KMS API Reference, "Actions".) */
import { KmsFault, unsupported } from '../faults.js';
import { ALIAS_API } from './aliases.js';
import { CRYPTOGRAPHIC_API } from './cryptography.js';
import type { Operation } from './define.js';
import { GRANT_API } from './grants.js';
import { KEY_API } from './keys.js';
import { POLICY_API } from './policies.js';
import { ROTATION_API } from './rotation.js';
import { TAG_API } from './tags.js';

const OPERATIONS: Readonly<Record<string, Operation>> = {
  ...ALIAS_API,
  ...CRYPTOGRAPHIC_API,
  ...GRANT_API,
  ...KEY_API,
  ...POLICY_API,
  ...ROTATION_API,
  ...TAG_API,
};

/**
 * Operations of AWS KMS that the embedded one does not have: asymmetric and HMAC keys, imported material, key stores,
 * other Regions. GenerateDataKeyPair is one of them, because a private key would pass through JavaScript; so is
 * GetKeyLastUsage, because each use of a key would be a write to the store.
 */
const AWS_ONLY: ReadonlySet<string> = new Set([
  'ConnectCustomKeyStore',
  'CreateCustomKeyStore',
  'Decapsulate',
  'DeleteCustomKeyStore',
  'DeleteImportedKeyMaterial',
  'DeriveSharedSecret',
  'DescribeCustomKeyStores',
  'DisconnectCustomKeyStore',
  'Encapsulate',
  'GenerateDataKeyPair',
  'GenerateDataKeyPairWithoutPlaintext',
  'GenerateMac',
  'GetKeyLastUsage',
  'GetParametersForImport',
  'GetPublicKey',
  'ImportKeyMaterial',
  'ReplicateKey',
  'Sign',
  'UpdateCustomKeyStore',
  'UpdatePrimaryRegion',
  'Verify',
  'VerifyMac',
]);

/** The names of all operations of the embedded KMS, sorted. */
export const operationNames = (): string[] => Object.keys(OPERATIONS).sort();

/** CloudTrail's `readOnly` of an operation; true for an unknown one, which changes nothing. */
export const isReadOnly = (name: string): boolean => !Object.hasOwn(OPERATIONS, name) || OPERATIONS[name]!.readOnly;

/**
 * The operation with this name. @throws {KmsFault} UnsupportedOperationException: only AWS has it;
 * UnknownOperationException: nobody has it
 */
export function operationNamed(name: string): Operation {
  const operation = Object.hasOwn(OPERATIONS, name) ? OPERATIONS[name] : undefined;
  if (operation !== undefined) return operation;
  if (AWS_ONLY.has(name)) throw unsupported(`the operation ${name}`);
  throw new KmsFault('UnknownOperationException', `The embedded KMS has no operation ${JSON.stringify(name)}.`);
}
