/** Messages between commands and serving processes, and what becomes of others. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, onTestFinished, test } from 'vitest';
import { answerRequests, ask } from '../../src/attached/control.js';
import { VolsealError } from '../../src/errors.js';
import { ATTACHED_MESSAGE_BYTES_MAX } from '../../src/limits.js';

const STATUS = { clients: 1, requests: 2, readBytes: 3, writtenBytes: 4, errors: 5 };

/** A control socket whose detaches are counted, and refused without force. */
async function control() {
  const directory = mkdtempSync(join(tmpdir(), 'volseal control '));
  const path = join(directory, 'control');
  const detached: boolean[] = [];
  const server = await answerRequests(path, {
    status: () => STATUS,
    async detach(force) {
      detached.push(force);
      if (!force) throw new VolsealError('ERR_STATE_BUSY', 'two clients are connected', { details: { clients: 2 } });
    },
  });
  onTestFinished(async () => {
    server.stop();
    await server.answered();
    rmSync(directory, { recursive: true, force: true });
  });
  return { path, detached, server };
}

/** What comes back for some bytes, until the other side ends. */
async function answerTo(path: string, bytes: string | Buffer): Promise<string> {
  const socket: Socket = createConnection(path);
  socket.on('error', () => {});
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk;
  });
  socket.write(bytes);
  await new Promise((resolve) => socket.once('close', resolve));
  return text;
}

describe('a control socket', () => {
  test('answers a status, and passes a refusal on with its code and details', async () => {
    const { path, detached } = await control();
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.deepEqual(await ask(path, { command: 'status' }), { ok: true, status: STATUS });
    await assert.rejects(ask(path, { command: 'detach', force: false }), {
      name: 'VolsealError',
      code: 'ERR_STATE_BUSY',
      message: 'two clients are connected',
      details: { clients: 2 },
    });
    assert.deepEqual(await ask(path, { command: 'detach', force: true }), { ok: true });
    assert.deepEqual(detached, [false, true]);
  });

  test('gives no answer to what is no request, does nothing, and goes on', async () => {
    const { path, detached } = await control();
    const junk = [
      '\n',
      'null\n',
      '{"command":"detach"}\n',
      '{"command":"detach","force":"true"}\n',
      '{"command":"detach","force":true,"more":1}\n',
      '{"command":"wipe"}\n',
      Buffer.from([0xff, 0xfe, 0x0a]),
      'x'.repeat(ATTACHED_MESSAGE_BYTES_MAX + 1),
    ];
    for (const bytes of junk) assert.equal(await answerTo(path, bytes), '');
    assert.deepEqual(detached, []);
    assert.equal((await ask(path, { command: 'status' }))?.ok, true);
  });

  test('takes a request that comes in pieces', async () => {
    const { path } = await control();
    const socket = createConnection(path);
    for (const letter of '{"command":"status"}') socket.write(letter);
    socket.write('\n');
    let text = '';
    for await (const chunk of socket) text += chunk;
    assert.deepEqual(JSON.parse(text), { ok: true, status: STATUS });
  });

  test('that has stopped is gone at once, and nobody is asked', async () => {
    const { path, server } = await control();
    server.stop();
    assert.equal(existsSync(path), false);
    assert.equal(await ask(path, { command: 'status' }), undefined);
  });
});
