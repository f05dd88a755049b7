/**
 * The names of keys and aliases of the embedded KMS: ids, ARNs, alias names. (AWS KMS Developer Guide, "Key
 * identifiers".)
 */
import { VolsealError } from '../../../errors.js';
import { formatArn, looksLikeArn, parseKmsArn } from '../../shared/arn.js';
import { invalidArn, invalidKeyId, keyNotFound } from '../faults.js';

/**
 * The region and the account of an embedded KMS. Chosen when its store is made; keys, policies and grants name them.
 */
export interface KmsAccount {
  readonly region: string;
  /** Twelve digits. */
  readonly accountId: string;
}

/**
 * Unless others are chosen: a region and an account that AWS does not have, so that no ARN can be mistaken for one of
 * AWS.
 */
export const DEFAULT_ACCOUNT: KmsAccount = { region: 'local', accountId: '000000000000' };

/** Checks a chosen region and account. @throws {VolsealError} `ERR_ARGUMENT` */
export function checkAccount({ region, accountId }: KmsAccount): void {
  if (!/^[a-z0-9]+(-[a-z0-9]+){0,4}$/.test(region) || region.length > 32) {
    throw new VolsealError('ERR_ARGUMENT', `${JSON.stringify(region)} is not the name of a region, such as us-east-1`);
  }
  if (!/^\d{12}$/.test(accountId)) {
    throw new VolsealError('ERR_ARGUMENT', `${JSON.stringify(accountId)} is not the number of an account: twelve digits`);
  }
}

/** The ARN of an account's root. */
export const rootArn = ({ accountId }: KmsAccount): string => `arn:aws:iam::${accountId}:root`;

const arnOf = ({ region, accountId }: KmsAccount, resource: string): string =>
  formatArn({ partition: 'aws', service: 'kms', region, accountId, resource });

const MULTI_REGION_ID = /^mrk-[0-9a-f]{32}$/;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** The ARN of the key with this id (a UUID). */
export const keyArn = (account: KmsAccount, keyId: string): string => arnOf(account, `key/${keyId}`);
/** @param aliasName With its prefix, `alias/`. */
export const aliasArn = (account: KmsAccount, aliasName: string): string => arnOf(account, aliasName);

/** The aliases that AWS reserves, and those of them that exist here: their key is made at the first use. */
export const RESERVED_ALIAS_PREFIX = 'alias/aws/';
export const MANAGED_ALIASES: Readonly<Record<string, string>> = {
  'alias/aws/ebs': 'Default key that protects my EBS volumes when no other key is defined',
  'alias/aws/workspaces': 'Default key that protects my WorkSpaces volumes when no other key is defined',
};

/** What a request's `KeyId` names. */
export type KeyName = { readonly keyId: string } | { readonly aliasName: string };

/**
 * @throws {KmsFault} NotFoundException, with AWS's texts for an ARN of another region and for what is no key identifier
 * at all
 */
export function parseKeyName(account: KmsAccount, text: string): KeyName {
  const resource = looksLikeArn(text) ? resourceOf(account, text) : text;
  if (resource.startsWith('alias/') && resource.length > 'alias/'.length) return { aliasName: resource };
  const keyId = looksLikeArn(text) ? resource.replace(/^key\//, '') : resource;
  // The id of a key of several Regions, which are not here: no such key exists, as AWS says it.
  if (MULTI_REGION_ID.test(keyId)) throw keyNotFound(keyArn(account, keyId));
  if (!UUID.test(keyId)) throw invalidKeyId(text);
  return { keyId };
}

function resourceOf(account: KmsAccount, arn: string): string {
  const parts = parseKmsArn(arn);
  if (parts?.partition !== 'aws') throw invalidKeyId(arn);
  const { region, accountId, resource } = parts;
  if (region !== account.region) throw invalidArn(region);
  if (accountId !== account.accountId) throw invalidArn(accountId);
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
