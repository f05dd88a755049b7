/** A WorkSpace's request opens the embedded KMS once, in a worker thread: opening it can take half a minute. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { attachWorkspace, createWorkspace, rebuildWorkspace, terminateWorkspace } from '../../src/index.js';
import { initialiseKms } from '../../src/kms/embedded/administration.js';
import { native } from '../../src/native.js';
import { sandbox } from '../volume/sandbox.js';
import { DIRECTORY, SID } from './office.js';

test('the root key command runs once a request, and does not block the main thread', async () => {
  const box = sandbox();
  const home = box.path('home');
  const [log, go, key] = [box.path('log'), box.path('go'), box.path('key')];
  writeFileSync(key, Buffer.alloc(32, 7).toString('base64'));
  writeFileSync(log, '');
  writeFileSync(go, '');
  // It ends only once the main thread has answered it: a main thread that waits for it would wait until its time-out.
  const script = 'echo opened >> "$1"; while [ ! -e "$2" ]; do sleep 0.01; done; cat "$3"';
  await initialiseKms(home, { command: ['/bin/sh', '-c', script, 'sh', log, go, key] });
  box.image('root.raw', 64 * 1024);

  const opened = (): number => readFileSync(log, 'utf8').split('\n').length - 1;
  const counted = async <Result>(work: () => Promise<Result>): Promise<Result> => {
    const before = opened();
    rmSync(go);
    let ended = false;
    const done = work().finally(() => {
      ended = true;
    });
    done.catch(() => {});
    while (!ended && opened() === before) await sleep(5);
    writeFileSync(go, '');
    const result = await done;
    expect(opened()).toBe(before + 1);
    return result;
  };
  const origin = { home, sid: SID, directoryId: DIRECTORY, folder: box.path('desks') };
  const options = { ...origin, root: { image: box.path('root.raw') }, user: { sizeBytes: 64 * 1024 } };
  const { workspaceId } = await counted(() => createWorkspace(options));
  const attached = await counted(() => attachWorkspace(workspaceId, { home }));
  await attached.detach();
  await counted(() => rebuildWorkspace(workspaceId, { home }));
  await counted(() => terminateWorkspace(workspaceId, { home }));
  expect(native.vaultInfo().liveKeys).toBe(0);
});
