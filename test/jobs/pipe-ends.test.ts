/** The addon's own pipes: which descriptors it closes, and which not. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync, fstatSync, openSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { test } from 'vitest';
import { native } from '../../src/native.js';
import { built } from '../built.js';

const refused = { code: 'ERR_ARGUMENT', message: /openPipe/ };

test('an end is closed once', () => {
  const { readFd, writeFd } = native.openPipe();
  for (const end of [readFd, writeFd]) {
    native.closePipeEnd(end);
    assert.throws(() => fstatSync(end), { code: 'EBADF' });
    assert.throws(() => native.closePipeEnd(end), refused);
  }
});

test("no other descriptor is closed: the event loop's, a file, one that is not open", () => {
  const file = openSync('/dev/null', 'r');
  const open = Array.from({ length: 64 }, (_, fd) => fd).filter(isOpen);
  assert.ok(open.includes(file));
  for (let fd = 0; fd < 64; fd++) assert.throws(() => native.closePipeEnd(fd), refused, `descriptor ${fd}`);
  assert.deepEqual(open.filter(isOpen), open);
  closeSync(file);
});

test('a number that the system has given to another file since is refused', () => {
  const { readFd, writeFd } = native.openPipe();
  closeSync(readFd);
  const file = openSync('/dev/null', 'r');
  assert.equal(file, readFd, 'the system gives the lowest number');
  assert.throws(() => native.closePipeEnd(file), refused);
  assert.ok(isOpen(file));
  closeSync(file);
  native.closePipeEnd(writeFd);
});

test('a pipe of a caller, read through a socket of ours: no warning in a worker thread, and the descriptor stays open', async () => {
  const code = `
    const { parentPort, workerData: [descriptor, addon] } = require('node:worker_threads');
    const { fstatSync, writeSync } = require('node:fs');
    const warnings = [];
    process.on('warning', ({ message }) => warnings.push(message));
    (async () => {
      const { chunksOf } = await import(descriptor);
      const { native } = await import(addon);
      const texts = [];
      for (let round = 0; round < 4; round += 1) {
        const { readFd, writeFd } = native.openPipe();
        writeSync(writeFd, 'round ' + round);
        native.closePipeEnd(writeFd);
        const { chunks, close } = chunksOf({ fd: readFd, sizeBytes: 7, name: 'a pipe' });
        for await (const chunk of chunks) texts.push(String(chunk));
        close();
        fstatSync(readFd);
        native.closePipeEnd(readFd);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      parentPort.postMessage({ texts, warnings });
    })();`;
  const worker = new Worker(code, { eval: true, workerData: [built('src/transfer/descriptor.ts'), built('src/native.ts')] });
  const [seen] = (await once(worker, 'message')) as [unknown];
  await worker.terminate();
  assert.deepEqual(seen, { texts: ['round 0', 'round 1', 'round 2', 'round 3'], warnings: [] });
});

function isOpen(fd: number): boolean {
  try {
    return fstatSync(fd) !== undefined;
  } catch {
    return false;
  }
}
