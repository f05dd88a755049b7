/**
 * A plain S3 for the benchmark, as a process of its own: KEY-FILE CERTIFICATE-FILE, prints its port. It keeps objects
 * in memory, does as little as it can, and checks nothing: it is to be faster than its clients. For tests of what S3
 * refuses there is another one (test/stores/strict-s3.ts).
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';

/** Bytes as they came, in pieces. */
interface Bytes {
  readonly chunks: readonly Buffer[];
  readonly length: number;
}

const objects = new Map<string, Bytes>();
const uploads = new Map<string, Map<number, Bytes>>();

async function bodyOf(request: IncomingMessage): Promise<Bytes> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request) {
    chunks.push(chunk as Buffer);
    length += (chunk as Buffer).length;
  }
  return { chunks, length };
}

/** @param toByte behind the last one */
function* slices({ chunks }: Bytes, fromByte: number, toByte: number): Generator<Buffer> {
  let at = 0;
  for (const chunk of chunks) {
    const [from, to] = [Math.max(fromByte - at, 0), Math.min(toByte - at, chunk.length)];
    if (from < to) yield chunk.subarray(from, to);
    at += chunk.length;
    if (at >= toByte) return;
  }
}

async function send(response: ServerResponse, bytes: Bytes, range: string | undefined, isHead: boolean): Promise<void> {
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(range ?? '') ?? [];
  const from = Number(first ?? 0);
  const to = last ? Math.min(Number(last) + 1, bytes.length) : bytes.length;
  const about = { etag: '"plain"', 'content-length': to - from, 'last-modified': new Date(0).toUTCString(), 'accept-ranges': 'bytes' };
  response.writeHead(
    first === undefined ? 200 : 206,
    first === undefined ? about : { ...about, 'content-range': `bytes ${from}-${to - 1}/${bytes.length}` },
  );
  if (!isHead)
    for (const slice of slices(bytes, from, to))
      if (!response.write(slice)) await new Promise<void>((resolve) => response.once('drain', resolve));
  response.end();
}

function refuse(response: ServerResponse, isHead: boolean): void {
  response.writeHead(404, { 'content-type': 'application/xml' }).end(isHead ? undefined : '<Error><Code>NoSuchKey</Code></Error>');
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { pathname, searchParams } = new URL(request.url!, 'https://plain');
  const id = searchParams.get('uploadId') ?? '';
  const isHead = request.method === 'HEAD';
  if (request.method === 'GET' || isHead) {
    const found = objects.get(pathname);
    return found === undefined ? refuse(response, isHead) : await send(response, found, request.headers.range, isHead);
  }
  const body = await bodyOf(request);
  const checksum = request.headers['x-amz-checksum-crc32'];
  const about = { etag: `"${randomBytes(8).toString('hex')}"`, ...(checksum === undefined ? {} : { 'x-amz-checksum-crc32': checksum }) };
  if (request.method === 'PUT') {
    if (id === '') objects.set(pathname, body);
    else uploads.get(id)?.set(Number(searchParams.get('partNumber')), body);
    response.writeHead(200, about).end();
  } else if (request.method === 'DELETE') {
    uploads.delete(id);
    if (id === '') objects.delete(pathname);
    response.writeHead(204).end();
  } else if (searchParams.has('uploads')) {
    const uploadId = randomBytes(8).toString('hex');
    uploads.set(uploadId, new Map());
    response.writeHead(200).end(`<InitiateMultipartUploadResult><UploadId>${uploadId}</UploadId></InitiateMultipartUploadResult>`);
  } else {
    const parts = [...(uploads.get(id) ?? [])].sort(([one], [other]) => one - other).map(([, part]) => part);
    uploads.delete(id);
    objects.set(pathname, { chunks: parts.flatMap(({ chunks }) => chunks), length: parts.reduce((sum, { length }) => sum + length, 0) });
    response.writeHead(200).end('<CompleteMultipartUploadResult><ETag>"plain"</ETag></CompleteMultipartUploadResult>');
  }
}

const [keyFile = '', certificateFile = ''] = process.argv.slice(2);
const server = createServer({ key: readFileSync(keyFile), cert: readFileSync(certificateFile) }, (request, response) => {
  // Who asked may be gone.
  answer(request, response).catch(() => response.destroy());
});
server.listen(0, '127.0.0.1', () => console.log((server.address() as AddressInfo).port));
// It ends with whoever started it.
process.stdin.resume().once('end', () => process.exit());
