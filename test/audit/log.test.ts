import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, onTestFinished, test } from 'vitest';
import { AuditLog, fileOwner } from '../../src/audit/log.js';
import { type AuditQuestion, readAudit } from '../../src/audit/read.js';
import type { AuditRecord } from '../../src/audit/record.js';
import { verifyAudit } from '../../src/audit/verify.js';
import { VolsealError } from '../../src/errors.js';
import { built } from '../built.js';
import { runInjected, skipInjection } from '../faults/injected.js';
import { testUnless } from '../requirements.js';
import { event, ownerOf } from './events.js';

const WRITER = built('test/audit/writer.ts');

function directoryOf(): string {
  const directory = mkdtempSync(join(tmpdir(), 'volseal audit '));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A log of `count` records. */
function written(count: number): { directory: string; path: string; head: string } {
  const directory = directoryOf();
  const log = new AuditLog(directory, ownerOf(directory));
  for (let index = 0; index < count; index++) log.append(event({ requestID: String(index) }));
  log.close();
  return { directory, path: join(directory, 'audit.jsonl'), head: join(directory, 'audit.head') };
}

async function records(directory: string, question: AuditQuestion = {}): Promise<AuditRecord[]> {
  const found: AuditRecord[] = [];
  for await (const record of readAudit([directory], question)) found.push(record);
  return found;
}

const auditFault = (pattern: RegExp) => (error: unknown) =>
  error instanceof VolsealError && error.code === 'ERR_AUDIT' && pattern.test(error.message);

describe('an audit log', () => {
  test('holds what was written, in order and chained, for its user alone', async () => {
    const { directory, path, head } = written(3);
    const found = await records(directory);
    assert.deepEqual(
      found.map(({ requestID, volseal }) => [requestID, volseal.sequence]),
      [
        ['0', 1],
        ['1', 2],
        ['2', 3],
      ],
    );
    assert.equal(found[0]!.volseal.previousHash, '0'.repeat(64));
    assert.equal(new Set(found.map(({ volseal }) => volseal.previousHash)).size, 3);
    for (const file of [path, head]) assert.equal(statSync(file).mode & 0o777, 0o600);
    assert.deepEqual(await verifyAudit(directory, ownerOf(directory)), { records: 3, begunAfter: 0, tornLines: 0, authenticated: true });
  });

  test('that is not there is empty', async () => {
    const directory = join(directoryOf(), 'none');
    assert.deepEqual(await records(directory), []);
    assert.deepEqual(await verifyAudit(directory, ownerOf(directory)), { records: 0, begunAfter: 0, tornLines: 0, authenticated: true });
  });

  test('answers questions', async () => {
    const directory = directoryOf();
    const log = new AuditLog(directory, ownerOf(directory));
    log.append(event());
    log.append(
      event({ eventName: 'CreateGrant', requestParameters: { constraints: { encryptionContextSubset: { 'aws:ebs:id': 'vol-2' } } } }),
    );
    log.append(event({ eventTime: '2026-11-25T07:00:00Z', resources: [] }));
    log.close();
    const count = async (question: AuditQuestion) => (await records(directory, question)).length;
    assert.equal(await count({}), 3);
    assert.equal(await count({ volumeId: 'vol-1' }), 2);
    assert.equal(await count({ volumeId: 'vol-2' }), 1);
    assert.equal(await count({ eventName: 'CreateGrant' }), 1);
    assert.equal(await count({ key: 'k1' }), 2);
    assert.equal(await count({ key: 'arn:aws:kms:local:000000000000:key/k1', volumeId: 'vol-1' }), 1);
    assert.equal(await count({ sinceMs: Date.parse('2026-11-25T00:00:00Z') }), 1);
  });

  test('is followed as it grows, together with another, until the signal', async () => {
    const [one, two] = [directoryOf(), directoryOf()];
    const controller = new AbortController();
    const logs = [new AuditLog(one, ownerOf(one)), new AuditLog(two, ownerOf(two))];
    onTestFinished(() => {
      for (const log of logs) log.close();
    });
    logs[0]!.append(event({ requestID: 'b', eventTime: '2026-11-24T08:00:00Z' }));
    logs[1]!.append(event({ requestID: 'a', eventTime: '2026-11-24T07:00:00Z' }));
    const seen: string[] = [];
    const reading = (async () => {
      for await (const { requestID } of readAudit([one, two], {}, { follow: true, signal: controller.signal })) {
        seen.push(requestID);
        if (seen.length === 2) logs[1]!.append(event({ requestID: 'c' }));
        if (seen.length === 3) controller.abort(new Error('enough'));
      }
    })();
    await assert.rejects(reading, /enough/);
    assert.deepEqual(seen, ['a', 'b', 'c']);
  });
});

describe('a change shows', () => {
  test('of any byte of any line', async () => {
    const { directory, path } = written(3);
    const good = readFileSync(path);
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), async (at, change) => {
        const bad = Buffer.from(good);
        bad[at]! ^= change;
        writeFileSync(path, bad);
        const outcome = await verifyAudit(directory, ownerOf(directory)).catch((error: VolsealError) => error.code);
        if (typeof outcome === 'string') assert.equal(outcome, 'ERR_AUDIT');
        else assert.notEqual(outcome.broken, undefined, `byte ${at}`);
      }),
      { numRuns: 300 },
    );
  });

  const lines = (path: string) => readFileSync(path, 'utf8').trimEnd().split('\n');
  const put = (path: string, all: string[]) => writeFileSync(path, all.map((line) => `${line}\n`).join(''));
  const cases: [string, (path: string) => void, number, RegExp][] = [
    ['a line cut off at the end', (path) => put(path, lines(path).slice(0, -1)), 4, /missing: 4 were written/],
    ['all lines cut off', (path) => put(path, []), 1, /missing/],
    ['the first line gone', (path) => put(path, lines(path).slice(1)), 1, /number 2 instead of 1/],
    [
      'a line in the middle gone',
      (path) =>
        put(
          path,
          lines(path).filter((_, index) => index !== 1),
        ),
      2,
      /number 3 instead of 2/,
    ],
    [
      'two lines exchanged',
      (path) =>
        put(
          path,
          [1, 0, 2, 3].map((index) => lines(path)[index]!),
        ),
      1,
      /number 2/,
    ],
    [
      'a line twice',
      (path) =>
        put(
          path,
          [0, 1, 1, 2, 3].map((index) => lines(path)[index]!),
        ),
      3,
      /number 2 instead of 3/,
    ],
    ['an empty line', (path) => put(path, ['', ...lines(path)]), 1, /not JSON/],
  ];
  for (const [what, change, line, problem] of cases) {
    test(`as ${what}; and nothing is appended to what was cut`, async () => {
      const { directory, path } = written(4);
      const length = statSync(path).size;
      change(path);
      const { broken } = await verifyAudit(directory, ownerOf(directory));
      assert.equal(broken?.line, line, JSON.stringify(broken));
      assert.match(broken.problem, problem);
      if (statSync(path).size >= length) return;
      const log = new AuditLog(directory, ownerOf(directory));
      assert.throws(() => log.append(event()), auditFault(/was cut/));
      log.close();
    });
  }

  test('as lines that somebody added, or a whole log, without the key', async () => {
    const { directory, path, head } = written(2);
    const forged = directoryOf();
    const log = new AuditLog(forged, { ...fileOwner(forged), authenticate: () => Buffer.alloc(32) });
    for (let index = 0; index < 5; index++) log.append(event());
    log.close();
    const good = readFileSync(path);
    appendFileSync(path, good);
    assert.notEqual((await verifyAudit(directory, ownerOf(directory))).broken, undefined);
    writeFileSync(path, readFileSync(join(forged, 'audit.jsonl')));
    assert.notEqual((await verifyAudit(directory, ownerOf(directory))).broken, undefined);
    writeFileSync(head, readFileSync(join(forged, 'audit.head')));
    assert.match((await verifyAudit(directory, ownerOf(directory))).broken?.problem ?? '', /MAC under the root key/);
    rmSync(head);
    assert.match((await verifyAudit(directory, ownerOf(directory))).broken?.problem ?? '', /head .* is missing/);
    const own = new AuditLog(directory, ownerOf(directory));
    assert.throws(() => own.append(event()), auditFault(/has no head/));
    own.close();
  });
});

describe('writers', () => {
  test('four processes at once leave one chain with everything in it', async () => {
    const directory = directoryOf();
    const said: string[] = [];
    await Promise.all(
      Array.from({ length: 4 }, async () => {
        const child = spawn(process.execPath, [WRITER, directory, '50'], { stdio: ['ignore', 'pipe', 'inherit'] });
        child.stdout.on('data', (chunk) => said.push(...String(chunk).trim().split('\n')));
        assert.deepEqual(await once(child, 'close'), [0, null]);
      }),
    );
    const found = (await records(directory)).map(({ requestID }) => requestID);
    assert.deepEqual([...found].sort(), said.sort());
    assert.deepEqual(await verifyAudit(directory, ownerOf(directory)), { records: 200, begunAfter: 0, tornLines: 0, authenticated: true });
  });

  test('killed at any moment, many times, lose no record that they reported as written', async () => {
    const directory = directoryOf();
    const said = new Set<string>();
    for (let round = 0; round < 12; round++) {
      const child = spawn(process.execPath, [WRITER, directory, '0'], { stdio: ['ignore', 'pipe', 'inherit'] });
      let text = '';
      child.stdout.on('data', (chunk) => {
        text += String(chunk);
      });
      await once(child.stdout, 'data');
      await sleep(randomInt(20));
      child.kill('SIGKILL');
      await once(child, 'close');
      for (const line of text.split('\n').slice(0, -1)) said.add(line);
    }
    const log = new AuditLog(directory, ownerOf(directory));
    log.append(event({ requestID: 'last' }));
    log.close();
    const { broken } = await verifyAudit(directory, ownerOf(directory));
    assert.equal(broken, undefined);
    const found = new Set((await records(directory)).map(({ requestID }) => requestID));
    for (const id of said) assert.ok(found.has(id), id);
  });

  test('half a line that a killed one left is set aside, and reported', async () => {
    const { directory, path } = written(2);
    appendFileSync(path, '{"eventVersion":"1.11","userIde');
    const log = new AuditLog(directory, ownerOf(directory));
    log.append(event());
    log.close();
    assert.deepEqual(await verifyAudit(directory, ownerOf(directory)), { records: 3, begunAfter: 0, tornLines: 1, authenticated: true });
    assert.ok(readdirSync(directory).includes('audit.torn-3'));
  });

  for (const [syscall, errno] of [
    ['write', 'ENOSPC'],
    ['fdatasync', 'EIO'],
  ] as const) {
    testUnless(skipInjection())(`${errno} at ${syscall}: the call fails, no half line stays`, async () => {
      const { directory, path } = written(2);
      const before = readFileSync(path);
      const script = built('test/audit/append-once.ts');
      const { stdout } = runInjected(`${syscall}:error=${errno}`, script, [directory], path);
      assert.match(stdout, /^ERR_AUDIT .*audit\.jsonl: the audit log cannot be written/);
      assert.ok(readFileSync(path).equals(before));
      assert.equal((await verifyAudit(directory, ownerOf(directory))).broken, undefined);
    });
  }
});
