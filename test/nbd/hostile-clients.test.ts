/** Clients that are killed, talk nonsense, or do not read: the server goes on, and the others get every byte. */
import { strict as assert } from 'node:assert';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { test } from 'vitest';
import { until } from '../until.js';
import { big, COMMAND, infoData, NbdTestClient, OPTION, optionBytes, requestBytes } from './client.js';
import { serveNewVolume } from './served.js';

const MIB = 1024 * 1024;

const connectTo = async (path: string): Promise<Socket> => {
  const socket = connect(path);
  socket.on('error', () => {});
  socket.resume();
  await once(socket, 'connect');
  return socket;
};

/** Everything that one client sends, from its flags to its farewell, in pieces that mean something. */
const CONVERSATION = [
  big(3, 4),
  optionBytes(OPTION.list),
  optionBytes(OPTION.structuredReply),
  optionBytes(10, Buffer.concat([big(0, 4), big(1, 4), big(15, 4), Buffer.from('base:allocation')])),
  optionBytes(OPTION.go, infoData('')),
  requestBytes({ command: COMMAND.read, length: 70_000 }),
  requestBytes({ command: COMMAND.write, offset: 3, length: 600 }),
  Buffer.alloc(600, 1),
  requestBytes({ command: COMMAND.write, offset: 4096, length: 4096, flags: 1 }),
  Buffer.alloc(4096, 2),
  requestBytes({ command: COMMAND.flush }),
  requestBytes({ command: COMMAND.trim, length: 4096 }),
  requestBytes({ command: COMMAND.writeZeroes, length: 5 * MIB }),
  requestBytes({ command: COMMAND.cache, length: 4096 }),
  requestBytes({ command: COMMAND.blockStatus, length: MIB }),
  requestBytes({ command: COMMAND.disconnect }),
];

/** Lengths at which a client is killed: every byte of every header, and the ends of payloads. */
function* killPoints(): Generator<number> {
  let start = 0;
  for (const piece of CONVERSATION) {
    if (piece.length <= 64) for (let at = 0; at < piece.length; at += 1) yield start + at;
    else yield* [start, start + 1, start + piece.length / 2, start + piece.length - 1];
    start += piece.length;
  }
  yield start;
}

test('a client killed at every byte of its conversation does not take the server with it', async () => {
  const { box, volume, server } = await serveNewVolume({ allocation: 'sparse', sizeBytes: 8 * MIB });
  const all = Buffer.concat(CONVERSATION);
  const points = [...killPoints()];
  assert.ok(points.length > 350);
  for (let index = 0; index < points.length; index += 16) {
    await Promise.all(
      points.slice(index, index + 16).map(async (length) => {
        const socket = await connectTo(box.path('nbd.sock'));
        await new Promise<void>((resolve) => {
          if (length === 0) resolve();
          else socket.write(all.subarray(0, length), () => resolve());
        });
        socket.destroy();
      }),
    );
  }
  // The last ones may still wait to be accepted.
  await until(() => server.stats().connectionsTotal === points.length && server.stats().connections === 0);
  const client = await NbdTestClient.connect(box.path('nbd.sock'));
  await client.go('');
  const bytes = randomBytes(5000);
  assert.equal(await client.write(777, bytes), 0);
  assert.deepEqual(await client.read(777, 5000), bytes);
  client.destroy();
  await volume.flush();
});

test('junk at every step ends that connection and no other', async () => {
  const { box, server } = await serveNewVolume();
  const good = await NbdTestClient.connect(box.path('nbd.sock'));
  await good.go('');
  let start = 0;
  const all = Buffer.concat(CONVERSATION);
  for (const piece of CONVERSATION) {
    for (const junk of [Buffer.alloc(200, 0xff), randomBytes(200), Buffer.alloc(200)]) {
      const socket = await connectTo(box.path('nbd.sock'));
      socket.end(Buffer.concat([all.subarray(0, start), junk]));
      await once(socket, 'close');
    }
    start += piece.length;
  }
  assert.equal((await good.read(0, 4096)).length, 4096);
  await until(() => server.stats().connections === 1);
  good.destroy();
});

test('a client that does not read is not read either, and holds nobody up', async () => {
  const { box, server } = await serveNewVolume();
  const slow = await NbdTestClient.connect(box.path('nbd.sock'));
  await slow.go('');
  slow.socket.pause();
  // 4 GiB of replies, all asked for at once.
  const request = requestBytes({ command: COMMAND.read, length: MIB });
  slow.send(Buffer.concat(Array.from({ length: 4096 }, () => request)));
  const client = await NbdTestClient.connect(box.path('nbd.sock'));
  await client.go('');
  for (let round = 0; round < 50; round += 1) assert.equal((await client.read(round * 4096, 4096)).length, 4096);
  assert.ok(server.stats().bytesRead < 16 * MIB, `${server.stats().bytesRead} bytes were read for nobody`);
  slow.destroy();
  client.destroy();
  await until(() => server.stats().connections === 0);
});

test('a client that stops in the middle of a payload holds nobody up, and the server closes all the same', async () => {
  const { box, server } = await serveNewVolume();
  const stalled = await NbdTestClient.connect(box.path('nbd.sock'));
  await stalled.go('');
  stalled.send(Buffer.concat([requestBytes({ command: COMMAND.write, length: 4096 }), Buffer.alloc(1000)]));
  const client = await NbdTestClient.connect(box.path('nbd.sock'));
  await client.go('');
  assert.equal(await client.write(0, Buffer.alloc(4096, 9)), 0);
  await server.close({ drainMs: 1000 });
  await Promise.all([stalled.ended(), client.ended()]);
});
