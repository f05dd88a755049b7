/**
 * The names of keys and aliases of the embedded KMS: ids, ARNs, alias names. (AWS KMS Developer Guide, "Key identifiers".)
 */
import { looksLikeArn, parseKmsArn } from '../../shared/arn.js';
import { invalidArn, invalidKeyId, keyNotFound } from '../faults.js';

/** The embedded KMS has a region and an account of its own, so that its ARNs cannot be mistaken for those of AWS. */
export const REGION = 'local';
export const ACCOUNT = '000000000000';

const ARN_PREFIX = `arn:aws:kms:${REGION}:${ACCOUNT}:`;
const MULTI_REGION_ID = /^mrk-[0-9a-f]{32}$/;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** The ARN of the key with this id (a UUID). */
export const keyArn = (keyId: string): string => `${ARN_PREFIX}key/${keyId}`;
/** @param aliasName With its prefix, `alias/`. */
export const aliasArn = (aliasName: string): string => `${ARN_PREFIX}${aliasName}`;

/** The aliases that AWS reserves, and those of them that exist here: their key is made at the first use. */
export const RESERVED_ALIAS_PREFIX = 'alias/aws/';
export const MANAGED_ALIASES: Readonly<Record<string, string>> = {
  'alias/aws/ebs': 'Default key that protects my EBS volumes when no other key is defined',
  'alias/aws/workspaces': 'Default key that protects my WorkSpaces volumes when no other key is defined',
};

/** What a request's `KeyId` names. */
export type KeyName = { readonly keyId: string } | { readonly aliasName: string };

/** @throws {KmsFault} NotFoundException, with AWS's texts for an ARN of another region and for what is no key identifier at all */
export function parseKeyName(text: string): KeyName {
  const resource = looksLikeArn(text) ? resourceOf(text) : text;
  if (resource.startsWith('alias/') && resource.length > 'alias/'.length) return { aliasName: resource };
  const keyId = looksLikeArn(text) ? resource.replace(/^key\//, '') : resource;
  // The id of a key of several Regions, which are not here: no such key exists, as AWS says it.
  if (MULTI_REGION_ID.test(keyId)) throw keyNotFound(keyArn(keyId));
  if (!UUID.test(keyId)) throw invalidKeyId(text);
  return { keyId };
}

function resourceOf(arn: string): string {
  const parts = parseKmsArn(arn);
  if (parts?.partition !== 'aws') throw invalidKeyId(arn);
  const { region, accountId, resource } = parts;
  if (region !== REGION) throw invalidArn(region);
  if (accountId !== ACCOUNT) throw invalidArn(accountId);
  if (!resource.startsWith('key/') && !resource.startsWith('alias/')) throw invalidKeyId(arn);
  return resource;
}

/** A key id as its 16 bytes. */
export const keyIdBytes = (keyId: string): Buffer => Buffer.from(keyId.replaceAll('-', ''), 'hex');

/** The inverse of `keyIdBytes`. */
export function keyIdText(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes).toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}
