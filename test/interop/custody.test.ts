/**
 * Key custody, judged from outside: the whole memory of a process that has a volume attached and works on it is
 * searched for the data key, its texts, its pieces and its round keys. The scanner's own controls are in
 * memory-scan.test.ts.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect } from 'node:net';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { createServer as createTlsServer } from 'node:tls';
import { describe, onTestFinished, test } from 'vitest';
import { createVolume } from '../../src/index.js';
import { initialiseKms } from '../../src/kms/embedded/administration.js';
import { serveKms } from '../../src/kms/embedded/http/server.js';
import { built } from '../built.js';
import { selfSigned } from '../kms/client/fake-server.js';
import { signAs } from '../kms/harness.js';
import { lacksNode, nodeExecutable } from '../other-nodes.js';
import { describeUnless, testUnless } from '../requirements.js';
import { dataKeyOf, sandbox } from '../volume/sandbox.js';
import { describeCopies, scanMemory } from './memory-scan.js';
import { requireTool, skipWithout } from './tools.js';

const ATTACHED = built('test/interop/attached-process.ts');
const WITHOUT_SECRET_MEMORY = ['-f', '-qq', '-o', '/dev/null', '-e', 'trace=memfd_secret', '-e', 'inject=memfd_secret:error=ENOSYS'];

async function lineOf(lines: Interface): Promise<string> {
  const [line] = (await once(lines, 'line')) as [string];
  return line;
}

interface AttachedProcess {
  pid: number;
  child: ChildProcess;
  lines: Interface;
}

/** Starts a process that works on volumes (each a path and its KMS); `command` ends with a Node. */
async function startAttached(volumes: string[], command = [process.execPath]): Promise<AttachedProcess> {
  const [program, ...args] = [...command, ATTACHED, ...volumes];
  const child = spawn(program!, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  const lines = createInterface({ input: child.stdout! });
  const pid = Number(await lineOf(lines));
  assert.ok(pid > 1);
  onTestFinished(() => {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It has ended with its wrapper.
    }
  });
  return { pid, child, lines };
}

/** Scans while the process works, then after it detached. `lockedBackend`: the key must be found where it may be. */
async function checkCustody({ pid, child, lines }: AttachedProcess, keys: Buffer[], lockedBackend = false): Promise<void> {
  for (let round = 0; round < 2; round++) {
    await sleep(randomInt(50, 150));
    const scan = scanMemory(pid, keys);
    assert.equal(describeCopies(scan.outside), '', `round ${round}`);
    assert.ok(scan.scannedBytes > 50_000_000, `only ${scan.scannedBytes} bytes were scanned`);
    if (lockedBackend) assert.ok(scan.locked.length > 0, 'the key is in use, so it must be somewhere');
    else assert.ok(scan.unreadable.length > 0, 'secret memory is there and cannot be read');
  }
  child.stdin!.write('detach\n');
  assert.equal(await lineOf(lines), 'detached');
  const scan = scanMemory(pid, keys);
  assert.equal(describeCopies(scan.outside), '');
  assert.equal(describeCopies(scan.locked), '');
}

describe('a process with an attached volume', () => {
  test('embedded KMS in the same process: no copy of the data key, nor of the root key, outside the vault', async () => {
    const box = sandbox();
    await createVolume(box.path('a.vol'), { sizeBytes: 8 * 1024 * 1024, kms: box.kms });
    const keys = [await dataKeyOf(box.path('a.vol'), box.kms), readFileSync(join(box.path('home'), 'kms', 'root.key'))];
    await checkCustody(await startAttached([box.path('a.vol'), box.kms]), keys);
  });

  testUnless(skipWithout('strace'))(
    'the same without memfd_secret: the copies are in locked memory only, and gone after detach',
    async () => {
      const box = sandbox();
      await createVolume(box.path('a.vol'), { sizeBytes: 8 * 1024 * 1024, kms: box.kms });
      const keys = [await dataKeyOf(box.path('a.vol'), box.kms)];
      const command = [requireTool('strace'), ...WITHOUT_SECRET_MEMORY, process.execPath];
      await checkCustody(await startAttached([box.path('a.vol'), box.kms], command), keys, true);
    },
  );
});

// What a reply leaves behind depends on how Node reads sockets, which its versions do differently. The volume of the
// embedded KMS is attached first: no later call overwrites what the last reply left.
for (const name of ['node-20', 'node-22', 'node-24', 'node-26'] as const) {
  describeUnless(lacksNode(name))(`a process with attached volumes, on ${name}`, () => {
    for (const over of ['HTTP', 'TLS']) {
      testUnless(skipWithout('openssl'))(`embedded KMS and ${over}: no copy of a data key outside the vault`, async () => {
        const box = sandbox();
        const server = await serveKms({ home: box.path('home'), host: '127.0.0.1', port: 0 });
        onTestFinished(() => void server.close());
        await signAs(box.path('home'));
        const volumes = ['a.vol', 'b.vol'].map((file) => box.path(file)) as [string, string];
        for (const volume of volumes) await createVolume(volume, { sizeBytes: 8 * 1024 * 1024, kms: box.kms });
        const keys = await Promise.all(volumes.map((volume) => dataKeyOf(volume, box.kms)));
        const { certPath, ...certificate } = selfSigned(box.directory);
        const url = over === 'TLS' ? await tlsBefore(Number(new URL(server.url).port), certificate) : server.url;
        const command = ['env', `NODE_EXTRA_CA_CERTS=${certPath}`, nodeExecutable(name)];
        await checkCustody(await startAttached([volumes[0], box.kms, volumes[1], url], command), keys);
      });
    }

    for (const source of ['command', 'passphrase'] as const) {
      test(`a root key from a ${source}: no copy of what it gives outside the vault`, async () => {
        const box = sandbox();
        const secret = randomBytes(32);
        const file = box.path('secret');
        writeFileSync(file, `${secret.toString(source === 'command' ? 'base64' : 'hex')}\n`);
        await initialiseKms(box.path('home'), source === 'command' ? { command: ['cat', file] } : { passphraseFile: file });
        await createVolume(box.path('a.vol'), { sizeBytes: 8 * 1024 * 1024, kms: box.kms });
        const keys = [await dataKeyOf(box.path('a.vol'), box.kms), secret];
        await checkCustody(await startAttached([box.path('a.vol'), box.kms], [nodeExecutable(name)]), keys);
      });
    }
  });
}

/** A TLS server that passes everything on to a port. @returns its URL */
async function tlsBefore(port: number, certificate: { key: Buffer; cert: Buffer }): Promise<string> {
  const front = createTlsServer(certificate, (client) => {
    const back = connect(port, '127.0.0.1');
    client.pipe(back).pipe(client);
    for (const socket of [client, back]) socket.on('error', () => back.destroy());
  });
  await new Promise<void>((resolve) => front.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void front.close());
  return `https://127.0.0.1:${(front.address() as AddressInfo).port}`;
}
