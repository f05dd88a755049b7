/**
 * `volume.serve` and `serveVolumes`: what their owner sees. The clients' side is in test/interop/nbd-clients.test.ts.
 */
import { strict as assert } from 'node:assert';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, onTestFinished, test } from 'vitest';
import { attach, createVolume, type NbdServer, serveVolumes, VolsealError } from '../../src/index.js';
import { built } from '../built.js';
import { sandbox } from '../volume/sandbox.js';
import { NbdTestClient } from './client.js';
import { serveNewVolume } from './served.js';

const failsWith = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof VolsealError, String(error));
  assert.equal(error.code, code);
  assert.match(error.message, message);
  return true;
};

test('a server greets, counts, and goes away with its volume', async () => {
  const { box, volume, server } = await serveNewVolume();
  assert.equal(statSync(box.path('nbd.sock')).mode & 0o777, 0o600);
  const connected = once(server, 'connect');
  const client = await NbdTestClient.connect(box.path('nbd.sock'));
  await client.go('');
  assert.deepEqual(await connected, [{ id: 1, exportName: '', identity: '' }]);
  assert.equal(await client.write(0, Buffer.from('plaintext')), 0);
  assert.deepEqual(await client.read(0, 9), Buffer.from('plaintext'));
  const { connections, connectionsTotal, requests, errors, bytesRead, bytesWritten } = server.stats();
  assert.deepEqual(
    { connections, connectionsTotal, requests, errors, bytesRead, bytesWritten },
    {
      ...{ connections: 1, connectionsTotal: 1, requests: 2, errors: 0, bytesRead: 9, bytesWritten: 9 },
    },
  );
  const disconnected = once(server, 'disconnect');
  const closed = once(server, 'close');
  await volume.detach();
  await Promise.all([disconnected, closed, client.ended()]);
  assert.equal(existsSync(box.path('nbd.sock')), false);
  await server.close();
});

test('a server that is closed leaves its volume attached, and its socket free', async () => {
  const { box, volume, server } = await serveNewVolume();
  const client = await NbdTestClient.connect(box.path('nbd.sock'));
  await client.go('');
  await client.write(4096, Buffer.alloc(4096, 5));
  await server.close();
  await client.ended();
  assert.deepEqual(await volume.read(4096, 4096), new Uint8Array(4096).fill(5));
  await using again = await volume.serve({ socket: box.path('nbd.sock') });
  assert.equal(again.uri, server.uri);
});

test('a volume forgets the servers that have ended', async () => {
  const { box, volume } = await serveNewVolume();
  const servedOnce = async (): Promise<WeakRef<NbdServer>> => {
    const server = await volume.serve({ socket: box.path('again.sock') });
    await server.close();
    return new WeakRef(server);
  };
  const servers = [await servedOnce(), await servedOnce()];
  await collected(...servers);
});

/** Waits until nobody holds any of them; the test's time limit ends it otherwise. */
async function collected(...references: readonly WeakRef<object>[]): Promise<void> {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  while (references.some((reference) => reference.deref() !== undefined)) {
    // A WeakRef holds its target until the current job ends.
    await new Promise((resolve) => setImmediate(resolve));
    collect();
  }
}

test('two volumes under their names; one is detached, the other goes on', async () => {
  const box = sandbox();
  const volumes = await Promise.all(
    ['one', 'two'].map(async (name) => {
      await createVolume(box.path(name), { sizeBytes: 1024 * 1024, kms: box.kms });
      return await attach(box.path(name), { kms: box.kms });
    }),
  );
  const [one, two] = volumes as [(typeof volumes)[0], (typeof volumes)[0]];
  onTestFinished(async () => {
    await Promise.all(volumes.map((volume) => volume.detach()));
  });
  await using server = await serveVolumes(
    [
      { name: 'one', volume: one },
      { name: 'two of', volume: two, readOnly: true },
    ],
    { socket: box.path('s') },
  );
  assert.match(server.uri, /^nbd\+unix:\/\/\/one\?socket=/);
  assert.match(server.uriOf('two of'), /^nbd\+unix:\/\/\/two%20of\?socket=/);
  const [first, second] = [await NbdTestClient.connect(box.path('s')), await NbdTestClient.connect(box.path('s'))];
  await first.go('one');
  await second.go('two of');
  assert.equal(await first.write(0, Buffer.alloc(512)), 0);
  assert.equal(await second.write(0, Buffer.alloc(512)), 1); // EPERM
  await one.detach();
  await first.ended();
  assert.equal((await second.read(0, 512)).length, 512);
  const third = await NbdTestClient.connect(box.path('s'));
  await assert.rejects(third.go('one'), /0x80000006/); // unknown
});

test('a stale socket is replaced, a live one and any other file are not', async () => {
  const { box, volume } = await serveNewVolume();
  await assert.rejects(volume.serve({ socket: box.path('nbd.sock') }), failsWith('ERR_STATE_BUSY', /Address already in use/));
  writeFileSync(box.path('file'), 'mine');
  await assert.rejects(volume.serve({ socket: box.path('file') }), failsWith('ERR_IO', /File exists/));
  symlinkSync(box.path('file'), box.path('link'));
  await assert.rejects(volume.serve({ socket: box.path('link') }), failsWith('ERR_IO', /File exists/));
  const stale = await staleSocket(box.path('stale'));
  await using server = await volume.serve({ socket: stale });
  assert.equal(server.stats().connections, 0);
});

/** A socket file whose process is gone: Node removes the file of a server that it closes, so a child is killed. */
async function staleSocket(path: string): Promise<string> {
  const program = `require('net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`;
  const child = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.ok(existsSync(path));
  return path;
}

test('endpoints that are none, or two, or open to everybody are refused', async () => {
  const { box, volume } = await serveNewVolume();
  await assert.rejects(volume.serve({}), failsWith('ERR_ARGUMENT', /given: none/));
  await assert.rejects(volume.serve({ socket: box.path('x'), listen: { port: 0 } }), failsWith('ERR_ARGUMENT', /given: socket, listen/));
  await assert.rejects(volume.serve({ listen: { host: '0.0.0.0', port: 0 } }), failsWith('ERR_ARGUMENT', /plaintext/));
  await assert.rejects(volume.serve({ listen: { host: '::', port: 0 } }), failsWith('ERR_ARGUMENT', /plaintext/));
  await assert.rejects(volume.serve({ listen: { port: 70_000 } }), failsWith('ERR_ARGUMENT', /port/));
  await assert.rejects(volume.serve({ socket: `/tmp/${'x'.repeat(120)}` }), failsWith('ERR_ARGUMENT', /1 to 107 bytes/));
  await assert.rejects(volume.serve({ socket: box.path('x'), connectionsMax: 65 }), failsWith('ERR_ARGUMENT', /1 to 64/));
  await assert.rejects(volume.serve({ fd: 0 }), failsWith('ERR_ARGUMENT', /./));
  await using open = await volume.serve({ listen: { host: '0.0.0.0', port: 0 }, allowPlaintextBeyondLoopback: true });
  assert.match(open.uri, /^nbd:\/\/0\.0\.0\.0:\d+\/$/);
  await volume.detach();
  await assert.rejects(volume.serve({ socket: box.path('x') }), failsWith('ERR_STATE_DETACHED', /./));
});

test('TCP on loopback', async () => {
  const { server } = await serveNewVolume({ serve: { listen: { port: 0 } } });
  const port = Number(new URL(server.uri).port);
  const client = await NbdTestClient.connect({ host: '127.0.0.1', port });
  await client.go('');
  assert.equal((await client.read(0, 100)).length, 100);
});

describe('descriptors from outside', () => {
  const start = async (descriptor: number | 'pipe', options: object): Promise<ChildProcess> => {
    const box = sandbox();
    await createVolume(box.path('disk.vol'), { sizeBytes: 1024 * 1024, kms: box.kms });
    const child = spawn(process.execPath, [built('test/nbd/serve-process.ts'), box.path('disk.vol'), box.kms, JSON.stringify(options)], {
      stdio: ['pipe', 'pipe', 'inherit', descriptor],
    });
    onTestFinished(() => {
      child.kill('SIGKILL');
    });
    assert.match(String((await once(child.stdout!, 'data'))[0]), /^nbd\+fd:/);
    return child;
  };

  test('a socket that listens already', async () => {
    const outer = createServer().listen(0, '127.0.0.1');
    await once(outer, 'listening');
    const { port } = outer.address() as AddressInfo;
    await start((outer as unknown as { _handle: { fd: number } })._handle.fd, { fd: 3 });
    outer.close();
    const client = await NbdTestClient.connect({ host: '127.0.0.1', port });
    await client.go('');
    assert.equal((await client.read(0, 10)).length, 10);
    client.destroy();
  });

  test('a connected socket: the server ends with its client', async () => {
    const child = await start('pipe', { stdio: 3 });
    const client = await NbdTestClient.over(child.stdio[3] as Socket);
    await client.go('');
    assert.equal(await client.write(0, Buffer.from('x')), 0);
    client.destroy();
    const [status] = (await once(child, 'exit')) as [number];
    assert.equal(status, 0);
  });
});

test('64 clients are served, the next is turned away', async () => {
  const { box, server } = await serveNewVolume();
  const clients = await Promise.all(Array.from({ length: 64 }, () => NbdTestClient.connect(box.path('nbd.sock'))));
  await Promise.all(clients.map((client) => client.go('')));
  await Promise.all(
    clients.map(async (client, index) => {
      for (let round = 0; round < 8; round += 1) {
        const offset = (index * 8 + round) * 3000;
        const bytes = Buffer.alloc(3000, index + 1);
        assert.equal(await client.write(offset, bytes), 0);
        assert.deepEqual(await client.read(offset, 3000), bytes);
      }
    }),
  );
  const extra = connect(box.path('nbd.sock'));
  await once(extra, 'close');
  assert.deepEqual([server.stats().connections, server.stats().connectionsRefused, server.stats().errors], [64, 1, 0]);
  for (const client of clients) client.destroy();
});

test('overlapping unaligned writes over 4 connections lose no byte', async () => {
  const { box, volume } = await serveNewVolume();
  const clients = await Promise.all(Array.from({ length: 4 }, () => NbdTestClient.connect(box.path('nbd.sock'))));
  await Promise.all(clients.map((client) => client.go('')));
  // Client c writes bytes c, c + 4, c + 8 ... of each sector, one by one: every write changes a sector that three
  // others change.
  const length = 512;
  await Promise.all(
    clients.map(async (client, index) => {
      const writes = Array.from({ length: length / 4 }, (_, at) => client.write(at * 4 + index, Buffer.from([index + 1])));
      assert.ok((await Promise.all(writes)).every((error) => error === 0));
    }),
  );
  const bytes = await volume.read(0, length);
  assert.deepEqual(
    bytes,
    Uint8Array.from({ length }, (_, at) => (at % 4) + 1),
  );
  for (const client of clients) client.destroy();
});
