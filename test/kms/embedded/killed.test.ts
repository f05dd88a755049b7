/** kill -9 at every write and flush of the embedded KMS's store: what was answered is there, the rest is as it was. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { built } from '../../built.js';
import { runInjected, skipInjection } from '../../faults/injected.js';
import { describeUnless } from '../../requirements.js';
import { done, openEmbedded, temporaryHome } from '../harness.js';

const WRITER = built('test/kms/embedded/store-changes.ts');

describeUnless(skipInjection())('kill -9', () => {
  for (const step of ['fdatasync', 'fsync', '/^(write|pwrite64|pwritev|writev)$']) {
    test(`at every ${step} of the store: the old state or the new one`, () => {
      let kills = 0;
      for (let when = 1, killed = true; killed; when++) {
        const home = temporaryHome();
        const path = `${home}/kms/store.mdb`;
        const { signal, stdout } = runInjected(`${step}:signal=KILL:when=${when}`, WRITER, [home], step.startsWith('/') ? path : undefined);
        killed = signal === 'SIGKILL';
        if (killed) kills += 1;
        const said = stdout.split('\n').filter((line) => line !== '');
        const kms = openEmbedded(home);
        const { Keys } = done(kms, 'ListKeys');
        // One change may have been made and not answered.
        const changes: string[] = [];
        for (const { KeyId } of Keys) {
          changes.push('key');
          const { KeyMetadata } = done(kms, 'DescribeKey', { KeyId });
          if (KeyMetadata.Description === 'changed') changes.push('description');
          const { Grants } = done(kms, 'ListGrants', { KeyId });
          if (Grants.length > 0) changes.push('grant');
          if (done(kms, 'ListAliases', { KeyId }).Aliases.length > 0) changes.push('alias');
          if (done(kms, 'ListKeyRotations', { KeyId }).Rotations.length > 0) changes.push('rotation');
        }
        const order = ['key', 'alias', 'grant', 'rotation', 'description'];
        assert.deepEqual(changes.sort(), order.slice(0, changes.length).sort(), `when=${when}`);
        assert.ok(changes.length === said.length || changes.length === said.length + 1, `${changes} after ${said}`);
        if (!killed) assert.equal(said.length, order.length);
      }
      console.info(`killed at ${kills} points`);
      assert.ok(kills > 0);
    });
  }
});
