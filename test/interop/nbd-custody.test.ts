/** Where the data key of a volume is while clients read and write it through TLS, and after that. */
import { strict as assert } from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { test } from 'vitest';
import { createVolume } from '../../src/index.js';
import { built } from '../built.js';
import { describeUnless } from '../requirements.js';
import { dataKeyOf, sandbox } from '../volume/sandbox.js';
import { describeCopies, scanMemory } from './memory-scan.js';
import { requireTool, runTool, skipWithout } from './tools.js';

describeUnless(skipWithout('nbdcopy'))('a process that serves a volume over NBD with TLS', () => {
  test('has no copy of the key outside locked memory; after detach it has none', async () => {
    const box = sandbox();
    const path = box.path('disk.vol');
    await createVolume(path, { sizeBytes: 64 * 1024 * 1024, kms: box.kms });
    const key = await dataKeyOf(path, box.kms);
    box.image('disk.raw', 64 * 1024 * 1024);
    const psk = box.path('keys.psk');
    writeFileSync(psk, `alice:${'a1'.repeat(32)}\n`, { mode: 0o600 });
    const options = JSON.stringify({ socket: box.path('s'), tls: { psk } });
    const child = spawn(process.execPath, [built('test/nbd/serve-process.ts'), path, box.kms, options], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    try {
      const [said] = (await once(child.stdout, 'data')) as [Buffer];
      const [uri, pid] = said.toString().split(' ') as [string, string];
      const withKeys = `${uri.replace('nbds+unix://', 'nbds+unix://alice@')}&tls-psk-file=${encodeURIComponent(psk)}`;
      runTool('nbdcopy', [box.path('disk.raw'), withKeys]);
      const reader = spawn(requireTool('nbdcopy'), [withKeys, 'null:'], { stdio: 'inherit' });
      const serving = scanMemory(Number(pid), [key]);
      assert.equal(describeCopies(serving.outside), '');
      assert.ok(serving.locked.length > 0 || serving.unreadable.some(({ name }) => name.includes('secretmem')));
      if (reader.exitCode === null) await once(reader, 'exit');
      child.stdin.end();
      assert.equal(String((await once(child.stdout, 'data'))[0]), 'detached\n');
      const detached = scanMemory(Number(pid), [key]);
      assert.equal(describeCopies([...detached.outside, ...detached.locked]), '');
    } finally {
      child.kill('SIGKILL');
    }
  });
});
