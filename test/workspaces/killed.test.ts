/**
 * kill -9 in the middle of what is done to a WorkSpace: the same call again finishes it, or terminating undoes it, and
 * nothing is left.
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'vitest';
import { attachWorkspace, createWorkspace, listWorkspaces, rebuildWorkspace, terminateWorkspace } from '../../src/index.js';
import { built } from '../built.js';
import { runInjected, skipInjection } from '../faults/injected.js';
import { describeUnless } from '../requirements.js';
import { office } from './office.js';

const ONCE = built('test/workspaces/once.ts');
/**
 * What makes something last: commits of the stores and of the audit log, new names, names that go. `when` counts in
 * each thread.
 */
const STEPS = ['fdatasync', 'fsync', '/^(rename|link|unlink)'] as const;

describeUnless(skipInjection())('kill -9 at every durable step', () => {
  for (const step of STEPS) {
    test(`of create, at ${step}`, async () => {
      const { options, home, nothingLeft, image } = await office();
      for (let when = 1, killed = true; killed; when++) {
        const { signal, stdout } = runInjected(`${step}:signal=KILL:when=${when}`, ONCE, ['create', JSON.stringify(options)]);
        killed = signal === 'SIGKILL';
        assert.equal(stdout, killed ? '' : 'done');
        // Finished by the same call, or undone, in turn.
        if (when % 2 === 1 && killed) {
          const { workspaceId } =
            (await listWorkspaces({ home }))[0]?.state === 'ready' ? (await listWorkspaces({ home }))[0]! : await createWorkspace(options);
          assert.equal(readdirSync(options.folder).length, 2, 'two volumes, and nothing half made');
          const attached = await attachWorkspace(workspaceId, { home, readOnly: true });
          assert.ok(Buffer.from(await attached.root.read(0, image.length)).equals(image));
          await attached.detach();
        }
        for (const { workspaceId } of await listWorkspaces({ home })) await terminateWorkspace(workspaceId, { home });
        await nothingLeft();
        if (!killed) countKills('create', when - 1);
      }
    });

    test(`of rebuild and terminate, at ${step}`, async () => {
      const { options, home, nothingLeft, ask, keyArn, image } = await office();
      for (const operation of ['rebuild', 'terminate']) {
        for (let when = 1, killed = true; killed; when++) {
          const { workspaceId } = (await listWorkspaces({ home }))[0] ?? (await createWorkspace(options));
          const { signal, stdout } = runInjected(`${step}:signal=KILL:when=${when}`, ONCE, [operation, workspaceId, home]);
          killed = signal === 'SIGKILL';
          assert.equal(stdout, killed ? '' : 'done');
          const [left] = await listWorkspaces({ home });
          if (operation === 'rebuild') {
            await rebuildWorkspace(workspaceId, { home });
            assert.equal(ask('ListGrants', { KeyId: keyArn }).Grants.length, 3);
            const attached = await attachWorkspace(workspaceId, { home, readOnly: true });
            assert.ok(Buffer.from(await attached.root.read(0, image.length)).equals(image));
            await attached.detach();
          } else {
            if (left !== undefined) await terminateWorkspace(workspaceId, { home });
            await nothingLeft();
          }
          if (!killed) countKills(operation, when - 1);
        }
      }
      for (const { workspaceId } of await listWorkspaces({ home })) await terminateWorkspace(workspaceId, { home });
      await nothingLeft();
    });
  }
});

/** Says how many points there were: none would prove nothing. */
function countKills(operation: string, kills: number): void {
  console.info(`${operation}: killed at ${kills} points`);
  assert.ok(kills > 0);
}
