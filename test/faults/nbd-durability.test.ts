/**
 * What NBD clients are told, and find again, where the disk fails, is full, or the server is killed: flushed means
 * durable.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { onTestFinished, test } from 'vitest';
import { attach, createVolume } from '../../src/index.js';
import { built } from '../built.js';
import { requireTool } from '../interop/tools.js';
import { COMMAND, NbdTestClient } from '../nbd/client.js';
import { loopDevice } from '../output/loop-device.js';
import { describeUnless } from '../requirements.js';
import { type Sandbox, sandbox } from '../volume/sandbox.js';
import { skipInjection } from './injected.js';
import { LossyDisk, skipPowerCut } from './lossy-disk.js';

const SERVE = built('test/nbd/serve-process.ts');
const MIB = 1024 * 1024;
const EIO = 5;
const ENOSPC = 28;
const FUA = 1;

interface FaultyServer {
  child: ChildProcess;
  /** Connected, the export chosen. */
  client: NbdTestClient;
}

/** Serves a volume in a process with a fault in its calls; `onFile`: in those on the volume alone. */
async function serveFaulty(box: Sandbox, volume: string, injection: string, onFile: boolean): Promise<FaultyServer> {
  const [call] = injection.split(':');
  const faults = [...(onFile ? ['-P', volume] : []), '-e', `trace=${call}`, '-e', `inject=${injection}`];
  const options = JSON.stringify({ socket: box.path('s') });
  const words = ['-D', '-f', '-qq', '-o', '/dev/null', ...faults, process.execPath, SERVE, volume, box.kms, options];
  const child = spawn(requireTool('strace'), words, { stdio: ['pipe', 'pipe', 'inherit'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  const [line] = (await Promise.race([once(createInterface(child.stdout!), 'line'), once(child, 'exit').then(() => ['ended'])])) as [
    string,
  ];
  assert.match(line, /^nbd\+unix:/);
  const client = await NbdTestClient.connect(box.path('s'));
  await client.go('');
  return { child, client };
}

const flush = async (client: NbdTestClient): Promise<number> => (await client.request({ command: COMMAND.flush })).error;

describeUnless(skipInjection())('a volume whose disk fails, over NBD', () => {
  test.each([
    ['EIO', EIO],
    ['ENOSPC', ENOSPC],
  ])('a write that fails with %s: its client is told; reads, later writes and flushes go on', async (name, error) => {
    const box = sandbox();
    const path = box.path('a.vol');
    await createVolume(path, { sizeBytes: MIB, allocation: 'full', kms: box.kms });
    const { client } = await serveFaulty(box, path, `pwrite64:error=${name}:when=1`, true);
    assert.equal(await client.write(8192, Buffer.alloc(4096, 1)), error);
    assert.deepEqual(await client.read(8192, 4096), Buffer.alloc(4096));
    assert.equal(await client.write(8192, Buffer.alloc(4096, 2)), 0);
    assert.equal(await flush(client), 0);
    assert.deepEqual(await client.read(8192, 4096), Buffer.alloc(4096, 2));
  });

  test.each([
    ['EIO', EIO, 'flush'],
    ['ENOSPC', ENOSPC, 'flush'],
    ['EIO', EIO, 'FUA'],
    ['ENOSPC', ENOSPC, 'FUA'],
  ])(
    'an fdatasync that fails with %s (%i), for a %s: its client is told, and none succeeds after it, on any connection',
    async (name, error, by) => {
      const box = sandbox();
      const path = box.path('a.vol');
      await createVolume(path, { sizeBytes: MIB, allocation: 'full', kms: box.kms });
      const { client } = await serveFaulty(box, path, `fdatasync:error=${name}:when=1`, true);
      if (by === 'flush') {
        assert.equal(await client.write(0, Buffer.alloc(4096, 1)), 0);
        assert.equal(await flush(client), error);
      } else {
        assert.equal(await client.write(0, Buffer.alloc(4096, 1), FUA), error);
      }
      const other = await NbdTestClient.connect(box.path('s'));
      await other.go('');
      for (const each of [client, other]) {
        assert.equal(await flush(each), EIO);
        assert.equal(await each.write(0, Buffer.alloc(4096, 2)), EIO);
        assert.equal((await each.read(0, 4096)).length, 4096);
      }
    },
  );
});

describeUnless(skipPowerCut())('a volume on a real disk, over NBD', () => {
  test('a full file system: writes fail with ENOSPC, what was flushed outlasts a power cut, room is found again', async () => {
    const disk = new LossyDisk(24 * MIB);
    const box = sandbox();
    const path = join(disk.path, 'a.vol');
    await createVolume(path, { sizeBytes: 64 * MIB, allocation: 'sparse', kms: box.kms });
    const contents = (index: number): Buffer => Buffer.alloc(MIB, index + 1);
    await using volume = await attach(path, { kms: box.kms });
    await using server = await volume.serve({ socket: box.path('s') });
    assert.match(server.uri, /^nbd/);
    const client = await NbdTestClient.connect(box.path('s'));
    await client.go('');
    let written = 0;
    let error = 0;
    while (error === 0) {
      error = await client.write(written * MIB, contents(written));
      if (error === 0) written += 1;
    }
    assert.equal(error, ENOSPC);
    assert.ok(written > 4 && written < 24, `${written} MiB`);
    assert.equal(await flush(client), 0);
    await disk.afterPowerCut(async (cut) => {
      await using after = await attach(join(cut, 'a.vol'), { kms: box.kms });
      for (let index = 0; index < written; index += 1) {
        assert.ok(contents(index).equals(await after.read(index * MIB, MIB)), `MiB ${index}`);
      }
    });
    assert.equal((await client.request({ command: COMMAND.trim, offset: 0, length: 2 * MIB })).error, 0);
    assert.equal(await flush(client), 0);
    assert.equal(await client.write(0, contents(50)), 0);
    assert.deepEqual(await client.read(0, MIB), contents(50));
    client.destroy();
  });

  test('a disk that takes a write and then loses it: the flush says so, and no later one succeeds', async () => {
    const disk = new LossyDisk(24 * MIB);
    const box = sandbox();
    // A device that promises more than lies behind it, as thin provisioning does.
    await createVolume(box.path('a.vol'), { sizeBytes: 32 * MIB, allocation: 'sparse', kms: box.kms });
    const volumeFile = readFileSync(box.path('a.vol'));
    const device = loopDevice(join(disk.path, 'backing'), volumeFile.length);
    writeFileSync(device, volumeFile.subarray(0, volumeFile.length - 32 * MIB), { flag: 'r+' });
    const volume = await attach(device, { kms: box.kms });
    const server = await volume.serve({ socket: box.path('s') });
    const client = await NbdTestClient.connect(box.path('s'));
    await client.go('');
    assert.equal(await client.write(0, Buffer.alloc(MIB, 7)), 0);
    assert.equal(await flush(client), 0);
    for (let index = 1; index < 32; index += 1) assert.equal(await client.write(index * MIB, Buffer.alloc(MIB, index)), 0);
    assert.ok([EIO, ENOSPC].includes(await flush(client)));
    assert.equal(await flush(client), EIO);
    assert.equal(await client.write(0, Buffer.alloc(512)), EIO);
    assert.deepEqual(await client.read(0, MIB), Buffer.alloc(MIB, 7));
    client.destroy();
    await assert.rejects(server.close(), { code: 'ERR_STATE_POISONED' });
    await assert.rejects(volume.detach(), { code: 'ERR_STATE_POISONED' });
  });

  test('the server is killed at each of its calls, and then the power is cut: nothing flushed is lost', async () => {
    const disk = new LossyDisk(16 * MIB);
    const box = sandbox();
    mkdirSync(join(disk.path, 'd'));
    const path = join(disk.path, 'd', 'a.vol');
    await createVolume(path, { sizeBytes: MIB, allocation: 'full', kms: box.kms });
    let version = 0;
    /** Of each block: the version that was flushed, and the last that was sent. */
    const blocks = [0, 1, 2].map(() => ({ flushed: 0, sent: 0 }));
    // One is aligned, one begins and ends inside sectors, one is long.
    const places = [
      { offset: 0, length: 4096 },
      { offset: 9000, length: 3000 },
      { offset: 65536, length: 500_000 },
    ];
    let killed = 0;
    for (const [call, onFile, most] of [
      ['pwrite64', true, 5],
      ['fdatasync', true, 3],
      ['preadv2', true, 2],
      ['sendmsg', false, 7],
      ['recvfrom', false, 7],
    ] as const) {
      for (let when = 1; when <= most; when += 1) {
        const outcome = await serveFaulty(box, path, `${call}:signal=KILL:when=${when}`, onFile).catch(() => undefined);
        if (outcome !== undefined) {
          const { child, client } = outcome;
          try {
            for (const [index, { offset, length }] of places.entries()) {
              version += 1;
              blocks[index]!.sent = version;
              const error = await client.write(offset, Buffer.alloc(length, version % 256), index === 1 ? FUA : 0);
              assert.equal(error, 0);
              if (index !== 1) assert.equal(await flush(client), 0);
              blocks[index]!.flushed = version;
            }
            child.kill('SIGKILL');
          } catch (error) {
            assert.match(String(error), /the server has closed the connection/);
            killed += 1;
          }
          if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
        } else {
          killed += 1;
        }
        await disk.afterPowerCut(async (cut) => {
          await using after = await attach(join(cut, 'd', 'a.vol'), { kms: box.kms });
          for (const [index, { offset, length }] of places.entries()) {
            const { flushed, sent } = blocks[index]!;
            const found = await after.read(offset, length);
            // Sectors of a write that was not flushed may be new or old.
            const allowed = new Set(Array.from({ length: sent - flushed + 1 }, (_, more) => (flushed + more) % 256));
            const foreign = found.findIndex((byte) => !allowed.has(byte));
            assert.equal(foreign, -1, `${call} ${when}: byte ${offset + foreign} is ${found[foreign]}, flushed was ${flushed % 256}`);
          }
        });
      }
    }
    assert.ok(killed >= 15, `only ${killed} runs were killed`);
  });
});
