/**
 * Key custody under replies that no KMS would send: a process asks for a data key, the reply is altered on the way, and
 * the memory of the process is searched for the key. Each reply has a key of its own, so that a copy names the reply
 * that left it. On each version of Node, over HTTP and over TLS.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { createServer as createTlsServer } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { built } from '../built.js';
import { selfSigned } from '../kms/client/fake-server.js';
import { temporaryHome } from '../kms/harness.js';
import { lacksNode, type NodeName, nodeExecutable } from '../other-nodes.js';
import { describeUnless } from '../requirements.js';
import { describeCopies, scanMemory } from './memory-scan.js';

const KEY_ARN = 'arn:aws:kms:us-east-1:111122223333:key/00000000-0000-4000-8000-000000000000';
const CLIENT = built('test/interop/kms-client-process.ts');

/** A reply as bytes: `cut` ends the connection behind it; several pieces are sent one after the other. */
interface Altered {
  readonly pieces: readonly string[];
  readonly cut?: boolean;
  /** The client closes the connection after it has taken the key. */
  readonly isClosedLater?: boolean;
  /** What the call must end with. */
  readonly outcome: string;
}

const bodyOf = (text: string): string => JSON.stringify({ KeyId: KEY_ARN, Plaintext: text, EncryptionAlgorithm: 'SYMMETRIC_DEFAULT' });
const withLength = (body: string, { status = '200 OK', length = body.length, headers = '' } = {}): string =>
  `HTTP/1.1 ${status}\r\n${headers}Content-Type: application/x-amz-json-1.1\r\nContent-Length: ${length}\r\n\r\n${body}`;
const chunk = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n`;
const CHUNKED_HEAD = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';

const ALTERED: Readonly<Record<string, (text: string) => Altered>> = {
  'as KMS sends it': (text) => ({ pieces: [withLength(bodyOf(text))], outcome: 'key' }),
  'in small pieces': (text) => ({ pieces: withLength(bodyOf(text)).match(/.{1,40}/gs)!, outcome: 'key' }),
  'in chunks': (text) => ({
    pieces: [
      CHUNKED_HEAD,
      ...bodyOf(text)
        .match(/.{1,33}/g)!
        .map(chunk),
      '0\r\nX-Trailer: 1\r\n\r\n',
    ],
    outcome: 'key',
  }),
  'after an interim reply': (text) => ({
    pieces: [`HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${withLength(bodyOf(text))}`],
    outcome: 'key',
  }),
  'with the connection closed after it': (text) => ({
    pieces: [withLength(bodyOf(text), { headers: 'Connection: close\r\n' })],
    cut: true,
    outcome: 'key',
  }),
  'status 500': (text) => ({ pieces: [withLength(bodyOf(text), { status: '500 Oops' })], outcome: 'ERR_KMS_UNREACHABLE' }),
  'status 400': (text) => ({ pieces: [withLength(bodyOf(text), { status: '400 Bad' })], outcome: 'ERR_KMS_REPLY' }),
  'status 503 without a length': (text) => ({
    pieces: [`HTTP/1.1 503 Oops\r\n\r\n${bodyOf(text)}`],
    cut: true,
    outcome: 'ERR_KMS_UNREACHABLE',
  }),
  'status 500, the key in a page': (text) => ({
    pieces: [withLength(`<html>${bodyOf(text)}</html>`, { status: '500 Oops' })],
    outcome: 'ERR_KMS_UNREACHABLE',
  }),
  'status 500, the key in an object of its own': (text) => ({
    pieces: [withLength(`{"Output":${bodyOf(text)}}`, { status: '500 Oops' })],
    outcome: 'ERR_KMS_UNREACHABLE',
  }),
  'a redirect': (text) => ({
    pieces: [withLength(bodyOf(text), { status: '302 Found', headers: 'Location: /\r\n' })],
    outcome: 'ERR_KMS_REQUEST',
  }),
  'twice at once': (text) => ({ pieces: [withLength(bodyOf(text)) + withLength(bodyOf(text))], outcome: 'ERR_KMS_REPLY' }),
  'twice, one after the other': (text) => ({
    pieces: [withLength(bodyOf(text)), withLength(bodyOf(text))],
    isClosedLater: true,
    outcome: 'key',
  }),
  'longer than its length': (text) => ({ pieces: [withLength(bodyOf(text), { length: 80 })], outcome: 'ERR_KMS_REPLY' }),
  'shorter than its length': (text) => ({
    pieces: [withLength(bodyOf(text), { length: 900 })],
    cut: true,
    outcome: 'ERR_KMS_UNREACHABLE',
  }),
  'cut in the key': (text) => ({ pieces: [withLength(bodyOf(text)).slice(0, -60)], cut: true, outcome: 'ERR_KMS_UNREACHABLE' }),
  'cut in a chunk': (text) => ({
    pieces: [CHUNKED_HEAD + chunk(bodyOf(text)).slice(0, -60)],
    cut: true,
    outcome: 'ERR_KMS_UNREACHABLE',
  }),
  'said to be compressed': (text) => ({
    pieces: [withLength(bodyOf(text), { headers: 'Content-Encoding: gzip\r\n' })],
    outcome: 'ERR_KMS_REPLY',
  }),
  'the member twice': (text) => ({ pieces: [withLength(`{"Plaintext":"${text}","Plaintext":"${text}"}`)], outcome: 'ERR_KMS_REPLY' }),
  'the member in an object of its own': (text) => ({ pieces: [withLength(`{"Output":${bodyOf(text)}}`)], outcome: 'ERR_KMS_REPLY' }),
  'no HTTP': (text) => ({ pieces: [bodyOf(text)], outcome: 'ERR_KMS_REPLY' }),
  'too long': (text) => ({ pieces: [withLength(bodyOf(text) + ' '.repeat(2_000_000))], cut: true, outcome: 'ERR_KMS_REPLY' }),
};

/** A server that answers with what `next` says, once for each request. @returns its port */
async function serve(next: (socket: Socket) => Altered, tls?: { key: Buffer; cert: Buffer }): Promise<number> {
  const sockets = new Set<Socket>();
  const talk = (socket: Socket): void => {
    sockets.add(socket);
    let asked = '';
    socket.on('error', () => {});
    socket.on('data', async (bytes) => {
      asked += bytes.toString('latin1');
      const length = Number(/content-length: (\d+)/i.exec(asked)?.[1]);
      const headEnd = asked.indexOf('\r\n\r\n');
      if (headEnd === -1 || asked.length < headEnd + 4 + length) return;
      asked = '';
      const { pieces, cut = false } = next(socket);
      for (const piece of pieces) {
        socket.write(piece);
        if (pieces.length > 1) await setTimeout(5);
      }
      if (cut) socket.end();
    });
  };
  const server = tls === undefined ? createServer({ noDelay: true }, talk) : createTlsServer({ ...tls, noDelay: true }, talk);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

async function custodyOf(node: NodeName, overTls: boolean): Promise<void> {
  const home = temporaryHome();
  const { certPath, ...certificate } = selfSigned(home);
  let current: Altered | undefined;
  let closed: Promise<unknown> = Promise.resolve();
  const next = (socket: Socket): Altered => {
    closed = new Promise((resolve) => socket.once('close', resolve));
    return current!;
  };
  const port = await serve(next, overTls ? certificate : undefined);
  const child = spawn(nodeExecutable(node), [CLIENT, `http${overTls ? 's' : ''}://127.0.0.1:${port}`, home], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, NODE_EXTRA_CA_CERTS: certPath, AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b' },
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const lineOf = async (): Promise<string> => (await lines.next()).value as string;
  const pid = Number(await lineOf());
  const keys: { name: string; key: Buffer }[] = [];
  for (const [name, make] of Object.entries(ALTERED)) {
    const key = randomBytes(64);
    keys.push({ name, key });
    current = make(key.toString('base64'));
    child.stdin.write('\n');
    expect.soft(`${name}: ${await lineOf()}`).toBe(`${name}: ${current.outcome}`);
    // Else the second reply could be taken for the one to the next request.
    if (current.isClosedLater) await closed;
  }
  const { outside } = scanMemory(
    pid,
    keys.map(({ key }) => key),
  );
  console.log(`${node}, ${overTls ? 'HTTPS' : 'HTTP'}: ${keys.length} kinds of replies, ${outside.length} copies of their keys`);
  const copies = outside.map((copy) => `${keys[copy.keyIndex]!.name}: ${describeCopies([copy])}`);
  assert.deepEqual(copies, []);
}

for (const node of ['node-20', 'node-22', 'node-24', 'node-26'] as const) {
  describeUnless(lacksNode(node))(`${node}: a key in a reply that was altered leaves no copy`, () => {
    test('over HTTP', () => custodyOf(node, false));
    test('over HTTPS', () => custodyOf(node, true));
  });
}
