/** NBD under every Node that volseal runs on: serve, copy in and out, detach. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { describe, onTestFinished } from 'vitest';
import { createVolume } from '../../src/index.js';
import { built } from '../built.js';
import { lacksNode, type NodeName, nodeExecutable } from '../other-nodes.js';
import { testUnless } from '../requirements.js';
import { sandbox } from '../volume/sandbox.js';
import { runTool, skipWithout } from './tools.js';

const BYTES = 4 * 1024 * 1024;
const NODES: readonly NodeName[] = ['node-20', 'node-22', 'node-24', 'node-26'];

describe('an NBD server', () => {
  for (const name of NODES) {
    testUnless(lacksNode(name) || skipWithout('nbdcopy'))(
      `in ${name}: what nbdcopy writes it reads again, and detach ends all`,
      async () => {
        const box = sandbox();
        const image = box.image('a.raw', BYTES);
        await createVolume(box.path('a.vol'), { sizeBytes: BYTES, kms: box.kms });
        const words = [built('test/nbd/serve-process.ts'), box.path('a.vol'), box.kms, JSON.stringify({ socket: box.path('s') })];
        const child = spawn(nodeExecutable(name), words, { stdio: ['pipe', 'pipe', 'inherit'] });
        onTestFinished(() => void child.kill('SIGKILL'));
        const lines = createInterface(child.stdout);
        const [served] = (await once(lines, 'line')) as [string];
        const uri = served.split(' ')[0]!;
        runTool('nbdcopy', ['--flush', box.path('a.raw'), uri]);
        runTool('nbdcopy', [uri, box.path('b.raw')]);
        assert.ok(box.contents('b.raw').equals(image));
        const detached = once(lines, 'line');
        child.stdin.end();
        assert.deepEqual(await detached, ['detached']);
      },
    );
  }
});
