/**
 * A caller's signal while KMS is asked: it ends the waiting at once, leaves no key and no target, and disturbs nobody
 * else.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, onTestFinished, test } from 'vitest';
import { attach, createVolume, decryptImage, encryptImage, type VolsealError } from '../../src/index.js';
import { openKms } from '../../src/kms/client/calls.js';
import { serveKms } from '../../src/kms/embedded/http/server.js';
import { KMS_REQUEST_TIMEOUT_MS } from '../../src/limits.js';
import { native } from '../../src/native.js';
import { leasePool, poolIsUsed } from '../../src/workers/pool.js';
import { serveFake } from '../kms/client/fake-server.js';
import { signAs } from '../kms/harness.js';
import { until } from '../until.js';
import { sandbox } from '../volume/sandbox.js';

interface Stalled {
  url: string;
  /** Resolves with the first request that came, when its answer has come as far as it will. */
  asked: Promise<ServerResponse>;
}

/** A KMS that says `beginning`, or nothing, and then waits for ever. */
async function stalledKms(beginning?: string): Promise<Stalled> {
  let tell: (response: ServerResponse) => void;
  const asked = new Promise<ServerResponse>((resolve) => {
    tell = resolve;
  });
  const url = await serveFake((response) => {
    if (beginning !== undefined) {
      response.writeHead(200, { 'content-type': 'application/x-amz-json-1.1', 'content-length': beginning.length + 1 });
      response.write(beginning);
    }
    tell(response);
  });
  return { url, asked };
}

/**
 * Starts `job`, aborts it once KMS was asked, and gives the error that it must end with: long before KMS would have
 * timed out.
 */
async function aborted({ asked }: Stalled, job: (signal: AbortSignal) => Promise<unknown>): Promise<VolsealError> {
  const controller = new AbortController();
  const failure = job(controller.signal).then(
    () => assert.fail('it was not stopped'),
    (error: VolsealError) => error,
  );
  const response = await asked;
  const gone = once(response, 'close');
  const startMs = performance.now();
  controller.abort();
  const error = await failure;
  assert.equal(error.code, 'ERR_ABORTED', error.message);
  await gone;
  assert.ok(performance.now() - startMs < KMS_REQUEST_TIMEOUT_MS / 2, 'it waited for a time-out');
  return error;
}

describe('stopped while KMS is asked', () => {
  for (const [where, beginning] of [
    ['before it answers', undefined],
    ['in the middle of a reply with a key', `{"KeyId":"arn","Plaintext":"${'QUJD'.repeat(20)}`],
  ] as const) {
    test(`${where}: attach fails, and a volume in the same pool keeps working`, async () => {
      const box = sandbox();
      for (const name of ['a.vol', 'b.vol']) await createVolume(box.path(name), { sizeBytes: 4096, kms: box.kms });
      const volume = await attach(box.path('a.vol'), { kms: box.kms });
      const kms = await stalledKms(beginning);
      const error = await aborted(kms, (signal) =>
        attach(box.path('b.vol'), { kms: kms.url, home: box.path('home'), readOnly: true, signal }),
      );
      assert.match(error.message, /b\.vol: Decrypt under key arn:.* at KMS http.*: stopped on request/);
      assert.equal(error.details.path, box.path('b.vol'));
      await volume.write(0, Buffer.from('going on'));
      assert.equal(Buffer.from(await volume.read(0, 8)).toString(), 'going on');
      assert.equal(native.vaultInfo().liveKeys, 1);
      await volume.detach();
      assert.equal(poolIsUsed(), false);
      // The lock is free again.
      await (await attach(box.path('b.vol'), { kms: box.kms })).detach();
    });
  }

  test('encrypt, create and decrypt leave no target', async () => {
    const box = sandbox();
    box.image('a.raw', 4096);
    await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms });
    const before = readdirSync(box.directory).sort();
    for (const job of [
      (kms: string, signal: AbortSignal) => encryptImage(box.path('a.raw'), box.path('b.vol'), { kms, signal }),
      (kms: string, signal: AbortSignal) => createVolume(box.path('c.vol'), { kms, signal, sizeBytes: 4096 }),
      (kms: string, signal: AbortSignal) => decryptImage(box.path('a.vol'), box.path('b.raw'), { kms, signal }),
    ]) {
      const kms = await stalledKms();
      await aborted(kms, (signal) => job(kms.url, signal));
      assert.deepEqual(readdirSync(box.directory).sort(), before);
      assert.equal(native.vaultInfo().liveKeys, 0);
      assert.equal(poolIsUsed(), false);
    }
  });

  test('every call of a KMS client', async () => {
    const kms = await stalledKms();
    const controller = new AbortController();
    const client = openKms({ kind: 'url', url: kms.url, auditHome: sandbox().directory }, controller.signal);
    onTestFinished(() => client.close());
    const wrapped = { keyArn: 'arn:aws:kms:eu-west-1:1:key/1', encryptedDataKey: Buffer.alloc(100), context: { a: '1' } };
    const calls = [
      client.generateWrappedKey({ keyId: 'alias/a', context: { a: '1' } }),
      client.unwrapKey(wrapped),
      client.createKey(),
      client.describeKey({ keyId: 'alias/a' }),
      client.listKeys(),
      client.createAlias({ aliasName: 'alias/b', keyId: '1' }),
      client.listAliases(),
    ].map((call) => assert.rejects(call, { code: 'ERR_ABORTED' }));
    await kms.asked;
    controller.abort();
    await Promise.all(calls);
    await assert.rejects(client.listKeys(), { code: 'ERR_ABORTED' });
  });
});

test('a signal that has come already: KMS is not asked', async () => {
  const box = sandbox();
  await createVolume(box.path('a.vol'), { sizeBytes: 4096, kms: box.kms });
  let requests = 0;
  const url = await serveFake(() => {
    requests += 1;
  });
  const signal = AbortSignal.abort();
  await assert.rejects(attach(box.path('a.vol'), { kms: url, home: box.path('home'), signal }), {
    code: 'ERR_ABORTED',
    message: `${box.path('a.vol')}: stopped on request; the volume was not attached`,
  });
  await assert.rejects(createVolume(box.path('b.vol'), { kms: url, home: box.path('home'), signal, sizeBytes: 512 }), {
    code: 'ERR_ABORTED',
    message: 'stopped on request; targets are as they were before',
  });
  assert.equal(requests, 0);
  assert.equal(native.vaultInfo().liveKeys, 0);
});

test('at any moment of an attach: a volume or none, and no key too many', async () => {
  const box = sandbox();
  const server = await serveKms({ home: box.path('home'), host: '127.0.0.1', port: 0 });
  onTestFinished(() => server.close());
  await signAs(box.path('home'));
  for (const name of ['a.vol', 'b.vol']) await createVolume(box.path(name), { sizeBytes: 4096, kms: server.url, home: box.path('home') });
  // Holds the pool, so that only the first round waits for its threads.
  await using holder = await attach(box.path('a.vol'), { kms: server.url, home: box.path('home') });
  const { liveKeys } = native.vaultInfo();
  const outcomes = new Set<string>();
  // Until the signal comes too late a few times, however slow the machine.
  for (let delayMs = 0, attached = 0; attached < 5; delayMs++) {
    const controller = new AbortController();
    const attaching = attach(box.path('b.vol'), { kms: server.url, home: box.path('home'), signal: controller.signal }).then(
      (volume) => volume.detach().then(() => 'attached'),
      (error: VolsealError) => error.code,
    );
    await sleep(delayMs);
    controller.abort();
    const outcome = await attaching;
    outcomes.add(outcome);
    if (outcome === 'attached') attached += 1;
    // The server is in this process too: it wipes what it was about to send once it sees that nobody waits for it.
    await until(() => native.vaultInfo().liveKeys === liveKeys);
  }
  assert.deepEqual([...outcomes].sort(), ['ERR_ABORTED', 'attached']);
  assert.equal((await holder.read(0, 1)).length, 1);
});

test('a call to KMS that waits for its thread to get ready ends at the signal', async () => {
  const box = sandbox();
  await createVolume(box.path('a.vol'), { sizeBytes: 4096, kms: box.kms });
  const pool = leasePool();
  pool.expectKms('embedded');
  const controller = new AbortController();
  const attaching = attach(box.path('a.vol'), { kms: box.kms, signal: controller.signal });
  controller.abort();
  await assert.rejects(attaching, { code: 'ERR_ABORTED' });
  // And what was made ready serves the next one.
  await (await attach(box.path('a.vol'), { kms: box.kms })).detach();
  await pool.release();
  assert.deepEqual([native.vaultInfo().liveKeys, poolIsUsed()], [0, false]);
});
