import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import { KMS_REQUEST_TIMEOUT_MS } from '../../src/limits.js';
import { serveFake } from '../kms/client/fake-server.js';
import { until } from '../until.js';
import { ended, firstLine, type Lab, lab, parsed } from './program.js';

/** Long enough that a signal after its first progress line comes in the middle. */
const LARGE_BYTES = 1024 * 1024 * 1024;

/** Waits for a file that holds a number. */
function numberIn(at: Lab, name: string): Promise<number> {
  return until(() => existsSync(at.path(name)) && (Number.parseInt(at.contents(name).toString(), 10) || false));
}

/** Where the first piece of a write to offset 0 ends in the file: 1 MiB of header, then 4 MiB. */
const FIRST_PIECE_END = 5 * 1024 * 1024;

function largeImage(at: Lab): void {
  writeFileSync(at.path('large.raw'), '');
  truncateSync(at.path('large.raw'), LARGE_BYTES);
}

describe('interrupted', () => {
  for (const [signal, status] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    test(`encrypt by ${signal} leaves nothing, and status ${status}`, async () => {
      const at = lab();
      largeImage(at);
      const child = at.start(['encrypt', 'large.raw', 'a.vol', '--header', 'a.header', '--json', '--progress']);
      const end = ended(child);
      await firstLine(child, 'stderr');
      child.kill(signal);
      const outcome = await end;
      assert.equal(outcome.status, status, outcome.stderr);
      const { error } = parsed(outcome.stderr.trimEnd().split('\n').at(-1)!) as { error: { code: string } };
      assert.equal(error.code, 'ERR_ABORTED');
      assert.deepEqual(at.names(), ['large.raw']);
    });
  }

  test('decrypt and a replacing encrypt leave the targets that were there', async () => {
    const at = lab();
    at.ok(['create', 'a.vol', '--size', '512M', '--full']);
    const old = at.image('old.raw', 1000);
    const volume = at.contents('a.vol');
    largeImage(at);
    for (const args of [
      ['decrypt', 'a.vol', 'old.raw'],
      ['encrypt', 'large.raw', 'a.vol'],
    ]) {
      const child = at.start([...args, '--force', '--json', '--progress']);
      const end = ended(child);
      await firstLine(child, 'stderr');
      child.kill('SIGINT');
      assert.equal((await end).status, 130);
    }
    assert.deepEqual(at.contents('old.raw'), old);
    assert.ok(at.contents('a.vol').equals(volume));
    assert.deepEqual(at.names(), ['a.vol', 'large.raw', 'old.raw']);
  });

  test('kill -9 in the middle of encrypt: no target', async () => {
    const at = lab();
    largeImage(at);
    const child = at.start(['encrypt', 'large.raw', 'a.vol', '--json', '--progress']);
    const end = ended(child);
    await firstLine(child, 'stderr');
    child.kill('SIGKILL');
    assert.equal((await end).signal, 'SIGKILL');
    assert.ok(!at.names().includes('a.vol'));
    // What it leaves is out of the way and the KMS store is sound.
    truncateSync(at.path('large.raw'), 4096);
    at.ok(['encrypt', 'large.raw', 'a.vol']);
    assert.deepEqual(at.ok(['read', 'a.vol']).stdout, Buffer.alloc(4096));
  });

  test('read, while nobody reads its output', async () => {
    const at = lab();
    at.ok(['create', 'a.vol', '--size', '32M']);
    const child = at.start(['read', 'a.vol']);
    const end = ended(child);
    await new Promise((resolve) => child.stdout!.once('readable', resolve));
    const exited = once(child, 'exit');
    child.kill('SIGINT');
    // Nothing reads the output before the program has ended: a program that waits for its reader never ends.
    const [status] = await exited;
    child.stdout!.resume();
    const { stderr } = await end;
    assert.equal(status, 130, stderr);
    assert.match(stderr, /a\.vol: stopped on request/);
  });

  test('while credentials are being fetched: at once, with nothing left', async () => {
    const at = lab();
    at.image('a.raw', 4096);
    at.ok(['encrypt', 'a.raw', 'a.vol']);
    // Writes down that it was asked, and does not answer for longer than a test may take.
    writeFileSync(at.path('credentials.sh'), 'echo $$ > "$1"; exec sleep 600 > /dev/null 2>&1\n');
    const config = ['[default]', 'region = eu-central-1', `credential_process = sh "${at.path('credentials.sh')}" "${at.path('asked')}"`];
    writeFileSync(at.path('config'), `${config.join('\n')}\n`);
    const before = at.names();
    for (const kms of ['aws:eu-central-1', 'http://127.0.0.1:9']) {
      for (const args of [
        ['kms', 'list-keys'],
        ['encrypt', 'a.raw', 'b.vol'],
        ['decrypt', 'a.vol', 'b.raw'],
        ['read', 'a.vol'],
      ]) {
        const child = at.start([...args, '--kms', kms], { AWS_CONFIG_FILE: at.path('config') });
        const end = ended(child);
        const pid = await numberIn(at, 'asked');
        child.kill('SIGINT');
        const { status, stderr } = await end;
        // It throws where the program has waited for the end of this one.
        process.kill(pid, 'SIGKILL');
        rmSync(at.path('asked'));
        assert.equal(status, 130, stderr);
        assert.match(stderr, /(Decrypt|GenerateDataKey\w+|ListKeys) .*: stopped on request\n$/);
        assert.deepEqual(at.names(), before);
      }
    }
  });

  test('while KMS is asked, and does not answer: at once, with nothing left', async () => {
    const at = lab();
    at.image('a.raw', 4096);
    at.ok(['encrypt', 'a.raw', 'a.vol']);
    const before = at.names();
    let tell = (): void => {};
    const kms = await serveFake(() => tell());
    for (const args of [
      ['encrypt', 'a.raw', 'b.vol'],
      ['create', 'b.vol', '--size', '1M'],
      ['decrypt', 'a.vol', 'b.raw'],
      ['read', 'a.vol'],
      ['write', 'a.vol'],
      ['kms', 'list-keys'],
    ]) {
      const asked = new Promise<void>((resolve) => {
        tell = resolve;
      });
      const child = at.start([...args, '--kms', kms]);
      const end = ended(child);
      await asked;
      const startMs = performance.now();
      child.kill('SIGINT');
      const { status, stderr } = await end;
      assert.equal(status, 130, stderr);
      assert.match(stderr, /volseal: (a\.vol: )?(Decrypt|GenerateDataKey\w+|ListKeys) .*at KMS http:.*: stopped on request\n$/);
      assert.ok(performance.now() - startMs < KMS_REQUEST_TIMEOUT_MS / 2, `${args[0]} waited for a time-out`);
      assert.deepEqual(at.names(), before);
    }
  });

  test('write says how much it wrote, and that much is there', async () => {
    const at = lab();
    at.ok(['create', 'a.vol', '--size', '8M']);
    const child = at.start(['write', 'a.vol']);
    const end = ended(child);
    // One piece and a half: the first is written, the other waits for its rest.
    const bytes = Buffer.alloc(6 * 1024 * 1024, 'written ');
    await new Promise((resolve) => child.stdin!.write(bytes, resolve));
    await until(
      () =>
        !at
          .contents('a.vol')
          .subarray(FIRST_PIECE_END - 512, FIRST_PIECE_END)
          .equals(Buffer.alloc(512)),
    );
    child.kill('SIGINT');
    const { status, stderr } = await end;
    assert.equal(status, 130, stderr);
    assert.match(stderr, /a\.vol: stopped on request; before that 4194304 bytes were written at 0 and flushed/);
    assert.deepEqual(at.ok(['read', 'a.vol', '--length', '4M']).stdout, bytes.subarray(0, 4 * 1024 * 1024));
    assert.deepEqual(at.ok(['read', 'a.vol', '--offset', '4M']).stdout, Buffer.alloc(4 * 1024 * 1024));
  });
});
