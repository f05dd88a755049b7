/**
 * Key custody of `kms serve`: plaintexts pass through it in requests and replies, good and bad ones, and then its
 * memory is searched for them. Each request has a plaintext of its own, so that a copy names the request that left it.
 * On each version of Node.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { DecryptCommand, EncryptCommand, GenerateDataKeyCommand, KMSClient, ListKeysCommand } from '@aws-sdk/client-kms';
import { HttpRequest } from '@smithy/core/protocols';
import { Hash } from '@smithy/core/serde';
import { SignatureV4 } from '@smithy/signature-v4';
import { expect, onTestFinished, test } from 'vitest';
import { built } from '../built.js';
import { done, openEmbedded, signAs, temporaryHome } from '../kms/harness.js';
import { lacksNode, type NodeName, nodeExecutable } from '../other-nodes.js';
import { describeUnless } from '../requirements.js';
import { describeCopies, scanMemory } from './memory-scan.js';

const SERVER = built('test/interop/serve-process.ts');
/** The measurement of docs/RELIABILITY.md has 24,000. */
const LOAD_REQUESTS = Number(process.env.VOLSEAL_LOAD_REQUESTS ?? 300);
const CONTENT_TYPE = 'application/x-amz-json-1.1';

interface Request {
  operation?: string;
  body: string;
  /** Replace or add to the headers that a client sends; an empty value leaves one out. */
  headers?: Record<string, string>;
  /** What the bytes are before they are sent. */
  alter?: (message: string) => string;
  /** Bytes in a piece; left out: all in one. */
  pieceBytes?: number;
  /** Ends the connection without waiting for a reply. */
  leaves?: boolean;
  /** The same with a reset, and without having read anything. */
  resets?: boolean;
  /** The status of the reply; 0: the connection ends without one. */
  status: number;
}

const encrypt = (keyId: string, text: string): string => JSON.stringify({ KeyId: keyId, Plaintext: text, EncryptionContext: { a: 'b' } });
const chunked = (message: string, chunkBytes = 33): string => {
  const [head, body] = message.split('\r\n\r\n') as [string, string];
  const chunks = body.match(new RegExp(`.{1,${chunkBytes}}`, 'gs'))!.map((text) => `${text.length.toString(16)}\r\n${text}\r\n`);
  return `${head.replace(/content-length: \d+/, 'transfer-encoding: chunked')}\r\n\r\n${chunks.join('')}0\r\n\r\n`;
};

const REQUESTS: Readonly<Record<string, (keyId: string, text: string) => Request>> = {
  encrypt: (keyId, text) => ({ body: encrypt(keyId, text), status: 200 }),
  'in pieces': (keyId, text) => ({ body: encrypt(keyId, text), pieceBytes: 60, status: 200 }),
  'in chunks': (keyId, text) => ({ body: encrypt(keyId, text), alter: chunked, status: 200 }),
  'in chunks, in pieces': (keyId, text) => ({ body: encrypt(keyId, text), alter: chunked, pieceBytes: 60, status: 200 }),
  'under no key': (_, text) => ({ body: encrypt('alias/none', text), status: 400 }),
  'not signed': (keyId, text) => ({ body: encrypt(keyId, text), headers: { authorization: '' }, status: 400 }),
  'signed for another body': (keyId, text) => ({ body: encrypt(keyId, text), alter: (m) => m.replace('"b"', '"c"'), status: 400 }),
  'another content type': (keyId, text) => ({ body: encrypt(keyId, text), headers: { 'content-type': 'text/plain' }, status: 400 }),
  'another content type, in pieces': (keyId, text) => ({
    body: encrypt(keyId, text),
    headers: { 'content-type': 'text/plain' },
    pieceBytes: 60,
    status: 400,
  }),
  'of another protocol': (keyId, text) => ({
    body: encrypt(keyId, text),
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    status: 400,
  }),
  'another host': (keyId, text) => ({ body: encrypt(keyId, text), headers: { host: 'example.com' }, status: 403 }),
  'without a host': (keyId, text) => ({ body: encrypt(keyId, text), headers: { host: '' }, status: 403 }),
  'another path': (keyId, text) => ({ body: encrypt(keyId, text), alter: (m) => m.replace('POST /', 'POST /x'), status: 404 }),
  'GET with a body': (keyId, text) => ({ body: encrypt(keyId, text), alter: (m) => m.replace('POST', 'GET'), status: 404 }),
  CONNECT: (keyId, text) => ({ body: encrypt(keyId, text), alter: (m) => m.replace('POST /', 'CONNECT a:1'), status: 0 }),
  'an upgrade': (keyId, text) => ({
    body: encrypt(keyId, text),
    headers: { connection: 'upgrade', upgrade: 'websocket' },
    status: 200,
  }),
  'an expectation': (keyId, text) => ({ body: encrypt(keyId, text), headers: { expect: 'anything' }, status: 200 }),
  'an expectation of 100': (keyId, text) => ({ body: encrypt(keyId, text), headers: { expect: '100-continue' }, status: 100 }),
  'no JSON': (keyId, text) => ({ body: encrypt(keyId, text).slice(1), status: 400 }),
  'the member twice': (_, text) => ({ body: `{"Plaintext":"${text}","Plaintext":"${text}"}`, status: 400 }),
  'its name in other letters': (keyId, text) => ({ body: encrypt(keyId, text).replace('Plaintext', 'plaintext'), status: 400 }),
  'its name in capitals, in pieces': (keyId, text) => ({
    body: encrypt(keyId, text).replace('Plaintext', 'PLAINTEXT'),
    pieceBytes: 60,
    status: 400,
  }),
  'in another operation': (keyId, text) => ({ operation: 'DescribeKey', body: encrypt(keyId, text), status: 400 }),
  'no JSON in another operation': (keyId, text) => ({ operation: 'DescribeKey', body: encrypt(keyId, text).slice(1), status: 400 }),
  'too long': (keyId, text) => ({ body: ' '.repeat(300_000) + encrypt(keyId, text), status: 413 }),
  'too long, the plaintext first': (keyId, text) => ({ body: encrypt(keyId, text) + ' '.repeat(300_000), status: 413 }),
  'much too long': (keyId, text) => ({
    body: encrypt(keyId, text) + `"${text}"${' '.repeat(60_000)}`.repeat(20),
    pieceBytes: 65_536,
    status: 413,
  }),
  'cut in the body': (keyId, text) => ({
    body: encrypt(keyId, text),
    alter: (m) => m.replace(/content-length: \d+/, 'content-length: 900'),
    leaves: true,
    status: 400,
  }),
  'cut in a chunk': (keyId, text) => ({ body: encrypt(keyId, text), alter: (m) => chunked(m).slice(0, -60), leaves: true, status: 400 }),
  'a chunk that is none': (keyId, text) => ({
    body: encrypt(keyId, text),
    alter: (m) => chunked(m).replace('\r\n0\r\n', '\r\nx\r\n'),
    status: 400,
  }),
  'more than its length': (keyId, text) => ({
    body: encrypt(keyId, text),
    alter: (m) => m.replace(/content-length: \d+/, 'content-length: 60'),
    status: 400,
  }),
  'two at once': (keyId, text) => ({ body: encrypt(keyId, text), alter: (m) => m + m, status: 200 }),
  'many at once': (keyId, text) => ({ body: encrypt(keyId, text), alter: (m) => m.repeat(100), status: 200 }),
  'many at once, then a reset': (keyId, text) => ({ body: encrypt(keyId, text), alter: (m) => m.repeat(100), resets: true, status: 0 }),
  'cut in the body by a reset': (keyId, text) => ({
    body: encrypt(keyId, text),
    alter: (m) => m + m.slice(0, -20),
    resets: true,
    status: 0,
  }),
  'in chunks of one byte': (keyId, text) => ({
    body: encrypt(keyId, text),
    alter: (m) => chunked(m, 1),
    status: 200,
  }),
  'no HTTP': (keyId, text) => ({ body: encrypt(keyId, text), alter: (m) => m.split('\r\n\r\n')[1]!, status: 400 }),
};

/** Sends requests to a KMS server, byte by byte as a test says. */
class Client {
  readonly #port: number;
  readonly #signer: SignatureV4;

  constructor(port: number, credentials: { accessKeyId: string; secretAccessKey: string }) {
    this.#port = port;
    const sha256 = Hash.bind(null, 'sha256');
    this.#signer = new SignatureV4({ credentials, region: 'us-east-1', service: 'kms', sha256, applyChecksum: false });
  }

  async send({ operation = 'Encrypt', body, headers = {}, alter = (m) => m, pieceBytes, leaves = false, resets = false }: Request) {
    const plain = { host: `127.0.0.1:${this.#port}`, 'content-type': CONTENT_TYPE, 'x-amz-target': `TrentService.${operation}` };
    const signed = await this.#signer.sign(new HttpRequest({ method: 'POST', path: '/', headers: plain, body }));
    const sent = Object.entries({ ...signed.headers, 'content-length': String(body.length), ...headers }).filter(
      ([, value]) => value !== '',
    );
    const message = alter(`POST / HTTP/1.1\r\n${sent.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n${body}`);
    const socket = connect({ port: this.#port, host: '127.0.0.1', noDelay: true });
    socket.on('error', () => {});
    await once(socket, 'connect');
    let reply = '';
    const replied = new Promise<void>((resolve) => {
      socket.on('data', (bytes) => {
        reply += bytes.toString('latin1');
        resolve();
      });
      socket.once('close', () => resolve());
    });
    for (let at = 0; at < message.length; at += pieceBytes ?? message.length) {
      socket.write(message.slice(at, at + (pieceBytes ?? message.length)));
      if (pieceBytes !== undefined) await sleep(2);
    }
    if (resets) {
      await sleep(20);
      socket.resetAndDestroy();
      return { status: 0, text: '' };
    }
    if (leaves) socket.end();
    await replied;
    // A good reply has a length and comes in one write; whatever else comes is of no interest.
    const length = Number(/content-length: (\d+)/i.exec(reply)?.[1] ?? 0);
    while (!socket.destroyed && reply.length < reply.indexOf('\r\n\r\n') + 4 + length) await once(socket, 'data');
    socket.destroy();
    return { status: Number(/^HTTP\/1\.1 (\d+)/.exec(reply)?.[1] ?? 0), text: (reply.split('\r\n\r\n')[1] ?? '').slice(0, length) };
  }
}

/** `kms serve` on a Node, with a KMS key. */
async function startServer(node: NodeName) {
  const home = temporaryHome();
  const credentials = await signAs(home);
  const embedded = openEmbedded(home);
  const keyId = done(embedded, 'CreateKey').KeyMetadata.KeyId as string;
  const child = spawn(nodeExecutable(node), [SERVER, home], { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  const line = ((await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next()).value as string).split(' ');
  return { pid: Number(line[0]), url: line[1]!, credentials, keyId };
}

/** Ordinary requests of eight clients at once, over connections that stay open. The last 100 keys are searched for. */
async function custodyUnderLoad(node: NodeName): Promise<void> {
  const { pid, url, credentials, keyId } = await startServer(node);
  const client = new KMSClient({ endpoint: url, region: 'us-east-1', credentials });
  onTestFinished(() => client.destroy());
  const keys: Buffer[] = [];
  let sent = 0;
  const work = async (): Promise<void> => {
    while (sent < LOAD_REQUESTS) {
      sent += 3;
      const key = randomBytes(64);
      const { CiphertextBlob } = await client.send(new EncryptCommand({ KeyId: keyId, Plaintext: key }));
      const { Plaintext } = await client.send(new DecryptCommand({ CiphertextBlob }));
      assert.deepEqual(Buffer.from(Plaintext!), key);
      const generated = await client.send(new GenerateDataKeyCommand({ KeyId: keyId, NumberOfBytes: 64 }));
      keys.push(key, Buffer.from(generated.Plaintext!));
      keys.splice(0, keys.length - 100);
    }
  };
  await Promise.all(Array.from({ length: 8 }, work));
  await client.send(new ListKeysCommand({}));
  const { outside } = scanMemory(pid, keys);
  console.log(`${node}: kms serve, ${sent} requests, ${outside.length} copies of their plaintexts`);
  assert.equal(describeCopies(outside), '');
}

async function custodyOf(node: NodeName): Promise<void> {
  const { pid, url, credentials, keyId } = await startServer(node);
  const client = new Client(Number(new URL(url).port), credentials);
  const secrets: { name: string; key: Buffer }[] = [];
  for (const [name, make] of Object.entries(REQUESTS)) {
    const key = randomBytes(64);
    secrets.push({ name, key });
    const request = make(keyId, key.toString('base64'));
    const { status, text } = await client.send(request);
    expect.soft(`${name}: ${status}`, text).toBe(`${name}: ${request.status}`);
    if (status !== 200) continue;
    const { CiphertextBlob } = JSON.parse(text);
    const body = JSON.stringify({ CiphertextBlob, EncryptionContext: { a: 'b' } });
    const decrypted = await client.send({ operation: 'Decrypt', body, status: 200 });
    assert.equal(JSON.parse(decrypted.text).Plaintext, key.toString('base64'), name);
    // And once without waiting for the reply.
    await client.send({ operation: 'Decrypt', body, status: 0, leaves: true });
    // And many at once, whose replies wait for their turn when the connection ends.
    await client.send({ operation: 'Decrypt', body, status: 0, alter: (message) => message.repeat(100), resets: true });
  }
  for (const operation of ['GenerateDataKey', 'GenerateRandom']) {
    const body = operation === 'GenerateRandom' ? '{"NumberOfBytes":64}' : JSON.stringify({ KeyId: keyId, NumberOfBytes: 64 });
    const { text } = await client.send({ operation, body, status: 200 });
    secrets.push({ name: operation, key: Buffer.from(JSON.parse(text).Plaintext, 'base64') });
  }
  await client.send({ operation: 'ListKeys', body: '{}', status: 200 });
  const { outside } = scanMemory(
    pid,
    secrets.map(({ key }) => key),
  );
  console.log(`${node}: kms serve, ${secrets.length} kinds of requests, ${outside.length} copies of their plaintexts`);
  assert.deepEqual(
    outside.map((copy) => `${secrets[copy.keyIndex]!.name}: ${describeCopies([copy])}`),
    [],
  );
}

for (const node of ['node-20', 'node-22', 'node-24', 'node-26'] as const) {
  describeUnless(lacksNode(node))(`kms serve on ${node}`, () => {
    test('no request and no reply leaves a copy of its plaintext', () => custodyOf(node));

    test('nor do many of them', () => custodyUnderLoad(node));
  });
}
