/**
 * Interrupted jobs that are resumed: the result is byte for byte that of an uninterrupted run, and nothing foreign is
 * gone on with.
 */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  closeSync,
  copyFileSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { test } from 'vitest';
import { ended, failureOf, type Lab, lab } from '../cli/program.js';
import { describeUnless } from '../requirements.js';
import { until } from '../until.js';
import { skipInjection } from './injected.js';
import { interrupted, SLOW_IMAGE_BYTES, startSlowly, untilThere } from './interrupted.js';

const ENCRYPT = ['encrypt', 'a.raw', 'a.vol', '--resume'];
const ENCRYPT_PARTIAL = '.a.vol.resume';
const ENCRYPT_CHECKPOINT = '.a.vol.resume.json';

interface Interrupted {
  at: Lab;
  image: Buffer;
  safeBytes: number;
}

/** An encryption that was killed behind its first checkpoint. */
async function killedEncryption(more: string[] = []): Promise<Interrupted> {
  const at = lab();
  const image = at.image('a.raw', SLOW_IMAGE_BYTES);
  const { signal } = await interrupted(at, [...ENCRYPT, ...more], ENCRYPT_CHECKPOINT);
  assert.equal(signal, 'SIGKILL');
  return { at, image, safeBytes: safeBytesOf(at, ENCRYPT_CHECKPOINT) };
}

function safeBytesOf(at: Lab, checkpoint: string): number {
  const { safeBytes } = JSON.parse(at.contents(checkpoint).toString()) as { safeBytes: number };
  assert.ok(safeBytes > 0 && safeBytes < SLOW_IMAGE_BYTES && safeBytes % (1024 * 1024) === 0);
  return safeBytes;
}

/** Changes bytes of a file where they are. */
function scribble(path: string, offset: number): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, Buffer.alloc(64, 0xa5), 0, 64, offset);
  closeSync(fd);
}

describeUnless(skipInjection())('--resume', () => {
  test('encrypt, killed: resumes with the same key, and completes the volume', async () => {
    const { at, image, safeBytes } = await killedEncryption();
    const begun = statSync(at.path(ENCRYPT_PARTIAL)).ino;
    // A run without --resume tells of it, and leaves it alone.
    const other = at.ok(['encrypt', 'a.raw', 'a.vol']);
    assert.match(other.stderr, /\.a\.vol\.resume holds what an interrupted run has done: continue it with --resume/);
    unlinkSync(at.path('a.vol'));
    const resumed = at.ok(ENCRYPT);
    assert.match(resumed.stderr, new RegExp(`\\.a\\.vol\\.resume: resuming at byte ${safeBytes} of ${image.length}`));
    assert.equal(statSync(at.path('a.vol')).ino, begun);
    assert.deepEqual(at.names(), ['a.raw', 'a.vol']);
    at.ok(['decrypt', 'a.vol', 'b.raw']);
    assert.ok(at.contents('b.raw').equals(image));
  });

  test('encrypt with a detached header and larger sectors, stopped by Ctrl-C, then killed, then done', async () => {
    const at = lab();
    const image = at.image('a.raw', SLOW_IMAGE_BYTES);
    const args = [...ENCRYPT, '--header', 'a.header', '--sector-size', '4096', '--context', 'user=alice'];
    const first = await interrupted(at, args, ENCRYPT_CHECKPOINT, ['SIGINT']);
    assert.equal(first.status, 130, first.stderr);
    assert.match(first.stderr, /stopped on request; what was done is kept in .*\.a\.vol\.resume/);
    assert.match(first.stderr, /hint: To continue from there, run the same command again\./);
    assert.deepEqual(at.names(), ['.a.header.resume', ENCRYPT_PARTIAL, ENCRYPT_CHECKPOINT, 'a.raw']);
    const before = safeBytesOf(at, ENCRYPT_CHECKPOINT);
    // A second Ctrl-C does not wait for anything: as a kill.
    const child = startSlowly(at, args);
    let resuming = false;
    child.stderr!.on('data', (text) => {
      resuming ||= /resuming at byte/.test(String(text));
    });
    const end = ended(child);
    await until(() => resuming);
    child.kill('SIGINT');
    child.kill('SIGINT');
    assert.notEqual((await end).status, 0);
    assert.ok(safeBytesOf(at, ENCRYPT_CHECKPOINT) >= before);
    const resumed = at.ok(args);
    assert.match(resumed.stderr, /resuming at byte/);
    assert.deepEqual(at.names(), ['a.header', 'a.raw', 'a.vol']);
    at.ok(['decrypt', 'a.vol', 'b.raw', '--header', 'a.header']);
    assert.ok(at.contents('b.raw').equals(image));
  });

  test('a sparse volume of an image with holes', async () => {
    const at = lab();
    const image = at.image('a.raw', SLOW_IMAGE_BYTES);
    image.fill(0, 1024 * 1024, 3 * 1024 * 1024);
    image.fill(0, SLOW_IMAGE_BYTES - 3 * 1024 * 1024);
    writeFileSync(at.path('a.raw'), image);
    await interrupted(at, [...ENCRYPT, '--sparse'], ENCRYPT_CHECKPOINT);
    assert.match(at.ok([...ENCRYPT, '--sparse']).stderr, /resuming/);
    at.ok(['decrypt', 'a.vol', 'b.raw']);
    assert.ok(at.contents('b.raw').equals(image));
  });

  test('decrypt, killed: resumes, and replaces the old image only at its end', async () => {
    const at = lab();
    const image = at.image('a.raw', SLOW_IMAGE_BYTES - 100);
    at.ok(['encrypt', 'a.raw', 'a.vol', '--pad']);
    at.image('b.raw', 100);
    const old = at.contents('b.raw');
    const args = ['decrypt', 'a.vol', 'b.raw', '--force', '--resume'];
    await interrupted(at, args, '.b.raw.resume.json');
    assert.ok(at.contents('b.raw').equals(old));
    assert.match(at.ok(args).stderr, /\.b\.raw\.resume: resuming at byte/);
    assert.ok(at.contents('b.raw').equals(image));
    assert.deepEqual(at.names(), ['a.raw', 'a.vol', 'b.raw']);
  });

  test('what does not belong together is refused, and stays', async () => {
    const { at, image, safeBytes } = await killedEncryption();
    const names = at.names();
    const refused = (message: RegExp, args: string[] = ENCRYPT): void => {
      const outcome = at.run([...args, '--json']);
      assert.equal(outcome.status, 4, outcome.stderr);
      const failure = failureOf(outcome);
      assert.equal(failure.code, 'ERR_RESUME', failure.message);
      assert.match(failure.message, message);
      assert.match(
        failure.message,
        /\.a\.vol\.resume: the interrupted job cannot be resumed: .*remove this file and .*json, or run without --resume/,
      );
      assert.match(
        failure.hint ?? '',
        /^With the same source, target and options as before the job continues\. To begin anew: rm .*\.a\.vol\.resume' .*\.a\.vol\.resume\.json'$/,
      );
      assert.deepEqual(at.names(), names);
    };
    // Another image of the same size; then options that say otherwise.
    copyFileSync(at.path('a.raw'), at.path('other.raw'));
    names.push('other.raw');
    refused(/the source other\.raw is not as it was: it is another file/, ['encrypt', 'other.raw', 'a.vol', '--resume']);
    refused(/it was begun with sectors of 512 bytes/, [...ENCRYPT, '--sector-size', '4096']);
    refused(/it was begun with allocation full, not sparse/, [...ENCRYPT, '--sparse']);
    refused(/it was begun with context \{\}, not \{"user":"bob"\}/, [...ENCRYPT, '--context', 'user=bob']);
    refused(/it was begun with key alias\/aws\/ebs, not alias\/other/, [...ENCRYPT, '--key', 'alias/other']);
    refused(/it was begun with header embedded, not detached/, [...ENCRYPT, '--header', 'a.header']);

    // A checkpoint that was edited so that a part would be left out, or that is no checkpoint.
    const checkpoint = at.contents(ENCRYPT_CHECKPOINT).toString();
    const edits: [string, RegExp][] = [
      [checkpoint.replace(`"safeBytes": ${safeBytes}`, `"safeBytes": ${safeBytes + 1024 * 1024}`), /its MAC does not hold/],
      [checkpoint.replace(/"mac": ".{8}/, '"mac": "AAAAAAAA'), /its MAC does not hold/],
      [checkpoint.replace('"version": 1', '"version": 2'), /its checkpoint is not valid: version/],
      [checkpoint.slice(0, -40), /its checkpoint is not JSON/],
    ];
    for (const [text, message] of edits) {
      writeFileSync(at.path(ENCRYPT_CHECKPOINT), text);
      refused(message);
    }
    writeFileSync(at.path(ENCRYPT_CHECKPOINT), checkpoint);

    // The end of what was done holds something else; a copy in the place of the file.
    const end = 1024 * 1024 + safeBytes - 4096;
    const fd = openSync(at.path(ENCRYPT_PARTIAL), 'r');
    closeSync(fd);
    const partial = readFileSync(at.path(ENCRYPT_PARTIAL)).subarray(end, end + 64);
    scribble(at.path(ENCRYPT_PARTIAL), end);
    // What it decrypts to now is random: its first bytes may be right by chance.
    const firstBytes = [0, 1, 2, 3].map((index) => safeBytes - 4096 + index).join('|');
    refused(new RegExp(`at byte (${firstBytes}) of the image it holds what a\\.raw does not give`));
    const mend = openSync(at.path(ENCRYPT_PARTIAL), 'r+');
    writeSync(mend, partial, 0, partial.length, end);
    closeSync(mend);
    renameSync(at.path(ENCRYPT_PARTIAL), at.path('kept'));
    copyFileSync(at.path('kept'), at.path(ENCRYPT_PARTIAL));
    names.push('kept');
    names.sort();
    refused(/it is not the file that the checkpoint was written for/);
    renameSync(at.path('kept'), at.path(ENCRYPT_PARTIAL));
    names.splice(names.indexOf('kept'), 1);

    // Nothing of all that has spoilt it.
    assert.match(at.ok(ENCRYPT).stderr, /resuming/);
    at.ok(['decrypt', 'a.vol', 'b.raw']);
    assert.ok(at.contents('b.raw').equals(image));
  });

  test('a source that was written to since is refused', async () => {
    const { at } = await killedEncryption();
    scribble(at.path('a.raw'), 0);
    const failure = failureOf(at.run([...ENCRYPT, '--json']));
    assert.equal(failure.code, 'ERR_RESUME');
    assert.match(failure.message, /the source a\.raw is not as it was: it was written to/);
    appendFileSync(at.path('a.raw'), Buffer.alloc(512));
    assert.match(failureOf(at.run([...ENCRYPT, '--json'])).message, /it had 100663296 bytes and has 100663808/);
  });

  test('a second run at once is refused, and disturbs nothing', async () => {
    const at = lab();
    const image = at.image('a.raw', SLOW_IMAGE_BYTES);
    const child = startSlowly(at, ENCRYPT);
    const end = ended(child);
    await untilThere(child, at.path(ENCRYPT_CHECKPOINT));
    const outcome = at.run([...ENCRYPT, '--json']);
    assert.equal(outcome.status, 5, outcome.stderr);
    assert.match(failureOf(outcome).message, /\.a\.vol\.resume: another run is at work on this job/);
    assert.equal((await end).status, 0);
    at.ok(['decrypt', 'a.vol', 'b.raw']);
    assert.ok(at.contents('b.raw').equals(image));
  });

  test('killed before there was a checkpoint: begins anew', async () => {
    const at = lab();
    const image = at.image('a.raw', 1024 * 1024);
    writeFileSync(at.path(ENCRYPT_PARTIAL), Buffer.alloc(5_000_000, 1), { mode: 0o600 });
    at.ok(ENCRYPT);
    assert.equal(statSync(at.path('a.vol')).size, 2 * 1024 * 1024);
    at.ok(['decrypt', 'a.vol', 'b.raw']);
    assert.ok(at.contents('b.raw').equals(image));
    assert.deepEqual(at.names(), ['a.raw', 'a.vol', 'b.raw']);
  });

  test('a file that others may read is not written to', () => {
    const at = lab();
    at.image('a.raw', 1024 * 1024);
    writeFileSync(at.path(ENCRYPT_PARTIAL), 'planted', { mode: 0o644 });
    const failure = failureOf(at.run([...ENCRYPT, '--json']));
    assert.equal(failure.code, 'ERR_RESUME');
    assert.match(failure.message, /it is not a file of this user alone/);
    assert.equal(at.contents(ENCRYPT_PARTIAL).toString(), 'planted');
  });

  test('a failure before the first checkpoint leaves nothing', () => {
    const at = lab();
    at.image('a.raw', 1024 * 1024);
    const outcome = at.run([...ENCRYPT, '--key', 'alias/none', '--json']);
    assert.equal(failureOf(outcome).code, 'ERR_KMS_NOT_FOUND');
    assert.deepEqual(at.names(), ['a.raw']);
  });

  test('not with a stream, a digest, or without fsync', () => {
    const at = lab();
    at.image('a.raw', 4096);
    at.ok(['encrypt', 'a.raw', 'a.vol']);
    for (const args of [
      ['encrypt', '-', 'b.vol', '--size', '4096'],
      ['encrypt', 'a.raw', 'b.vol', '--sha256'],
      ['encrypt', 'a.raw', 'b.vol', '--no-fsync'],
      ['decrypt', 'a.vol', '-'],
      ['decrypt', 'a.vol', 'b.raw', '--sha256'],
      ['decrypt', 'a.vol', 'b.raw', '--no-fsync'],
    ]) {
      const outcome = at.run([...args, '--resume', '--json']);
      assert.equal(outcome.status, 1, outcome.stderr);
      assert.equal(failureOf(outcome).code, 'ERR_ARGUMENT');
      assert.match(failureOf(outcome).message, /this job cannot be resumed: /);
    }
    assert.deepEqual(at.names(), ['a.raw', 'a.vol']);
  });
});
