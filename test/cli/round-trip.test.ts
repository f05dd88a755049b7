import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import { type Lab, lab, parsed } from './program.js';

const INFO_MEMBERS = [
  'volumeId',
  'uuid',
  'keyId',
  'encryptedDataKey',
  'encryptionContext',
  'cipher',
  'sectorBytes',
  'dataOffsetBytes',
  'sizeBytes',
  'kms',
];

describe('from image to volume and back', () => {
  test('encrypt, info, decrypt, with spaces in every path', () => {
    const { image, contents, ok, names } = lab();
    const raw = image('my disk.raw', 3 * 1024 * 1024 + 512);
    const made = ok(['encrypt', 'my disk.raw', 'my disk.vol', '--context', 'user=alice', '--context', 'note=a=b c']);
    assert.match(made.text, /^encrypted my disk\.raw into my disk\.vol in [0-9.]+ s, [0-9.]+ [KMG]iB\/s\nvolume id +vol-0[0-9a-f]{16}\n/);
    assert.match(made.stderr, /^volseal: made a new root key, .*\n$/);
    const info = ok(['info', 'my disk.vol']).text;
    assert.match(info, /size +3146240 bytes \(3 MiB\)/);
    assert.match(info, /user=alice\n +note=a=b c\n/);
    assert.match(info, /Only the header was read; nothing is proved yet\. To check it with the key: volseal verify/);
    const back = ok(['decrypt', 'my disk.vol', 'my copy.raw']);
    assert.match(
      back.text,
      /^decrypted my disk\.vol \(vol-0[0-9a-f]{16}\) into my copy\.raw: 3146240 bytes \(3 MiB\) in [0-9.]+ s, [0-9.]+ [KMG]iB\/s\n$/,
    );
    assert.deepEqual(contents('my copy.raw'), raw);
    assert.deepEqual(contents('my disk.raw'), raw);
    assert.deepEqual(names(), ['my copy.raw', 'my disk.raw', 'my disk.vol']);
  });

  test('a root key from a command is read in a thread, without a warning', () => {
    const { image, contents, ok, path } = lab();
    const raw = image('a.raw', 65536);
    writeFileSync(path('key'), `${randomBytes(32).toString('base64')}\n`);
    ok(['kms', 'init', '--command', '--', 'cat', path('key')]);
    assert.equal(ok(['encrypt', 'a.raw', 'a.vol']).stderr, '');
    assert.equal(ok(['decrypt', 'a.vol', 'b.raw']).stderr, '');
    assert.deepEqual(contents('b.raw'), raw);
  });

  test('every command prints one JSON object', () => {
    const { image, ok, run } = lab();
    image('a.raw', 65536);
    const json = (...args: string[]): Record<string, unknown> => {
      const outcome = ok([...args, '--json']);
      assert.equal(outcome.stderr, '', args.join(' '));
      assert.match(outcome.text, /^\{.*\}\n$/);
      return parsed(outcome.text);
    };
    const encrypted = json('encrypt', 'a.raw', 'a.vol', '--sector-size', '4096', '--context', 'user=alice');
    const info = json('info', 'a.vol');
    const { dataSeconds, ...made } = encrypted;
    assert.ok((dataSeconds as number) > 0);
    assert.deepEqual(made, info);
    for (const member of INFO_MEMBERS) assert.ok(Object.hasOwn(info, member), member);
    assert.equal(info.sectorBytes, 4096);
    assert.equal(info.sizeBytes, 65536);
    assert.equal(info.kms, 'embedded');
    assert.deepEqual(info.encryptionContext, { 'aws:ebs:id': info.volumeId, user: 'alice' });
    const { dataSeconds: seconds, ...decrypted } = json('decrypt', 'a.vol', 'b.raw');
    assert.ok((seconds as number) > 0);
    assert.deepEqual(decrypted, { volumeId: info.volumeId, path: 'b.raw', imageBytes: 65536 });
    assert.equal(json('create', 'c.vol', '--size', '64K').sizeBytes, 65536);
    const write = parsed(ok(['write', 'a.vol', '--offset', '1K', '--json'], { input: 'hello' }).text);
    assert.deepEqual(write, { volumeId: info.volumeId, path: 'a.vol', offsetBytes: 1024, writtenBytes: 5 });
    const read = run(['read', 'a.vol', '--offset', '1K', '--length', '5', '--json']);
    assert.equal(read.text, 'hello');
    assert.deepEqual(parsed(read.stderr), { volumeId: info.volumeId, offsetBytes: 1024, readBytes: 5 });

    const key = json('kms', 'create-key', '--description', 'disks');
    assert.equal(key.description, 'disks');
    assert.equal(key.state, 'Enabled');
    const { keys } = json('kms', 'list-keys') as { keys: { keyId: string; keyArn: string }[] };
    assert.deepEqual(keys.map(({ keyArn }) => keyArn).sort(), [key.keyArn, info.keyId].sort());
    const { keyId } = key as { keyId: string };
    assert.deepEqual(json('kms', 'create-alias', 'alias/disks', keyId), { aliasName: 'alias/disks', keyId });
    const { aliases } = json('kms', 'list-aliases') as { aliases: { aliasName: string; keyId: string }[] };
    assert.ok(aliases.some((alias) => alias.aliasName === 'alias/disks' && alias.keyId === keyId));
    assert.equal(json('create', 'd.vol', '--size', '64K', '--key', 'alias/disks').keyId, key.keyArn);
  });

  test('an image that is no whole number of sectors comes back with its exact length', () => {
    const { image, contents, ok } = lab();
    const raw = image('odd.raw', 100_001);
    const made = parsed(ok(['encrypt', 'odd.raw', 'odd.vol', '--pad', '--sector-size', '4096', '--json']).text);
    assert.equal(made.imageBytes, 100_001);
    assert.equal(made.sizeBytes, 102_400);
    ok(['decrypt', 'odd.vol', 'copy.raw']);
    assert.deepEqual(contents('copy.raw'), raw);
  });

  test('a detached header leaves the data its exact size', () => {
    const { image, contents, ok, path } = lab();
    const raw = image('a.raw', 8192);
    ok(['encrypt', 'a.raw', 'a.vol', '--header', 'a.header']);
    assert.equal(statSync(path('a.vol')).size, 8192);
    assert.match(ok(['info', 'a.vol', '--header', 'a.header']).text, /header +a\.header\n/);
    ok(['decrypt', 'a.vol', 'b.raw', '--header', 'a.header']);
    assert.deepEqual(contents('b.raw'), raw);
  });

  test('VOLSEAL_KMS is the default of --kms, and an empty one counts as unset', () => {
    const { image, ok, path } = lab();
    image('a.raw', 512);
    const elsewhere = `embedded:${path('other home')}`;
    ok(['encrypt', 'a.raw', 'a.vol'], { env: { VOLSEAL_KMS: elsewhere } });
    ok(['decrypt', 'a.vol', 'b.raw', '--kms', elsewhere], { env: { VOLSEAL_KMS: 'http://127.0.0.1:9' } });
    ok(['create', 'c.vol', '--size', '512'], { env: { VOLSEAL_KMS: '' } });
    assert.deepEqual(parsed(ok(['kms', 'list-keys', '--json', '--kms', elsewhere]).text).keys, [
      { keyId: keyIdIn(path('a.vol'), ok), keyArn: `arn:aws:kms:local:000000000000:key/${keyIdIn(path('a.vol'), ok)}` },
    ]);
  });
});

describe('read and write', () => {
  test('what is written at any offset is read back, and the bytes around it stay', () => {
    const { image, ok } = lab();
    const expected = image('a.raw', 10 * 1024 * 1024);
    ok(['encrypt', 'a.raw', 'a.vol']);
    for (const [offsetBytes, lengthBytes] of [
      [0, 1],
      [511, 2],
      [4 * 1024 * 1024 - 7, 4 * 1024 * 1024 + 20],
      [10 * 1024 * 1024 - 3, 3],
      [777, 0],
    ] as const) {
      const bytes = randomBytes(lengthBytes);
      bytes.copy(expected, offsetBytes);
      assert.match(
        ok(['write', 'a.vol', '--offset', String(offsetBytes)], { input: bytes }).text,
        new RegExp(`^wrote ${lengthBytes} bytes`),
      );
      const range = ['--offset', String(offsetBytes), '--length', String(lengthBytes)];
      assert.deepEqual(ok(['read', 'a.vol', ...range]).stdout, bytes);
    }
    assert.deepEqual(ok(['read', 'a.vol']).stdout, expected);
    assert.deepEqual(ok(['read', 'a.vol', '--offset', '9M']).stdout, expected.subarray(9 * 1024 * 1024));
  });

  test('a pipe into write and out of read', () => {
    const { image, ok, shell, contents } = lab();
    const bytes = image('in.bin', 6_000_000);
    ok(['create', 'a.vol', '--size', '8M', '--sector-size', '4096']);
    const outcome = shell(
      'cat in.bin | volseal write a.vol --offset 1000 && volseal read a.vol --offset 1000 --length 6000000 | cat > out.bin',
    );
    assert.equal(outcome.status, 0, outcome.stderr);
    assert.deepEqual(contents('out.bin'), bytes);
    assert.deepEqual(ok(['read', 'a.vol', '--length', '1000']).stdout, Buffer.alloc(1000));
  });

  test('data beyond the end is refused; what was written before is named and kept', () => {
    const { ok, run } = lab();
    ok(['create', 'a.vol', '--size', '5M']);
    const input = randomBytes(6 * 1024 * 1024);
    const outcome = run(['write', 'a.vol'], { input });
    assert.equal(outcome.status, 1);
    assert.match(
      outcome.stderr,
      /reaches beyond the end of the volume, which has 5242880 bytes; before that 4194304 bytes were written at 0 and flushed/,
    );
    assert.deepEqual(ok(['read', 'a.vol', '--length', '4M']).stdout, input.subarray(0, 4 * 1024 * 1024));
    assert.deepEqual(ok(['read', 'a.vol', '--offset', '4M']).stdout, Buffer.alloc(1024 * 1024));
  });

  test('a read beyond the end gives no byte at all', () => {
    const { ok, run } = lab();
    ok(['create', 'a.vol', '--size', '5M']);
    for (const range of [
      ['--offset', '4M', '--length', '2M'],
      ['--offset', '6M'],
      ['--offset', '5M', '--length', '1'],
    ]) {
      const outcome = run(['read', 'a.vol', ...range]);
      assert.equal(outcome.status, 1);
      assert.equal(outcome.stdout.length, 0);
      assert.match(outcome.stderr, /reach beyond the volume's 5242880/);
    }
    assert.equal(ok(['read', 'a.vol', '--offset', '5M']).stdout.length, 0);
  });

  test('a reader that leaves early ends read quietly', () => {
    const { ok, shell } = lab();
    ok(['create', 'a.vol', '--size', '32M']);
    const outcome = shell('{ volseal read a.vol; echo $? > status; } | head -c 10 | wc -c; cat status');
    assert.equal(outcome.text.replace(/\s+/g, ' '), '10 141 ');
    assert.equal(outcome.stderr, '');
  });
});

describe('targets', () => {
  test('an existing target is kept without --force, and replaced as a whole with it', () => {
    const { image, contents, run, ok, names } = lab();
    image('a.raw', 4096);
    const old = image('a.vol', 100);
    const refused = run(['encrypt', 'a.raw', 'a.vol']);
    assert.equal(refused.status, 4);
    assert.match(refused.stderr, /^volseal: a\.vol: exists already and was left as it is\nhint: .*--force/);
    assert.deepEqual(contents('a.vol'), old);
    ok(['encrypt', 'a.raw', 'a.vol', '--force']);
    const keep = image('b.raw', 10);
    assert.equal(run(['decrypt', 'a.vol', 'b.raw']).status, 4);
    assert.deepEqual(contents('b.raw'), keep);
    ok(['decrypt', 'a.vol', 'b.raw', '--force']);
    assert.deepEqual(contents('b.raw'), contents('a.raw'));
    assert.deepEqual(names(), ['a.raw', 'a.vol', 'b.raw']);
  });

  test('volumes and images are for their owner alone', () => {
    const { path, ok } = lab();
    const sparse = openSync(path('a.raw'), 'w');
    ftruncateSync(sparse, 4096);
    closeSync(sparse);
    ok(['encrypt', 'a.raw', 'a.vol']);
    assert.equal(statSync(path('a.vol')).mode & 0o777, 0o600);
    assert.notDeepEqual(readFileSync(path('a.vol')).subarray(-4096), Buffer.alloc(4096));
  });
});

function keyIdIn(volume: string, ok: Lab['ok']): string {
  return String(parsed(ok(['info', volume, '--json']).text).keyId).split('/')[1]!;
}
