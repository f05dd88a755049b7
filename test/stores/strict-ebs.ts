/**
 * A fake of the EBS direct APIs, for tests: nobody offers a server of them but AWS, and moto's takes wrong checksums,
 * has blocks of 512 bytes and no pages. It is written from the API Reference and strict where a snapshot can go wrong:
 * length and SHA-256 of blocks, the aggregate, the count of blocks, a client token with other parameters, tokens that a
 * new listing changes, pages that are short or empty, a snapshot that is pending or complete. Faults are injected one
 * request at a time. It checks that a request is signed, not the signature.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { serveHttp } from '../http-server.js';

const BLOCK_BYTES = 524_288;
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('base64');

/**
 * What is done to a request instead of an answer. `lostReply`: it is carried out, and nobody is told; `flip`: a bit
 * changes on the way; `unreadable`: what EBS says now and then of good blocks; `unknown`: it does not know the snapshot
 * yet.
 */
export type Fault =
  | 'throttle'
  | 'slowDown'
  | 'fail'
  | 'deny'
  | 'denyKey'
  | 'cut'
  | 'cutBody'
  | 'lostReply'
  | 'flip'
  | 'unreadable'
  | 'unknown'
  | 'expired'
  | 'conflict'
  | 'quota'
  | 'short';

export interface FakeSnapshot {
  state: 'pending' | 'completed';
  volumeGib: number;
  /** Blocks of this snapshot alone; its parent has the others. */
  blocks: Map<number, Buffer>;
  parent: string | undefined;
  request: { Description?: string; Tags?: { Key: string; Value: string }[]; Encrypted?: boolean; KmsKeyArn?: string; Timeout?: number };
  /** Changes with each new listing. */
  listing: number;
}

/** The server, and what tests see of it. */
export interface StrictEbs {
  readonly url: string;
  readonly snapshots: Map<string, FakeSnapshot>;
  /** `OPERATION` of each request, in order. */
  readonly requests: string[];
  /** Blocks of a page at most; 0 blocks come first in every listing. */
  pageBlocks: number;
  /** Whether an empty page stands in front of every other one. */
  emptyPages: boolean;
  /** Faults for the next requests of an operation, one each. */
  fail(operation: string, ...faults: Fault[]): void;
  /** Takes back the faults that were not used up. */
  mend(): void;
  /** Called before a request is carried out. */
  onRequest?: ((operation: string, index: number) => void) | undefined;
  /** A snapshot that is complete. Blocks of zeros are left out. */
  put(image: Buffer, parent?: string): string;
  /** The bytes of a snapshot and its parents. */
  contents(id: string): Buffer;
}

class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string = code,
    readonly reason?: string,
  ) {
    super(message);
  }
}

const invalid = (message: string, reason = 'INVALID_PARAMETER_VALUE'): Refusal => new Refusal(400, 'ValidationException', message, reason);

const FAULTS: Partial<Record<Fault, () => Refusal>> = {
  throttle: () => new Refusal(400, 'RequestThrottledException', 'Request rate limit exceeded', 'RESOURCE_LEVEL_THROTTLE'),
  slowDown: () => new Refusal(503, 'ServiceUnavailable'),
  fail: () => new Refusal(500, 'InternalServerException'),
  deny: () => new Refusal(403, 'AccessDeniedException', 'User is not authorized', 'UNAUTHORIZED_ACCOUNT'),
  denyKey: () => new Refusal(403, 'AccessDeniedException', 'not allowed to use the key', 'DEPENDENCY_ACCESS_DENIED'),
  unreadable: () => invalid('Failed to read block data'),
  unknown: () => new Refusal(404, 'ResourceNotFoundException', 'The snapshot does not exist', 'SNAPSHOT_NOT_FOUND'),
  conflict: () => new Refusal(409, 'ConflictException', 'The client token was used with other parameters'),
  quota: () => new Refusal(402, 'ServiceQuotaExceededException', 'Too many pending snapshots'),
};

/** Starts the fake; it ends with the test. */
export async function strictEbs(): Promise<StrictEbs> {
  const faults = new Map<string, Fault[]>();
  const starts = new Map<string, { text: string; id: string }>();
  const newId = (): string => `snap-0${randomBytes(8).toString('hex')}`;
  const ebs: Omit<StrictEbs, 'url'> = {
    snapshots: new Map(),
    requests: [],
    pageBlocks: 10_000,
    emptyPages: false,
    fail: (operation, ...more) => void faults.set(operation, [...(faults.get(operation) ?? []), ...more]),
    mend: () => faults.clear(),
    put(image, parent) {
      const id = newId();
      const blocks = new Map<number, Buffer>();
      const before = parent === undefined ? Buffer.alloc(0) : ebs.contents(parent);
      for (let at = 0; at < image.length; at += BLOCK_BYTES) {
        const block = Buffer.alloc(BLOCK_BYTES);
        image.copy(block, 0, at, at + BLOCK_BYTES);
        const old = before.subarray(at, at + BLOCK_BYTES);
        const same = parent === undefined ? block.equals(Buffer.alloc(BLOCK_BYTES)) : block.equals(old);
        if (!same) blocks.set(at / BLOCK_BYTES, block);
      }
      const volumeGib = Math.ceil(image.length / 2 ** 30);
      ebs.snapshots.set(id, { state: 'completed', volumeGib, blocks, parent, request: {}, listing: 0 });
      return id;
    },
    contents(id) {
      const { volumeGib } = ebs.snapshots.get(id)!;
      const image = Buffer.alloc(volumeGib * 2 ** 30);
      for (const [index, block] of allBlocks(ebs, id)) block.copy(image, index * BLOCK_BYTES);
      return image;
    },
  };
  const { url } = await serveHttp((request, response) => {
    void answer(ebs, starts, faults, newId, request, response).catch((error: unknown) => {
      // Who asked has gone: a test that aborts.
      if ((error as NodeJS.ErrnoException).code === 'ECONNRESET') return;
      if (!(error instanceof Refusal)) throw error;
      if (response.headersSent) return;
      response.writeHead(error.status, { 'content-type': 'application/json', 'x-amzn-errortype': error.code });
      response.end(JSON.stringify({ Message: error.message, Reason: error.reason }));
    });
  });
  return Object.assign(ebs, { url });
}

function allBlocks({ snapshots }: Omit<StrictEbs, 'url'>, id: string): Map<number, Buffer> {
  const { parent, blocks } = snapshots.get(id)!;
  const inherited = parent === undefined ? new Map<number, Buffer>() : allBlocks({ snapshots } as StrictEbs, parent);
  return new Map([...inherited, ...blocks].sort(([a], [b]) => a - b));
}

const ROUTES: readonly [method: string, path: RegExp, operation: string][] = [
  ['POST', /^\/snapshots$/, 'StartSnapshot'],
  ['POST', /^\/snapshots\/completion\/(?<id>[^/]+)$/, 'CompleteSnapshot'],
  ['GET', /^\/snapshots\/(?<id>[^/]+)\/blocks$/, 'ListSnapshotBlocks'],
  ['GET', /^\/snapshots\/(?<id>[^/]+)\/changedblocks$/, 'ListChangedBlocks'],
  ['GET', /^\/snapshots\/(?<id>[^/]+)\/blocks\/(?<index>\d+)$/, 'GetSnapshotBlock'],
  ['PUT', /^\/snapshots\/(?<id>[^/]+)\/blocks\/(?<index>\d+)$/, 'PutSnapshotBlock'],
];

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

interface Asked {
  readonly id: string;
  readonly index: number;
  readonly query: URLSearchParams;
  readonly header: (name: string) => string | undefined;
  readonly body: Buffer;
}

interface Reply {
  status: number;
  headers?: Record<string, string | number>;
  body?: Buffer | object;
}

async function answer(
  ebs: Omit<StrictEbs, 'url'>,
  starts: Map<string, { text: string; id: string }>,
  faults: Map<string, Fault[]>,
  newId: () => string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = new URL(request.url!, 'http://fake');
  const route = ROUTES.find(([method, path]) => method === request.method && path.test(url.pathname));
  if (route === undefined) throw new Refusal(404, 'UnknownOperationException', `${request.method} ${url.pathname}`);
  const [, path, operation] = route;
  const { id = '', index = '0' } = path.exec(url.pathname)!.groups ?? {};
  ebs.requests.push(operation);
  ebs.onRequest?.(operation, Number(index));
  const fault = faults.get(operation)?.shift();
  if (fault === 'cut') return void request.socket.destroy();
  const body = await bodyOf(request);
  const refusal = fault && FAULTS[fault]?.();
  if (refusal) throw refusal;
  if (fault === 'flip' && operation === 'PutSnapshotBlock') body[0]! ^= 1;
  if (!request.headers.authorization?.startsWith('AWS4-HMAC-SHA256 ')) throw new Refusal(403, 'AccessDeniedException', 'not signed');
  const header = (name: string): string | undefined => request.headers[`x-amz-${name}`] as string | undefined;
  const asked: Asked = { id, index: Number(index), query: url.searchParams, header, body };
  if (fault === 'expired') {
    if (operation === 'GetSnapshotBlock') throw invalid('The block token has expired', 'INVALID_BLOCK_TOKEN');
    if (asked.query.has('pageToken')) throw invalid('The page token has expired', 'INVALID_PAGE_TOKEN');
  }
  const reply = operation === 'StartSnapshot' ? start(ebs, starts, newId, asked) : perform(ebs, operation, asked);
  if (fault === 'lostReply') return void request.socket.destroy();
  const bytes = Buffer.isBuffer(reply.body) ? Buffer.from(reply.body) : Buffer.from(JSON.stringify(reply.body ?? {}));
  if (fault === 'flip' && operation === 'GetSnapshotBlock') bytes[7]! ^= 1;
  if (fault === 'short') reply.headers!['x-amz-Data-Length'] = 512;
  const type = Buffer.isBuffer(reply.body) ? 'application/octet-stream' : 'application/json';
  response.writeHead(reply.status, { 'content-type': type, 'content-length': bytes.length, ...reply.headers });
  if (fault !== 'cutBody') return void response.end(bytes);
  response.write(bytes.subarray(0, Math.floor(bytes.length / 2)), () => request.socket.destroy());
}

function start(
  ebs: Omit<StrictEbs, 'url'>,
  starts: Map<string, { text: string; id: string }>,
  newId: () => string,
  { body }: Asked,
): Reply {
  const text = body.toString();
  const request = JSON.parse(text) as FakeSnapshot['request'] & { VolumeSize?: number; ClientToken?: string; ParentSnapshotId?: string };
  const { VolumeSize: volumeGib = 0, ClientToken = '', ParentSnapshotId: parent } = request;
  if (!Number.isInteger(volumeGib) || volumeGib < 1 || volumeGib > 65_536) throw invalid('volume size', 'INVALID_VOLUME_SIZE');
  if (!/^[\x20-\x7e]{1,64}$/.test(ClientToken)) throw invalid('client token');
  const { Timeout: minutes = 60, Tags = [], Description = '' } = request;
  if (minutes < 10 || minutes > 4320) throw invalid('timeout');
  if (Description.length > 255) throw invalid('description');
  if (Tags.length > 50 || Tags.some(({ Key, Value }) => Key === '' || Key.startsWith('aws:') || Key.length > 128 || Value.length > 256))
    throw invalid('tags', 'INVALID_TAG');
  if (request.Encrypted !== undefined && parent !== undefined) throw invalid('Encrypted and ParentSnapshotId exclude each other');
  if (parent !== undefined) {
    const from = ebs.snapshots.get(parent);
    if (from?.state !== 'completed') throw new Refusal(404, 'ResourceNotFoundException', 'no such parent', 'SNAPSHOT_NOT_FOUND');
    if (from.volumeGib > volumeGib) throw invalid('smaller than its parent', 'INVALID_VOLUME_SIZE');
  }
  const known = starts.get(ClientToken);
  if (known !== undefined && known.text !== text) throw FAULTS.conflict!();
  const id = known?.id ?? newId();
  if (known === undefined) {
    starts.set(ClientToken, { text, id });
    ebs.snapshots.set(id, { state: 'pending', volumeGib, blocks: new Map(), parent, request, listing: 0 });
  }
  return {
    status: 201,
    body: { SnapshotId: id, VolumeSize: volumeGib, BlockSize: BLOCK_BYTES, Status: 'pending', ParentSnapshotId: parent },
  };
}

function perform(ebs: Omit<StrictEbs, 'url'>, operation: string, asked: Asked): Reply {
  const { id, index, header } = asked;
  const snapshot = ebs.snapshots.get(id);
  if (snapshot === undefined) throw new Refusal(404, 'ResourceNotFoundException', 'The snapshot does not exist', 'SNAPSHOT_NOT_FOUND');
  const writes = operation === 'PutSnapshotBlock' || operation === 'CompleteSnapshot';
  if (writes && snapshot.state !== 'pending') throw invalid(`The snapshot ${id} is completed`, 'INVALID_SNAPSHOT_ID');
  if (!writes && snapshot.state !== 'completed') throw invalid(`The snapshot ${id} is pending`, 'INVALID_SNAPSHOT_ID');
  if (index >= snapshot.volumeGib * 2048) throw invalid('block index', 'INVALID_BLOCK');
  switch (operation) {
    case 'PutSnapshotBlock': {
      if (asked.body.length !== BLOCK_BYTES || header('data-length') !== String(BLOCK_BYTES))
        throw invalid('length of block', 'INVALID_BLOCK');
      if (header('checksum-algorithm') !== 'SHA256') throw invalid('checksum algorithm');
      const digest = sha256(asked.body);
      if (header('checksum') !== digest) throw invalid('The checksum of the block does not match', 'INVALID_BLOCK');
      snapshot.blocks.set(index, asked.body);
      return { status: 201, headers: { 'x-amz-Checksum': digest, 'x-amz-Checksum-Algorithm': 'SHA256' } };
    }
    case 'CompleteSnapshot': {
      const digests = [...snapshot.blocks].sort(([a], [b]) => a - b).map(([, block]) => createHash('sha256').update(block).digest());
      if (header('changedblockscount') !== String(digests.length)) throw invalid('ChangedBlocksCount does not match');
      if (header('checksum-aggregation-method') !== 'LINEAR' || header('checksum-algorithm') !== 'SHA256') throw invalid('aggregation');
      if (header('checksum') !== sha256(Buffer.concat(digests))) throw invalid('the aggregate does not match');
      snapshot.state = 'completed';
      return { status: 202, body: { Status: 'pending' } };
    }
    case 'GetSnapshotBlock': {
      const block = allBlocks(ebs, id).get(index);
      const token = asked.query.get('blockToken');
      if (block === undefined || token !== tokenOf(snapshot, index)) throw invalid('block token', 'INVALID_BLOCK_TOKEN');
      const headers = { 'x-amz-Data-Length': BLOCK_BYTES, 'x-amz-Checksum': sha256(block), 'x-amz-Checksum-Algorithm': 'SHA256' };
      return { status: 200, headers, body: block };
    }
    case 'ListSnapshotBlocks':
      return listBlocks(ebs, snapshot, asked);
    default:
      return listChanged(ebs, snapshot, asked);
  }
}

const tokenOf = (snapshot: FakeSnapshot, index: number): string => `${snapshot.listing}-${index}`;

/** A page of a listing: from an index, or from a token, which is one of this listing. */
function page(ebs: Omit<StrictEbs, 'url'>, snapshot: FakeSnapshot, { query }: Asked, indexes: number[]) {
  const most = Number(query.get('maxResults') ?? 10_000);
  if (!(most >= 100 && most <= 10_000)) throw invalid('MaxResults');
  const token = query.get('pageToken');
  const [listing, from, turn] = token === null ? [] : token.split(':').map(Number);
  if (token === null) snapshot.listing += 1;
  else if (listing !== snapshot.listing) throw invalid('page token', 'INVALID_PAGE_TOKEN');
  const start = from ?? Number(query.get('startingBlockIndex') ?? 0);
  const count = turn === 1 || !ebs.emptyPages ? Math.min(most, ebs.pageBlocks) : 0;
  const rest = indexes.filter((index) => index >= start);
  const found = rest.slice(0, count);
  const next = count === 0 ? `${snapshot.listing}:${start}:1` : `${snapshot.listing}:${(found.at(-1) ?? 0) + 1}:0`;
  return { found, about: { VolumeSize: snapshot.volumeGib, BlockSize: BLOCK_BYTES, ...(rest.length > count ? { NextToken: next } : {}) } };
}

function listBlocks(ebs: Omit<StrictEbs, 'url'>, snapshot: FakeSnapshot, asked: Asked): Reply {
  const { found, about } = page(ebs, snapshot, asked, [...allBlocks(ebs, asked.id).keys()]);
  const Blocks = found.map((index) => ({ BlockIndex: index, BlockToken: tokenOf(snapshot, index) }));
  return { status: 200, body: { Blocks, ...about } };
}

function listChanged(ebs: Omit<StrictEbs, 'url'>, snapshot: FakeSnapshot, asked: Asked): Reply {
  const first = asked.query.get('firstSnapshotId') ?? '';
  if (ebs.snapshots.get(first)?.state !== 'completed') throw FAULTS.unknown!();
  const [before, after] = [allBlocks(ebs, first), allBlocks(ebs, asked.id)];
  const lineage = (id: string | undefined): string[] => (id === undefined ? [] : [id, ...lineage(ebs.snapshots.get(id)!.parent)]);
  if (!lineage(asked.id).includes(first) && !lineage(first).includes(asked.id)) throw invalid('not related', 'UNRELATED_SNAPSHOTS');
  const indexes = [...new Set([...before.keys(), ...after.keys()])].filter((index) => before.get(index) !== after.get(index));
  const { found, about } = page(
    ebs,
    snapshot,
    asked,
    indexes.sort((a, b) => a - b),
  );
  const ChangedBlocks = found.map((index) => ({
    BlockIndex: index,
    ...(before.has(index) ? { FirstBlockToken: `first-${index}` } : {}),
    ...(after.has(index) ? { SecondBlockToken: tokenOf(snapshot, index) } : {}),
  }));
  return { status: 200, body: { ChangedBlocks, ...about } };
}
