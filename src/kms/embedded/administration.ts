/** Administration of the embedded KMS: principals and access keys, which no request of the KMS API can make. */
import { join } from 'node:path';
import type { LogOwner } from '../../audit/state.js';
import { auditOwner } from './audit/audit-event.js';
import { checkAccount, DEFAULT_ACCOUNT, type KmsAccount } from './keys/names.js';
import { createAccessKey, type NewAccessKey, principalArnOf, putPrincipal, removeAccessKey, removePrincipal } from './policy/principals.js';
import { backUp, type KmsBackup } from './store/backup.js';
import { chooseRootKey, type RootKeyChoice } from './store/root-key-source.js';
import { openStore, type StoreMode } from './store/store.js';

/** A principal, as it is listed. */
export interface PrincipalEntry {
  readonly principalArn: string;
  /** JSON texts. */
  readonly policies: readonly string[];
  readonly accessKeyIds: readonly string[];
}

export interface KmsAdministration {
  /**
   * @param name `user/NAME`, `role/NAME` or an ARN. @param policies JSON texts of identity policies; they replace its
   * policies. @returns its ARN
   */
  putPrincipal(name: string, policies: readonly string[]): string;
  removePrincipal(name: string): void;
  /** All principals; the account's root too if it has access keys. */
  principals(): PrincipalEntry[];
  createAccessKey(name: string): NewAccessKey;
  removeAccessKey(accessKeyId: string): void;
  /** Copies the store to a new directory. @throws {VolsealError} as `backUp` (backup.ts) */
  backUp(target: string, withRootKey: boolean): Promise<KmsBackup>;
  /** The key and the state of the audit log. */
  readonly auditOwner: LogOwner;
  close(): Promise<void>;
}

/**
 * Opens the embedded KMS of `home` for administration. `existing`: makes none. The methods throw {VolsealError}
 * `ERR_ARGUMENT` for an invalid or unknown principal, policy or access key, and `ERR_KMS_STORE`.
 * @throws {VolsealError} as `EmbeddedKms.open`
 */
export function administerKms(home: string, mode: StoreMode = 'create'): KmsAdministration {
  const store = openStore(home, mode);
  return {
    putPrincipal(name, policies) {
      const arn = principalArnOf(store.account, name);
      putPrincipal(store, arn, policies);
      return arn;
    },
    removePrincipal: (name) => removePrincipal(store, principalArnOf(store.account, name)),
    principals() {
      const accessKeys = store.accessKeys();
      const known = new Map(store.principals().map(({ principalArn, policies }) => [principalArn, policies]));
      for (const { principalArn } of accessKeys) if (!known.has(principalArn)) known.set(principalArn, []);
      return [...known].sort().map(([principalArn, policies]) => ({
        principalArn,
        policies,
        accessKeyIds: accessKeys.filter((key) => key.principalArn === principalArn).map(({ accessKeyId }) => accessKeyId),
      }));
    },
    createAccessKey: (name) => createAccessKey(store, principalArnOf(store.account, name)),
    removeAccessKey: (accessKeyId) => removeAccessKey(store, accessKeyId),
    backUp: (target, withRootKey) => backUp(store, join(home, 'kms'), target, withRootKey),
    auditOwner: auditOwner(store),
    close: () => store.close(),
  };
}

/**
 * Makes the embedded KMS of `home`.
 * @param choice The source of its root key; undefined: a key file in its directory. @param chosen Its region and
 * account, where not the default ones
 * @throws {VolsealError} `ERR_ARGUMENT` for a bad region or account; `ERR_KMS_STORE` where there is a KMS already; as
 * `chooseRootKey` and `EmbeddedKms.open`
 */
export async function initialiseKms(home: string, choice?: RootKeyChoice, chosen: Partial<KmsAccount> = {}): Promise<void> {
  const account = { ...DEFAULT_ACCOUNT, ...chosen };
  checkAccount(account);
  if (choice !== undefined) chooseRootKey(join(home, 'kms'), choice);
  await openStore(home, 'create', account).close();
}
