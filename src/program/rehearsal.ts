/**
 * A small image encrypted and decrypted in a directory that is thrown away: what V8 compiles for that is what most
 * commands need, and goes into the code cache. The bytes are public, and nobody keeps the key.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { runCommand } from '../cli/main.js';
import type { Output } from '../cli/terminal/output.js';
import type { KmsEndpoint } from '../kms/shared/endpoint.js';
import { native } from '../native.js';
import { openVolumeFile } from '../volume/volume-file.js';
import type { TaskResult } from '../workers/task-result.js';
import runTask, { type Task, type TaskValue } from '../workers/tasks.js';
import type { Role } from './role.js';

const IMAGE_BYTES = 64 * 1024;

/** The program, beside the bundle that this is a part of. */
const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));

/**
 * Runs what a role runs. The program's commands have their threads do the calls to KMS, whose functions stay out of the
 * program's cache for that.
 * @throws {Error} where a command fails here: no room, no memory to lock
 */
export async function rehearse(role: Role): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'volseal-rehearsal-'));
  try {
    const path = (name: string): string => join(directory, name);
    writeFileSync(path('image'), Buffer.alloc(IMAGE_BYTES, 1));
    const flags = ['--kms', `embedded:${path('home')}`];
    if (role === 'thread') {
      execFileSync(process.execPath, [MAIN, 'encrypt', path('image'), path('volume'), ...flags], { stdio: 'ignore' });
      await inThisThread(path('volume'), { kind: 'embedded', home: path('home') });
      return;
    }
    await command('encrypt', path('image'), path('volume'), ...flags);
    await command('info', path('volume'));
    await command('decrypt', path('volume'), path('copy'), ...flags);
    await requestsToStores();
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

/** What the pool's threads do for a command; the code cache sees no other thread than its own. */
async function inThisThread(path: string, kms: KmsEndpoint): Promise<void> {
  const volume = await openVolumeFile(path, 'none');
  try {
    const { keyId, encryptedDataKey, encryptionContext } = volume.token;
    const { key } = await done({ kind: 'newKey', kms, keyId, context: encryptionContext });
    native.keyWipe(key);
    const request = { keyArn: keyId, encryptedDataKey, context: encryptionContext };
    native.keyWipe(await done({ kind: 'unlock', kms, request, header: volume.found.header, headerPath: path }));
  } finally {
    await volume.close();
  }
}

async function done<T extends Task>(task: T): Promise<TaskValue<T>> {
  const result = (await runTask({ task, owner: native.environmentId(), abortPort: undefined })) as TaskResult<TaskValue<T>>;
  if (!result.ok) throw new Error(result.error.message);
  return result.value;
}
