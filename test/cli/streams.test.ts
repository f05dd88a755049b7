import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { openSync, statSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, test } from 'vitest';
import { MAIN } from '../built.js';
import { skipWithout } from '../interop/tools.js';
import { testUnless } from '../requirements.js';
import { until } from '../until.js';
import { ended, failureOf, type Lab, lab, parsed, rootRefused, unprivileged } from './program.js';

const BYTES = 5 * 1024 * 1024 + 512;

/** A lab with an image and the volume that was made of it through a pipe. */
function streamed(...flags: string[]): { at: Lab; raw: Buffer; said: string } {
  const at = lab();
  const raw = at.image('a.raw', BYTES);
  const { status, text, stderr } = at.shell(`cat a.raw | volseal encrypt - 'a vol' --size ${BYTES} --json ${flags.join(' ')}`);
  assert.equal(status, 0, stderr);
  return { at, raw, said: text };
}

describe('images through pipes', () => {
  for (const sectorBytes of [512, 4096]) {
    test(`${sectorBytes}-byte sectors: in and out again, with a hash`, () => {
      const { at, raw, said } = streamed('--sha256', '--pad', '--sector-size', String(sectorBytes));
      const sha256 = createHash('sha256').update(raw).digest('hex');
      assert.equal(parsed(said).sha256, sha256);
      at.ok(['decrypt', 'a vol', 'b.raw', '--sha256']);
      assert.deepEqual(at.contents('b.raw'), raw);
      const piped = at.shell("volseal decrypt 'a vol' - --json --sha256 | cat > c.raw");
      assert.deepEqual(at.contents('c.raw'), raw);
      assert.deepEqual([parsed(piped.stderr).sha256, parsed(piped.stderr).path, piped.text], [sha256, 'standard output', '']);
    });
  }

  test('a file as standard input counts from where it stands, and one as standard output from its end', () => {
    const at = lab();
    const raw = at.image('a.raw', BYTES);
    const done = at.shell(`(dd bs=512 count=1 of=first status=none; volseal encrypt - a.vol --size ${BYTES - 512}) < a.raw`);
    assert.equal(done.status, 0, done.stderr);
    assert.equal(at.shell('volseal decrypt a.vol - >> first').status, 0);
    assert.deepEqual(at.contents('first'), raw);
  });

  for (const flags of ['', '--sector-size 4096 --pad']) {
    test(`a volume through a pipe, from a file and from a pipe ${flags}`, () => {
      const at = lab();
      const raw = at.image('a.raw', BYTES);
      const sha256 = createHash('sha256').update(raw).digest('hex');
      const sent = at.shell(`volseal encrypt a.raw - --json --sha256 ${flags} | cat > 'a vol'`);
      const said = parsed(sent.stderr);
      assert.deepEqual([said.sha256, said.path, said.allocatedBytes, said.allocation], [sha256, 'standard output', null, 'full']);
      at.ok(['verify', 'a vol', '--against', 'a.raw']);
      const through = at.shell(`cat a.raw | volseal encrypt - - --size ${BYTES} ${flags} | volseal decrypt /dev/stdin - ; true`);
      assert.match(through.stderr, /is a pipe/);
      assert.equal(at.shell(`cat a.raw | volseal encrypt - - --size ${BYTES} ${flags} > 'b vol'`).status, 0);
      at.ok(['verify', 'b vol', '--against', 'a.raw']);
      at.ok(['decrypt', 'b vol', 'b.raw']);
      assert.deepEqual(at.contents('b.raw'), raw);
    });
  }

  test('a volume through a pipe: what a stream cannot do is refused, and nothing is written', () => {
    const at = lab();
    at.image('a.raw', BYTES);
    for (const [flags, why] of [
      ['--sparse', /no holes/],
      ['--resume', /resumed/],
      ['--header a.hdr', /detached header/],
    ] as const) {
      const refused = at.shell(`volseal encrypt a.raw - ${flags} | wc -c`);
      assert.equal(refused.text.trim(), '0');
      assert.match(refused.stderr, why);
    }
    const created = at.run(['create', '-', '--size', '1M']);
    assert.equal(created.status, 1);
    assert.deepEqual(at.names(), ['a.raw']);
  });

  test('a volume through a pipe: a full device, a reader that has gone, Ctrl-C while nobody reads', async () => {
    const at = lab();
    at.image('a.raw', BYTES);
    const full = at.shell('volseal encrypt a.raw - --json > /dev/full; echo $?');
    assert.equal(full.text, '4\n');
    assert.equal(failureOf(full).details.errno, 'ENOSPC');
    assert.equal(at.shell('(volseal encrypt a.raw -; echo $? > status) | head -c 1 > /dev/null; cat status').text, '141\n');
    const stuck = at.shell(`mkfifo pipe; timeout --foreground -s INT 5 volseal encrypt a.raw - --json <> pipe >&0; echo $?`);
    assert.equal(stuck.text, '124\n');
    assert.match(failureOf(stuck).message, /standard output has got a part of the volume/);
  });

  testUnless(rootRefused())('a pipe of another user, as sudo and su leave it, which cannot be opened once more', () => {
    const at = lab();
    const raw = at.image('a.raw', BYTES);
    // The shell opens both ends with root's rights; the program runs without them.
    const volseal = `${unprivileged.join(' ')} volseal`;
    at.shell('mkfifo in out stalled && chmod 600 in out stalled && chown 65534:65534 in out stalled');
    const made = at.shell(`cat a.raw > in & ${volseal} encrypt - 'a vol' --size ${BYTES} < in`);
    assert.equal(made.status, 0, made.stderr);
    const taken = at.shell(`cat out > b.raw & ${volseal} decrypt 'a vol' - > out; status=$?; wait; exit $status`);
    assert.equal(taken.status, 0, taken.stderr);
    assert.deepEqual(at.contents('b.raw'), raw);
    // Opened for both directions, so that it neither ends nor gives anything.
    const stopped = at.shell(`timeout --foreground -s INT 5 ${volseal} encrypt - 'b vol' --size ${BYTES} <> stalled`);
    assert.equal(stopped.status, 124);
    assert.match(stopped.stderr, /stopped on request/);
    assert.equal(at.names().includes('b vol'), false);
  });

  test('sockets do as well: Node gives them to its children', async () => {
    const { at, raw } = streamed();
    const reader = at.start(['decrypt', 'a vol', '-']);
    const received: Buffer[] = [];
    reader.stdout!.on('data', (chunk: Buffer) => received.push(chunk));
    assert.equal((await ended(reader)).status, 0);
    assert.deepEqual(Buffer.concat(received), raw);
    const writer = at.start(['encrypt', '-', 'b.vol', '--size', String(BYTES)]);
    writer.stdin!.end(raw);
    assert.equal((await ended(writer)).status, 0);
    at.ok(['verify', 'b.vol', '--against', 'a.raw']);
  });

  test('a stream that is shorter or longer than its size: what is wrong, where, and no volume', () => {
    const at = lab();
    at.image('a.raw', BYTES);
    for (const [sizeBytes, errno, offsetBytes] of [
      [BYTES + 512, 'ENODATA', BYTES],
      [BYTES - 512, 'EFBIG', BYTES - 512],
      [1024 ** 4, 'ENODATA', BYTES],
    ] as const) {
      const outcome = at.shell(`cat a.raw | volseal encrypt - a.vol --sparse --size ${sizeBytes} --json`);
      assert.equal(outcome.status, 4);
      const { code, details, hint } = failureOf(outcome);
      assert.deepEqual([code, details.errno, details.offsetBytes, details.path], ['ERR_IO', errno, offsetBytes, 'standard input']);
      assert.match(hint!, /--size/);
    }
    assert.deepEqual(at.names(), ['a.raw']);
  });

  test('no size, a size for a file, a size of no whole sectors', () => {
    const at = lab();
    at.image('a.raw', 4096);
    const refusal = (...args: string[]): string => {
      const outcome = at.run(['encrypt', ...args, '--json']);
      assert.equal(outcome.status, 1);
      return failureOf(outcome).message;
    };
    assert.match(refusal('-', 'a.vol'), /needs --size/);
    assert.match(refusal('a.raw', 'a.vol', '--size', '4096'), /a\.raw has a size of its own/);
    assert.match(refusal('-', 'a.vol', '--size', '1000'), /whole number of 512-byte sectors/);
    assert.deepEqual(at.names(), ['a.raw']);
  });

  test('a reader that has ended is not reported as a failure of the disk', () => {
    const { at } = streamed();
    const { text, stderr } = at.shell("(volseal decrypt 'a vol' -; echo $? >&2) | head -c 1000 | wc -c");
    assert.deepEqual([text.trim(), stderr.trim()], ['1000', '141']);
  });

  test('a full device as standard output', () => {
    const { at } = streamed();
    const outcome = at.shell("volseal decrypt 'a vol' - --json > /dev/full");
    assert.equal(outcome.status, 4);
    assert.equal(failureOf(outcome).details.errno, 'ENOSPC');
  });

  testUnless(skipWithout('script'))('a terminal as standard output is refused', () => {
    const { at } = streamed();
    const { text } = at.shell(`script -qec "volseal decrypt 'a vol' -" /dev/null`);
    assert.match(text, /standard output is a terminal/);
  });

  for (const [what, flags, stdio] of [
    ['nothing comes', ['encrypt', '-', 'b.vol', '--size', '1M'], 'stdin'],
    ['nobody reads', ['decrypt', 'a vol', '-'], 'stdout'],
  ] as const) {
    test(`Ctrl-C while ${what}`, async () => {
      const { at } = streamed();
      const child = at.start([...flags]);
      if (stdio === 'stdout') child.stdout!.pause();
      const end = ended(child);
      if (stdio === 'stdout') await once(child.stdout!, 'readable');
      else await untilPartial(at);
      await sleep(200);
      child.kill('SIGINT');
      child.stdout!.resume();
      assert.equal((await end).status, 130);
      assert.deepEqual(at.names(), ['a vol', 'a.raw']);
    });
  }

  test('a directory as standard input', () => {
    const at = lab();
    const child = spawn(process.execPath, [MAIN, 'encrypt', '-', 'a.vol', '--size', '1M', '--json'], {
      cwd: at.directory,
      env: at.env,
      stdio: [openSync(at.directory, 'r'), 'pipe', 'pipe'],
    });
    return ended(child).then(({ status, stderr }) => {
      assert.equal(status, 1);
      assert.match(stderr, /a directory is not a stream/);
    });
  });
});

/** Waits until the job has begun to write. */
async function untilPartial(at: Lab): Promise<void> {
  await until(() => at.names().some((name) => name.endsWith('.partial')));
}

describe('verify', () => {
  test('a volume that is whole, with and without its image; and nothing is changed', () => {
    const { at } = streamed();
    const before = at.contents('a vol');
    assert.match(at.ok(['verify', 'a vol']).text, /digest and MAC match\nthe data was not checked/);
    assert.match(at.ok(['verify', 'a vol', '--against', 'a.raw']).text, new RegExp(`all ${BYTES} bytes`));
    assert.deepEqual(at.contents('a vol'), before);
  });

  test('the first difference, by byte and sector', () => {
    const { at, raw } = streamed('--sector-size', '512');
    for (const offsetBytes of [0, 3_000_001, BYTES - 1]) {
      const other = Buffer.from(raw);
      other[offsetBytes]! ^= 0x80;
      other[BYTES - 1]! ^= 1;
      writeFileSync(at.path('b.raw'), other);
      const outcome = at.run(['verify', 'a vol', '--against', 'b.raw', '--json']);
      assert.equal(outcome.status, 3);
      const { code, details } = failureOf(outcome);
      assert.deepEqual([code, details.offsetBytes, details.sector], ['ERR_IMAGE_DIFFERS', offsetBytes, Math.floor(offsetBytes / 512)]);
    }
  });

  test('an image of another length differs', () => {
    const { at, raw } = streamed();
    for (const other of [raw.subarray(512), Buffer.concat([raw, raw.subarray(0, 512)])]) {
      writeFileSync(at.path('b.raw'), other);
      const outcome = at.run(['verify', 'a vol', '--against', 'b.raw', '--json']);
      assert.deepEqual([outcome.status, failureOf(outcome).details.sizeBytes], [3, other.length]);
    }
  });

  test('one damaged copy, which attaching for writing repairs', () => {
    const { at } = streamed();
    const volume = at.contents('a vol');
    volume[20_000]! ^= 1;
    writeFileSync(at.path('a vol'), volume);
    const outcome = at.run(['verify', 'a vol', '--json']);
    assert.equal(outcome.status, 4);
    const { code, hint, details } = failureOf(outcome);
    assert.equal(code, 'ERR_HEADER_DAMAGED');
    assert.equal((details.copies as Record<string, string>).primary, 'good');
    assert.match(hint!, /volseal write 'a vol' < \/dev\/null/);
    at.ok(['write', 'a vol']);
    at.ok(['verify', 'a vol', '--against', 'a.raw']);
  });

  test('the wrong context, another KMS, and a volume that is cut off', () => {
    const { at } = streamed();
    assert.equal(at.run(['verify', 'a vol', '--context', 'user=bob']).status, 2);
    assert.equal(at.run(['verify', 'a vol', '--kms', 'embedded:/nonexistent/home']).status === 0, false);
    writeFileSync(at.path('short.vol'), at.contents('a vol').subarray(0, statSync(at.path('a vol')).size - 512));
    assert.equal(failureOf(at.run(['verify', 'short.vol', '--json'])).code, 'ERR_VOLUME_SIZE');
  });
});
