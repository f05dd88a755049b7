/** What a call must leave behind when it has ended, well or not. */
import assert from 'node:assert/strict';
import { native } from '../../src/native.js';
import { poolIsUsed } from '../../src/workers/pool.js';

/** No share of the pool, and no key in the vault. */
export function nothingHeld(): void {
  assert.equal(poolIsUsed(), false);
  assert.equal(native.vaultInfo().liveKeys, 0);
}
