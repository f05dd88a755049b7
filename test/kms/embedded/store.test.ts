import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { open } from 'lmdb';
import { describe, test } from 'vitest';
import { VolsealError } from '../../../src/errors.js';
import { EmbeddedKms } from '../../../src/kms/embedded/service.js';
import { STORE_READERS_MAX } from '../../../src/limits.js';
import { usedBytes } from '../../../src/lmdb/meta-page.js';
import { native } from '../../../src/native.js';
import { built, MAIN } from '../../built.js';
import { ask, done, openEmbedded, spent, temporaryHome, withoutLeak } from '../harness.js';

const WRITER = built('test/kms/embedded/store-writer.ts');

function writer(home: string, mode: 'managed' | 'forever'): { child: ChildProcess; output: () => string } {
  const child = spawn(process.execPath, [WRITER, home, mode], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout!.setEncoding('utf8').on('data', (part: string) => {
    text += part;
  });
  return { child, output: () => text };
}

const storeError = (pattern: RegExp) => (error: unknown) =>
  error instanceof VolsealError && error.code === 'ERR_KMS_STORE' && pattern.test(error.message);

describe('the store', () => {
  test('opening it again in one process leaves the lock that tells other processes of it', () => {
    const home = temporaryHome();
    const locksOf = (): number => {
      const { ino } = statSync(join(home, 'kms', 'store.mdb-lock'));
      const held = readFileSync('/proc/locks', 'utf8').split('\n');
      return held.filter((line) => line.includes(` ${process.pid} `) && line.includes(`:${ino} `)).length;
    };
    openEmbedded(home);
    const once = locksOf();
    assert.ok(once > 0);
    openEmbedded(home);
    assert.equal(locksOf(), once);
  });

  test("more than 126 readers at once, which is LMDB's own limit: one more process reads and writes it", async () => {
    const home = temporaryHome();
    const kms = openEmbedded(home);
    // This opens the store once more within the process: it is the same one, with the same table of readers.
    const store = open({ path: join(home, 'kms', 'store.mdb'), noSubdir: true, encoding: 'json', maxReaders: STORE_READERS_MAX });
    const readers = (): number => (store as unknown as { readerList(): string }).readerList().trim().split('\n').length - 1;
    const held: { done(): void }[] = [];
    try {
      while (readers() < 200) {
        held.push((store as unknown as { useReadTransaction(): { done(): void } }).useReadTransaction());
        (store as unknown as { resetReadTxn(): void }).resetReadTxn();
        // The next transaction reads another version of the store, and so has a place of its own.
        done(kms, 'CreateKey');
        assert.ok(held.length < 1000, `${readers()} readers`);
      }
      const run = (...words: string[]): void => {
        const { status, stderr } = spawnSync(process.execPath, [MAIN, 'kms', ...words], {
          env: { ...process.env, VOLSEAL_HOME: home },
          encoding: 'utf8',
        });
        assert.equal(status, 0, stderr);
      };
      run('list-keys');
      run('create-key');
      done(kms, 'CreateKey');
      assert.ok(readers() >= 200);
    } finally {
      for (const transaction of held) transaction.done();
    }
  });

  test('a home that cannot be made is an error, and soon', () => {
    assert.throws(() => EmbeddedKms.open('/proc/nobody/home'), { code: 'ERR_IO' });
  });

  test('is readable by its user alone, and holds no key in the clear', async () => {
    const home = temporaryHome();
    const kms = openEmbedded(home);
    ask(kms, 'DescribeKey', { KeyId: 'alias/aws/ebs' });
    assert.equal(statSync(join(home, 'kms')).mode & 0o777, 0o700);
    for (const name of ['root.key', 'store.mdb', 'store.mdb-lock'])
      assert.equal(statSync(join(home, 'kms', name)).mode & 0o777, 0o600, name);
    assert.equal(statSync(join(home, 'kms', 'root.key')).size, 32);
    await kms.close();
    const copy = open<{ materials: { sealed: string }[] }, string>({
      path: join(home, 'kms', 'store.mdb'),
      noSubdir: true,
      encoding: 'json',
      overlappingSync: false,
    });
    for (const { key, value } of copy.getRange({ start: 'key/', end: 'key0' })) {
      assert.equal(Buffer.from(value.materials[0]!.sealed, 'base64').length, 12 + 32 + 16, key);
    }
    await copy.close();
  });

  test('opens again with the same keys', async () => {
    const home = temporaryHome();
    const first = EmbeddedKms.open(home);
    const made = ask(first, 'GenerateDataKey', { KeyId: 'alias/aws/ebs', NumberOfBytes: 64 });
    const text = spent(made.plaintext);
    await first.close();
    const second = openEmbedded(home);
    assert.equal(spent(ask(second, 'Decrypt', { CiphertextBlob: made.body.CiphertextBlob }).plaintext), text);
  });

  test('two of this process see each other at once', () => {
    const home = temporaryHome();
    const [one, two] = [openEmbedded(home), openEmbedded(home)];
    for (let index = 0; index < 20; index++) {
      const { KeyId } = ask(index % 2 === 0 ? one : two, 'CreateKey').body.KeyMetadata;
      assert.equal(ask(index % 2 === 0 ? two : one, 'DescribeKey', { KeyId }).body.KeyMetadata?.KeyId, KeyId);
      ask(one, 'DisableKey', { KeyId });
      assert.equal(ask(two, 'GenerateDataKey', { KeyId, NumberOfBytes: 64 }).body.__type, 'DisabledException');
    }
  });

  test('a worker thread and this one share it', async () => {
    const home = temporaryHome();
    const kms = openEmbedded(home);
    const worker = new Worker(WRITER, { argv: [home, 'managed'], stdout: true });
    assert.equal((await once(worker, 'exit'))[0], 0);
    assert.equal(ask(kms, 'ListKeys').body.Keys.length, 1);
    ask(kms, 'CreateKey');
    assert.equal(ask(kms, 'ListKeys').body.Keys.length, 2);
  });

  test('processes that start together on an empty home make one root key and one AWS managed key', async () => {
    for (let round = 0; round < 4; round++) {
      const home = temporaryHome();
      const writers = [1, 2, 3, 4].map(() => writer(home, 'managed'));
      const exits = await Promise.all(writers.map(({ child }) => once(child, 'close')));
      assert.deepEqual(
        exits.map(([code]) => code),
        [0, 0, 0, 0],
      );
      assert.equal(new Set(writers.map(({ output }) => output())).size, 1);
      const kms = openEmbedded(home);
      assert.equal(ask(kms, 'ListKeys').body.Keys.length, 1);
      assert.equal(ask(kms, 'ListAliases').body.Aliases.length, 1);
    }
  });

  test('kill -9 at any moment loses nothing that was answered', async () => {
    const home = temporaryHome();
    let answered = 0;
    for (let round = 0; round < 12; round++) {
      const writers = [writer(home, 'forever'), writer(home, 'forever')];
      // Once as many calls are answered as this round asks for: whatever comes next is cut. (`killed.test.ts` cuts the
      // opening.)
      while (writers.some(({ output }) => output().split('\n').length <= round)) await once(writers[0]!.child.stdout!, 'data');
      for (const { child } of writers) child.kill('SIGKILL');
      await Promise.all(writers.map(({ child }) => once(child, 'close')));
      const kms = EmbeddedKms.open(home);
      // The last line may have been cut by the kill.
      const lines = writers.flatMap(({ output }) => output().split('\n').slice(0, -1));
      for (const line of lines) {
        const [KeyId, CiphertextBlob] = line.split(' ');
        spent(ask(kms, 'Decrypt', { KeyId, CiphertextBlob }).plaintext);
      }
      answered += lines.length;
      for (const { TargetKeyId } of ask(kms, 'ListAliases', { Limit: 100 }).body.Aliases) {
        assert.equal(ask(kms, 'DescribeKey', { KeyId: TargetKeyId }).status, 200, 'an alias of no key');
      }
      assert.equal(ask(kms, 'CreateKey').status, 200);
      await kms.close();
    }
    assert.ok(answered > 20, `only ${answered} answers: the rounds ended too early to prove anything`);
  });
});

describe('a store that cannot be used', () => {
  async function made(): Promise<{ home: string; rootKey: string; store: string }> {
    const home = temporaryHome();
    const kms = EmbeddedKms.open(home);
    ask(kms, 'DescribeKey', { KeyId: 'alias/aws/ebs' });
    await kms.close();
    return { home, rootKey: join(home, 'kms', 'root.key'), store: join(home, 'kms', 'store.mdb') };
  }

  test('a root key that others may read', async () => {
    const { home, rootKey } = await made();
    chmodSync(rootKey, 0o640);
    assert.throws(() => EmbeddedKms.open(home), storeError(/root\.key.*640.*chmod 600/));
    chmodSync(rootKey, 0o600);
    await EmbeddedKms.open(home).close();
  });

  test('a root key that is missing is not replaced', async () => {
    const { home, rootKey } = await made();
    renameSync(rootKey, `${rootKey}.away`);
    assert.throws(() => EmbeddedKms.open(home), storeError(/root\.key is missing.*backup/));
    assert.throws(() => statSync(rootKey));
    renameSync(`${rootKey}.away`, rootKey);
    await EmbeddedKms.open(home).close();
  });

  test('a root key of another store, or cut short', async () => {
    await withoutLeak(async () => {
      const [one, other] = [await made(), await made()];
      copyFileSync(other.rootKey, one.rootKey);
      assert.throws(() => EmbeddedKms.open(one.home), storeError(/is not the root key/));
      truncateSync(other.rootKey, 31);
      assert.throws(() => EmbeddedKms.open(other.home), storeError(/31 bytes instead of 32/));
    });
  });

  test('a draft that a killed process left behind does no harm', async () => {
    const home = temporaryHome();
    const kms = EmbeddedKms.open(home);
    await kms.close();
    rmSync(join(home, 'kms'), { recursive: true });
    const again = EmbeddedKms.open(home);
    await again.close();
    const fresh = temporaryHome();
    await EmbeddedKms.open(fresh).close();
    const kept = readFileSync(join(fresh, 'kms', 'root.key'));
    rmSync(join(fresh, 'kms', 'store.mdb'));
    writeFileSync(join(fresh, 'kms', 'root.key.new'), 'half', { mode: 0o600 });
    await EmbeddedKms.open(fresh).close();
    assert.deepEqual(readFileSync(join(fresh, 'kms', 'root.key')), kept);
  });

  test('a file that is no store, or a store cut short', async () => {
    const { home, store } = await made();
    const whole = readFileSync(store);
    for (const length of [1, 4096, 8191, 8192, usedBytes(whole)! - 4096]) {
      writeFileSync(store, whole.subarray(0, length));
      assert.throws(() => EmbeddedKms.open(home), storeError(/store\.mdb is (not the store|cut short)/), `${length} bytes`);
    }
    for (const at of [24, 28, 4096 + 24]) {
      const damaged = Buffer.from(whole);
      damaged[at]! ^= 1;
      writeFileSync(store, damaged);
      assert.throws(() => EmbeddedKms.open(home), storeError(/not the store/), `byte ${at}`);
    }
    writeFileSync(store, Buffer.alloc(65536, 'not the store '));
    assert.throws(() => EmbeddedKms.open(home), storeError(/not the store/));
    writeFileSync(store, whole);
    const kms = openEmbedded(home);
    assert.equal(ask(kms, 'ListKeys').body.Keys.length, 1);
  });

  test('records of another shape, or moved to another key', async () => {
    const { home, store } = await made();
    const edit = async (change: (database: ReturnType<typeof open>) => void): Promise<void> => {
      const database = open({ path: store, noSubdir: true, encoding: 'json', overlappingSync: false });
      change(database);
      await database.close();
    };
    const kms = EmbeddedKms.open(home);
    const { KeyId } = ask(kms, 'CreateKey').body.KeyMetadata;
    const managed = ask(kms, 'DescribeKey', { KeyId: 'alias/aws/ebs' }).body.KeyMetadata.KeyId;
    await kms.close();
    let good: Record<string, unknown> = {};
    await edit((database) => {
      good = database.get(`key/${KeyId}`) as Record<string, unknown>;
      database.putSync(`key/${KeyId}`, { ...good, state: 'Broken' });
    });
    let damaged = EmbeddedKms.open(home);
    assert.throws(() => ask(damaged, 'DescribeKey', { KeyId }), storeError(/key\/.*state/));
    assert.throws(() => ask(damaged, 'ListKeys'), storeError(/state/));
    await damaged.close();
    await edit((database) => {
      const other = database.get(`key/${managed}`) as Record<string, unknown>;
      database.putSync(`key/${KeyId}`, { ...good, materials: other.materials });
    });
    damaged = EmbeddedKms.open(home);
    await withoutLeak(() =>
      assert.throws(() => ask(damaged, 'GenerateDataKey', { KeyId, NumberOfBytes: 64 }), storeError(/does not open under the root key/)),
    );
    await damaged.close();
    await edit((database) => database.putSync('store', { format: 2, rootKeyCheck: '' }));
    assert.throws(() => EmbeddedKms.open(home), storeError(/another version/));
  });

  test('a home that cannot be made', () => {
    assert.throws(
      () => EmbeddedKms.open('/dev/null/home'),
      (error) => error instanceof VolsealError && error.code === 'ERR_IO' && error.message.includes('/dev/null/home'),
    );
  });
});

test('closing wipes the root key, may be done twice, and ends everything', async () => {
  const before = native.vaultInfo().liveKeys;
  const kms = EmbeddedKms.open(temporaryHome());
  assert.equal(native.vaultInfo().liveKeys, before + 1);
  await kms.close();
  assert.equal(native.vaultInfo().liveKeys, before);
  await kms.close();
  assert.throws(
    () => ask(kms, 'ListKeys'),
    (error) => error instanceof VolsealError && error.code === 'ERR_ARGUMENT' && /closed/.test(error.message),
  );
});
