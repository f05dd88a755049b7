/**
 * A fake of S3, for tests: no S3 server comes from npm or Debian, and moto accepts what S3 refuses. It is written from
 * the API Reference and strict where an upload can go wrong: checksums of parts and of the whole object, short parts,
 * order of parts, conditions (409, 412), unknown uploads. Faults are injected one request at a time. It checks that a
 * request is signed, not the signature.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { crc32 } from 'node:zlib';
import { serveHttp } from '../http-server.js';

/**
 * What is done to a request instead of an answer. `lostReply`: it is carried out, and nobody is told; `hang`: it is
 * never answered; `endless`: an error page without an end.
 */
export type Fault = 'throttle' | 'fail' | 'deny' | 'cut' | 'cutBody' | 'lostReply' | 'conflict' | 'flip' | 'hang' | 'endless';

interface StoredObject {
  bytes: Buffer;
  etag: string;
  crc: string;
  /** The user's metadata, as headers. */
  metadata: Record<string, string>;
}

interface Upload {
  name: string;
  parts: Map<number, StoredObject>;
  metadata: Record<string, string>;
}

/** The server, and what tests see of it. */
export interface StrictS3 {
  readonly url: string;
  readonly objects: Map<string, StoredObject>;
  readonly uploads: Map<string, Upload>;
  /** `OPERATION` of each request, in order. */
  readonly requests: string[];
  /** Of each UploadPart: the SHA-256 under which its body was signed, or `UNSIGNED-PAYLOAD`. */
  readonly payloads: string[];
  /** Faults for the next requests of an operation, one each. */
  fail(operation: string, ...faults: Fault[]): void;
  /** Takes back the faults that were not used up. */
  mend(): void;
  /**
   * Called before a request is carried out, which waits for it. What it gives is a fault for this request, or none.
   * `range`: of the object, as asked for.
   */
  onRequest?: (operation: string, range: string | undefined) => unknown;
  /** Parts of a page of ListParts. */
  partsPerPage: number;
  /** What clients took of endless pages. */
  endlessBytes: number;
  put(name: string, bytes: Buffer): void;
}

const PART_BYTES_MIN = 5 * 1024 * 1024;

class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string = code,
  ) {
    super(message);
  }
}

/** As S3 writes it. */
export const crcText = (bytes: Buffer): string => {
  const text = Buffer.alloc(4);
  text.writeUInt32BE(crc32(bytes));
  return text.toString('base64');
};
const stored = (bytes: Buffer, etag = createHash('md5').update(bytes).digest('hex')): StoredObject => ({
  bytes,
  etag: `"${etag}"`,
  crc: crcText(bytes),
  metadata: {},
});

/** Starts it on loopback; it ends with the test. @param buckets that exist */
export const strictS3 = (...buckets: string[]): Promise<StrictS3> => strictS3Over(undefined, ...buckets);

/** The same over TLS, with a key and a certificate for 127.0.0.1. */
export async function strictS3Over(tls: { key: Buffer; cert: Buffer } | undefined, ...buckets: string[]): Promise<StrictS3> {
  const faults = new Map<string, Fault[]>();
  const s3: StrictS3 = {
    url: '',
    objects: new Map(),
    uploads: new Map(),
    requests: [],
    payloads: [],
    partsPerPage: 1000,
    endlessBytes: 0,
    fail(operation, ...more) {
      faults.set(operation, [...(faults.get(operation) ?? []), ...more]);
    },
    mend: () => faults.clear(),
    put: (name, bytes) => void s3.objects.set(name, stored(bytes)),
  };
  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    void answer(s3, buckets, faults, request, response).catch((error: unknown) => {
      // Who asked has gone: a test that aborts.
      if ((error as NodeJS.ErrnoException).code === 'ECONNRESET') return;
      if (!(error instanceof Refusal)) throw error;
      if (!response.headersSent) response.writeHead(error.status, { 'content-type': 'application/xml' });
      response.end(request.method === 'HEAD' ? undefined : `<Error><Code>${error.code}</Code><Message>${error.message}</Message></Error>`);
    });
  };
  return Object.assign(s3, { url: (await serveHttp(listener, tls)).url });
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

function operationOf(method: string, query: URLSearchParams, copies: boolean): string {
  if (query.has('uploads')) return method === 'POST' ? 'CreateMultipartUpload' : 'ListMultipartUploads';
  if (query.has('uploadId')) {
    const names: Record<string, string> = {
      PUT: copies ? 'UploadPartCopy' : 'UploadPart',
      POST: 'CompleteMultipartUpload',
      DELETE: 'AbortMultipartUpload',
      GET: 'ListParts',
    };
    return names[method]!;
  }
  return { GET: 'GetObject', HEAD: 'HeadObject', PUT: 'PutObject', DELETE: 'DeleteObject' }[method] ?? method;
}

async function answer(
  s3: StrictS3,
  buckets: string[],
  faults: Map<string, Fault[]>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = new URL(request.url!, 'http://fake');
  const [, bucket = '', key = ''] = /^\/([^/]*)\/?(.*)$/s.exec(decodeURIComponent(url.pathname))!;
  const operation = operationOf(request.method!, url.searchParams, request.headers['x-amz-copy-source'] !== undefined);
  s3.requests.push(operation);
  const fault = ((await s3.onRequest?.(operation, request.headers.range)) as Fault | undefined) ?? faults.get(operation)?.shift();
  if (fault === 'cut') return void request.socket.destroy();
  if (fault === 'hang') return;
  if (fault === 'endless') return await sendEndlessPage(s3, response);
  const body = await bodyOf(request);
  if (fault === 'throttle') throw new Refusal(503, 'SlowDown', 'Please reduce your request rate.');
  if (fault === 'fail') throw new Refusal(500, 'InternalError');
  if (fault === 'deny') throw new Refusal(403, 'AccessDenied');
  if (fault === 'conflict') throw new Refusal(409, 'ConditionalRequestConflict');
  if (fault === 'flip' && body.length > 0) body[0]! ^= 1;
  if (!request.headers.authorization?.startsWith('AWS4-HMAC-SHA256 ')) throw new Refusal(403, 'AccessDenied');
  if (!buckets.includes(bucket)) throw new Refusal(404, 'NoSuchBucket');
  const reply = perform(s3, operation, `${bucket}/${key}`, url.searchParams, request, body);
  if (fault === 'lostReply') return void request.socket.destroy();
  response.writeHead(reply.status ?? 200, reply.headers);
  if (fault !== 'cutBody') return void response.end(reply.body);
  response.write((reply.body as Buffer).subarray(0, 1000), () => request.socket.destroy());
}

async function sendEndlessPage(s3: StrictS3, response: ServerResponse): Promise<void> {
  response.writeHead(503, { 'content-type': 'application/xml' });
  const piece = Buffer.alloc(1024 * 1024, '<p>sorry</p>');
  for (let isOpen = true; isOpen; s3.endlessBytes += piece.length) {
    isOpen = await new Promise<boolean>((resolve) => response.write(piece, (error) => resolve(error == null)));
  }
}

interface Reply {
  status?: number;
  headers?: Record<string, string | number>;
  body?: Buffer | string;
}

function perform(s3: StrictS3, operation: string, name: string, query: URLSearchParams, request: IncomingMessage, body: Buffer): Reply {
  const { headers } = request;
  const checkDigest = (): void => {
    const sent = headers['x-amz-checksum-crc32'];
    if (sent !== undefined && sent !== crcText(body)) throw new Refusal(400, 'BadDigest');
    const hash = headers['x-amz-content-sha256'];
    if (operation === 'UploadPart') s3.payloads.push(String(hash));
    if (hash !== 'UNSIGNED-PAYLOAD' && hash !== createHash('sha256').update(body).digest('hex'))
      throw new Refusal(400, 'BadDigest', 'x-amz-content-sha256 does not match');
  };
  const uploadOf = (): Upload => {
    const upload = s3.uploads.get(query.get('uploadId')!);
    if (upload?.name !== name) throw new Refusal(404, 'NoSuchUpload');
    return upload;
  };
  switch (operation) {
    case 'HeadObject':
    case 'GetObject': {
      const object = s3.objects.get(name);
      if (object === undefined) throw new Refusal(404, 'NoSuchKey');
      if (headers['if-match'] !== undefined && headers['if-match'] !== object.etag) throw new Refusal(412, 'PreconditionFailed');
      const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '') ?? [];
      const first = Number(from ?? 0);
      const last = Math.min(Number(to ?? object.bytes.length - 1), object.bytes.length - 1);
      if (first > last) throw new Refusal(416, 'InvalidRange');
      const bytes = object.bytes.subarray(first, last + 1);
      const about = {
        ...object.metadata,
        etag: object.etag,
        'content-length': bytes.length,
        'x-amz-checksum-crc32': object.crc,
        'x-amz-checksum-type': 'FULL_OBJECT',
      };
      if (from === undefined) return { headers: about, body: bytes };
      return { status: 206, headers: { ...about, 'content-range': `bytes ${first}-${last}/${object.bytes.length}` }, body: bytes };
    }
    case 'PutObject':
      checkDigest();
      if (headers['if-none-match'] === '*' && s3.objects.has(name)) throw new Refusal(412, 'PreconditionFailed');
      s3.put(name, body);
      return { headers: { etag: s3.objects.get(name)!.etag } };
    case 'DeleteObject':
      s3.objects.delete(name);
      return { status: 204 };
    case 'CreateMultipartUpload': {
      if (headers['x-amz-checksum-algorithm'] !== 'CRC32' || headers['x-amz-checksum-type'] !== 'FULL_OBJECT')
        throw new Refusal(400, 'InvalidRequest', 'this fake wants CRC32 of the full object');
      const id = randomBytes(8).toString('hex');
      const metadata = Object.entries(headers).filter((header): header is [string, string] => header[0].startsWith('x-amz-meta-'));
      s3.uploads.set(id, { name, parts: new Map(), metadata: Object.fromEntries(metadata) });
      return { body: `<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>` };
    }
    case 'UploadPart': {
      const number = Number(query.get('partNumber'));
      if (!(number >= 1 && number <= 10_000)) throw new Refusal(400, 'InvalidArgument');
      if (headers['x-amz-checksum-crc32'] === undefined) throw new Refusal(400, 'InvalidRequest', 'the upload wants a CRC32');
      checkDigest();
      const part = stored(body);
      uploadOf().parts.set(number, part);
      return { headers: { etag: part.etag, 'x-amz-checksum-crc32': part.crc } };
    }
    case 'UploadPartCopy': {
      const part = copied(s3, headers);
      uploadOf().parts.set(Number(query.get('partNumber')), part);
      return { body: `<CopyPartResult><ETag>${part.etag}</ETag><ChecksumCRC32>${part.crc}</ChecksumCRC32></CopyPartResult>` };
    }
    case 'CompleteMultipartUpload':
      return complete(s3, name, uploadOf(), query.get('uploadId')!, headers, body.toString());
    case 'ListParts':
      return listParts(uploadOf(), Number(query.get('part-number-marker') ?? 0), s3.partsPerPage);
    case 'AbortMultipartUpload':
      uploadOf();
      s3.uploads.delete(query.get('uploadId')!);
      return { status: 204 };
    default:
      throw new Refusal(501, 'NotImplemented', operation);
  }
}

/** A range of an object, as S3 copies it. */
function copied(s3: StrictS3, headers: IncomingMessage['headers']): StoredObject {
  const object = s3.objects.get(decodeURIComponent(String(headers['x-amz-copy-source'])));
  if (object === undefined) throw new Refusal(404, 'NoSuchKey');
  if (headers['x-amz-copy-source-if-match'] !== object.etag) throw new Refusal(412, 'PreconditionFailed');
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(String(headers['x-amz-copy-source-range'])) ?? [];
  if (Number(last) >= object.bytes.length) throw new Refusal(400, 'InvalidArgument', 'the range is not in the object');
  return stored(Buffer.from(object.bytes.subarray(Number(first), Number(last) + 1)));
}

function listParts({ parts }: Upload, marker: number, perPage: number): Reply {
  const after = [...parts].filter(([number]) => number > marker).sort(([one], [other]) => one - other);
  const page = after.slice(0, perPage);
  const listed = page.map(
    ([number, { bytes, etag, crc }]) =>
      `<Part><PartNumber>${number}</PartNumber><ETag>${etag.replaceAll('"', '&quot;')}</ETag><Size>${bytes.length}</Size><ChecksumCRC32>${crc}</ChecksumCRC32></Part>`,
  );
  const more = page.length < after.length;
  const next = `<IsTruncated>${more}</IsTruncated><NextPartNumberMarker>${page.at(-1)?.[0] ?? marker}</NextPartNumberMarker>`;
  return { body: `<ListPartsResult>${next}${listed.join('')}</ListPartsResult>` };
}

function complete(s3: StrictS3, name: string, upload: Upload, id: string, headers: IncomingMessage['headers'], xml: string): Reply {
  if (headers['if-none-match'] === '*' && s3.objects.has(name)) throw new Refusal(412, 'PreconditionFailed');
  if (headers['if-match'] !== undefined) {
    const there = s3.objects.get(name);
    if (there === undefined) throw new Refusal(404, 'NoSuchKey');
    if (headers['if-match'] !== there.etag) throw new Refusal(412, 'PreconditionFailed');
  }
  const named = [...xml.matchAll(/<Part>(.*?)<\/Part>/gs)].map(([, text = '']) => ({
    number: Number(/<PartNumber>(\d+)</.exec(text)?.[1]),
    etag: /<ETag>(.*?)</.exec(text)?.[1]?.replaceAll('&quot;', '"'),
    crc: /<ChecksumCRC32>(.*?)</.exec(text)?.[1],
  }));
  if (named.length === 0) throw new Refusal(400, 'MalformedXML');
  const parts = named.map(({ number, etag, crc }, index) => {
    const part = upload.parts.get(number);
    if (index > 0 && number <= named[index - 1]!.number) throw new Refusal(400, 'InvalidPartOrder');
    if (part === undefined || part.etag !== etag || part.crc !== crc) throw new Refusal(400, 'InvalidPart');
    if (index < named.length - 1 && part.bytes.length < PART_BYTES_MIN) throw new Refusal(400, 'EntityTooSmall');
    return part;
  });
  const bytes = Buffer.concat(parts.map((part) => part.bytes));
  if (headers['x-amz-checksum-crc32'] !== crcText(bytes)) throw new Refusal(400, 'BadDigest', 'the CRC32 of the object differs');
  if (headers['x-amz-mp-object-size'] !== String(bytes.length)) throw new Refusal(400, 'InvalidRequest', 'the size differs');
  const object = { ...stored(bytes, `${id}-${parts.length}`), metadata: upload.metadata };
  s3.objects.set(name, object);
  s3.uploads.delete(id);
  return {
    body: `<CompleteMultipartUploadResult><ETag>${object.etag}</ETag><ChecksumCRC32>${object.crc}</ChecksumCRC32></CompleteMultipartUploadResult>`,
  };
}
