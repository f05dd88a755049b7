/** Slots: who has a name, what a dead process leaves, and whose directory is used. */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, onTestFinished, test } from 'vitest';
import type { AttachmentRecord } from '../../src/attached/record.js';
import { runtimeDirectory } from '../../src/attached/runtime-directory.js';
import { liveSlots, removeDeadSocket, takeSlot } from '../../src/attached/slots.js';
import { rootRefused } from '../cli/program.js';
import { testUnless } from '../requirements.js';

const VOLUME_ID = 'vol-0123456789abcdef0';

function directory(): string {
  const path = mkdtempSync(join(tmpdir(), 'volseal slots '));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

const recordFor = (socket: string): AttachmentRecord => ({
  version: 1,
  volumeId: VOLUME_ID,
  path: '/disk.vol',
  uri: `nbd+unix:///?socket=${socket}`,
  socket,
  pid: process.pid,
  sizeBytes: 4096,
  readOnly: false,
  since: '2026-11-26T00:00:00.000Z',
  device: null,
  mountedFile: null,
  metrics: null,
});

/** Nobody is dead. */
const noneDead = (): Promise<void> => assert.fail('a live slot was taken for a dead one');

describe('a slot', () => {
  test('is listed from its record on until it is released, and leaves nothing', async () => {
    const path = directory();
    const slot = await takeSlot(path, VOLUME_ID);
    assert.deepEqual(await liveSlots(path, noneDead), []);
    slot.publish(recordFor(slot.socketPath));
    assert.deepEqual(
      (await liveSlots(path, noneDead)).map(({ record }) => record),
      [recordFor(slot.socketPath)],
    );
    for (const name of readdirSync(path)) assert.equal(statSync(join(path, name)).mode & 0o077, 0, name);
    slot.release();
    assert.deepEqual(readdirSync(path), []);
  });

  test('has a name of its own for each copy and each reader of one volume', async () => {
    const path = directory();
    const slots = [await takeSlot(path, VOLUME_ID), await takeSlot(path, VOLUME_ID), await takeSlot(path, VOLUME_ID)];
    assert.deepEqual(
      slots.map(({ socketPath }) => socketPath),
      ['', '-2', '-3'].map((end) => join(path, `${VOLUME_ID}${end}.sock`)),
    );
    slots[1]!.release();
    assert.equal((await takeSlot(path, VOLUME_ID)).socketPath, join(path, `${VOLUME_ID}-2.sock`));
  });

  test('of a dead process is not listed, whatever its pid is now, and its name is free', async () => {
    const path = directory();
    // As kill -9 or a reboot leaves it: all files, and nobody has the lock. The pid is that of a process that lives.
    const socket = join(path, `${VOLUME_ID}.sock`);
    for (const end of ['lock', 'sock', 'control']) writeFileSync(join(path, `${VOLUME_ID}.${end}`), '', { mode: 0o600 });
    writeFileSync(join(path, `${VOLUME_ID}.json`), JSON.stringify(recordFor(socket)), { mode: 0o600 });
    const dead: string[] = [];
    const onDead = async ({ volumeId }: AttachmentRecord): Promise<void> => void dead.push(volumeId);
    assert.deepEqual(await liveSlots(path, onDead), []);
    assert.deepEqual(dead, [VOLUME_ID]);
    assert.deepEqual(readdirSync(path), []);
  });

  test('of a dead process is taken over without a listing in between', async () => {
    const path = directory();
    for (const end of ['lock', 'json', 'json.new', 'sock']) writeFileSync(join(path, `${VOLUME_ID}.${end}`), 'left', { mode: 0o600 });
    const slot = await takeSlot(path, VOLUME_ID);
    assert.equal(slot.socketPath, join(path, `${VOLUME_ID}.sock`));
    assert.deepEqual(readdirSync(path), [`${VOLUME_ID}.lock`]);
  });

  test('with a record that is not ours to understand is live, and not listed', async () => {
    const path = directory();
    const slot = await takeSlot(path, VOLUME_ID);
    for (const text of ['', '{', '{"version":2}', JSON.stringify({ ...recordFor(''), pid: -1 })]) {
      writeFileSync(join(path, `${VOLUME_ID}.json`), text, { mode: 0o600 });
      assert.deepEqual(await liveSlots(path, noneDead), []);
    }
    assert.ok(existsSync(join(path, `${VOLUME_ID}.lock`)));
    slot.release();
  });

  test('is not made of files that slots do not have', async () => {
    const path = directory();
    for (const name of ['other.lock', 'vol-1.lock', '..lock', `${VOLUME_ID}-100.lock`]) writeFileSync(join(path, name), '');
    assert.deepEqual(await liveSlots(path, noneDead), []);
    assert.equal(readdirSync(path).length, 4);
  });
});

describe('a socket', () => {
  test('stays while somebody listens, and goes when nobody does', async () => {
    const path = join(directory(), 'socket');
    const server = createServer().listen(path);
    await new Promise((resolve) => server.once('listening', resolve));
    await removeDeadSocket(path);
    assert.ok(existsSync(path));
    await new Promise((resolve) => server.close(resolve));
  });

  test('that is no socket stays', async () => {
    const path = join(directory(), 'file');
    await removeDeadSocket(path);
    writeFileSync(path, 'kept');
    await removeDeadSocket(path);
    assert.ok(existsSync(path));
  });
});

describe('the runtime directory', () => {
  test('is made in the directory of the session, closed to others', () => {
    const session = directory();
    const path = runtimeDirectory(session);
    assert.equal(path, join(session, 'volseal'));
    assert.equal(statSync(path).mode & 0o777, 0o700);
    assert.equal(runtimeDirectory(session), path);
  });

  test('is refused where others may enter it, or where it is a link', () => {
    const session = directory();
    mkdirSync(join(session, 'volseal'));
    chmodSync(join(session, 'volseal'), 0o755);
    assert.throws(() => runtimeDirectory(session), { code: 'ERR_IO', message: /chmod 700/ });
    rmSync(join(session, 'volseal'), { recursive: true });
    symlinkSync(directory(), join(session, 'volseal'));
    assert.throws(() => runtimeDirectory(session), { code: 'ERR_IO', message: /is not a directory/ });
  });

  testUnless(rootRefused())('is refused where it belongs to another user; a session of another user is not used', async () => {
    const { chownSync } = await import('node:fs');
    const session = directory();
    mkdirSync(join(session, 'volseal'), { mode: 0o700 });
    chownSync(join(session, 'volseal'), 12345, 12345);
    assert.throws(() => runtimeDirectory(session), { code: 'ERR_IO', message: /belongs to another user \(uid 12345/ });
    chownSync(session, 12345, 12345);
    assert.doesNotMatch(runtimeDirectory(session), new RegExp(session));
    assert.doesNotMatch(runtimeDirectory('relative'), /^relative/);
  });
});
