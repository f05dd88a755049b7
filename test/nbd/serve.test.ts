/**
 * `volume.serve` and `serveVolumes`: what their owner sees. The clients' side is in test/interop/nbd-clients.test.ts.
 */
import { strict as assert } from 'node:assert';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { test } from 'vitest';
import { serveNewVolume } from './served.js';

const connectTo = async (path: string): Promise<Socket> => {
  const socket = connect(path);
  await once(socket, 'connect');
  return socket;
};

test('a server greets, counts, and goes away with its volume', async () => {
  const { box, volume, server } = await serveNewVolume();
  assert.equal(statSync(box.path('nbd.sock')).mode & 0o777, 0o600);
  const socket = await connectTo(box.path('nbd.sock'));
  const [greeting] = (await once(socket, 'data')) as [Buffer];
  assert.deepEqual(greeting, Buffer.from('NBDMAGICIHAVEOPT\0\x03', 'latin1'));
  assert.equal(server.stats().connections, 1);
  const closed = once(server, 'close');
  await volume.detach();
  await closed;
  assert.throws(() => statSync(box.path('nbd.sock')), /ENOENT/);
  assert.equal(server.stats().connectionsTotal, 1);
  await server.close();
});
