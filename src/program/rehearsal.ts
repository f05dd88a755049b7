/**
 * A small image encrypted and decrypted in a directory that is thrown away: what V8 compiles for that is what most
 * commands need, and goes into the code cache. The bytes are public, and nobody keeps the key.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { runCommand } from '../cli/main.js';
import type { Output } from '../cli/terminal/output.js';

const IMAGE_BYTES = 64 * 1024;

/**
 * Runs what most commands run, with a thread of the pool, which is asked what threads are asked most: a new key, and to
 * unlock a volume.
 * @throws {Error} where a command fails here: no room, no memory to lock
 */
export async function rehearse(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'volseal-rehearsal-'));
  try {
    const path = (name: string): string => join(directory, name);
    writeFileSync(path('image'), Buffer.alloc(IMAGE_BYTES, 1));
    const flags = ['--kms', `embedded:${path('home')}`];
    // Together: a command waits for its thread most of the time.
    await Promise.all([command('encrypt', path('image'), path('volume'), ...flags), requestsToStores()]);
    await command('info', path('volume'));
    await command('decrypt', path('volume'), path('copy'), ...flags);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Requests of an object, there and back, that nothing sends: each gets the same reply. */
async function requestsToStores(): Promise<void> {
  const sdk = await import('../stores/aws-sdk.js');
  const reply = () => ({
    statusCode: 200,
    headers: { etag: '"e"' },
    body: Readable.from([Buffer.from('<Reply><UploadId>u</UploadId></Reply>')]),
  });
  const requestHandler = { handle: async () => ({ response: reply() }) };
  const credentials = { accessKeyId: 'nobody', secretAccessKey: 'nobody' };
  const client = new sdk.S3Client({ region: 'us-east-1', credentials, endpoint: 'http://127.0.0.1:1', maxAttempts: 1, requestHandler });
  const object = { Bucket: 'bucket', Key: 'key' };
  const part = { ...object, UploadId: 'u', PartNumber: 1 };
  await client.send(new sdk.HeadObjectCommand(object));
  await client.send(new sdk.GetObjectCommand({ ...object, Range: 'bytes=0-1' }));
  await client.send(new sdk.CreateMultipartUploadCommand(object));
  await client.send(new sdk.UploadPartCommand({ ...part, Body: Buffer.alloc(1) }));
  await client.send(new sdk.CompleteMultipartUploadCommand({ ...object, UploadId: 'u', MultipartUpload: { Parts: [] } }));
  client.destroy();
}

async function command(...words: string[]): Promise<void> {
  const status = await runCommand(words, SILENT, { signal: new AbortController().signal, status: () => undefined });
  if (status !== 0) throw new Error(`volseal ${words[0]} ended with ${status}`);
}

const SILENT: Output = {
  json: true,
  quiet: true,
  result() {},
  aside() {},
  text() {},
  async data() {},
  async settled() {},
  warning() {},
  failure({ message }) {
    throw new Error(message);
  },
};
