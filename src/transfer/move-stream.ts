/**
 * An image that comes in order, through the cipher into a store. A fixed number of buffers goes round; pieces are read
 * one after the other, and transformed and sent beside each other.
 */
import { setMaxListeners } from 'node:events';
import { STORE_BUFFER_BYTES, STORE_BUFFERS_MAX } from '../limits.js';
import type { KeyHandle } from '../native.js';
import type { ImageTarget } from '../stores/store.js';
import { traced } from '../tracing.js';
import { throwIfAborted } from '../workers/abort.js';
import type { PoolLease } from '../workers/pool.js';
import { ChunkReader } from './chunk-reader.js';
import type { SourceChunks } from './image-stream.js';
import type { JobOptions } from './transform.js';

/** What moves, and how. */
export interface StreamMove {
  readonly pool: PoolLease;
  readonly key: KeyHandle;
  readonly sectorBytes: number;
  /** `sizeBytes` left out: as many bytes as come. */
  readonly source: SourceChunks;
  readonly target: Pick<ImageTarget, 'pieceBytes' | 'checksum' | 'write'>;
  /** In front of the data: a multiple of the sector, shorter than a piece. 0 for none. */
  readonly preambleBytes: number;
  /** What stands there. Asked for once, when it is known how many bytes the image has. */
  preamble(imageBytes: number): Uint8Array;
}

/** A piece that was read. */
interface ReadPiece {
  readonly index: number;
  readonly buffer: Uint8Array;
  /** Bytes of the image in it. */
  readonly readBytes: number;
}

/**
 * @returns bytes of the image
 * @throws {VolsealError} `ERR_IO` (also `ENODATA`, `EFBIG`: it is not as long as was said), what `preamble`, the cipher
 * and writing throw, the first of it; `ERR_ABORTED`
 */
export async function moveStream(move: StreamMove, { signal, onProgress }: JobOptions): Promise<number> {
  const failed = new AbortController();
  const ended = signal === undefined ? failed.signal : AbortSignal.any([signal, failed.signal]);
  // Each request under way listens to it.
  setMaxListeners(0, ended);
  const reader = new ChunkReader(move.source, ended);
  const underWay = new Set<Promise<void>>();
  let first: unknown;
  const fail = (error: unknown): void => {
    // What the others throw then is its consequence.
    if (!failed.signal.aborted) first = error;
    failed.abort();
  };
  try {
    return await readAndSend(move, reader, { underWay, ended, fail, onProgress });
  } catch (error) {
    fail(error);
    await Promise.allSettled(underWay);
    throwIfAborted(signal);
    throw first;
  } finally {
    reader.close();
  }
}

interface Sending extends Pick<JobOptions, 'onProgress'> {
  readonly underWay: Set<Promise<void>>;
  readonly ended: AbortSignal;
  /** Ends everything, also a wait for the next chunk. */
  fail(error: unknown): void;
}

async function readAndSend(move: StreamMove, reader: ChunkReader, { underWay, ended, fail, onProgress }: Sending): Promise<number> {
  const { pieceBytes } = move.target;
  const { sizeBytes } = move.source;
  const free: Uint8Array[] = [];
  let made = 0;
  const buffersMax = Math.min(STORE_BUFFERS_MAX, Math.max(3, Math.floor(STORE_BUFFER_BYTES / pieceBytes)));
  const buffer = async (): Promise<Uint8Array> => {
    // A failure is thrown here.
    while (free.length === 0 && made === buffersMax) await Promise.race(underWay);
    if (free.length === 0) made += 1;
    return free.pop() ?? new Uint8Array(new SharedArrayBuffer(pieceBytes));
  };
  const send = (piece: ReadPiece, preamble?: Uint8Array): void => {
    const sent = sendPiece(move, piece, preamble, ended).then(() => {
      underWay.delete(sent);
      free.push(piece.buffer);
    });
    sent.catch(fail);
    underWay.add(sent);
  };
  let held: ReadPiece | undefined;
  let imageBytes = 0;
  for (let index = 0; imageBytes !== sizeBytes; index += 1) {
    const into = await buffer();
    const data = into.subarray(index === 0 ? move.preambleBytes : 0);
    const wanted = data.subarray(0, sizeBytes === undefined ? data.length : sizeBytes - imageBytes);
    const readBytes = await reader.fill(wanted);
    imageBytes += readBytes;
    if (sizeBytes !== undefined && readBytes < wanted.length) throw reader.endsEarly(sizeBytes);
    const piece = { index, buffer: into, readBytes };
    // The first piece begins with the header, which says how long the image is.
    if (index === 0) held = piece;
    else if (readBytes > 0) send(piece);
    if (index === 0 && sizeBytes !== undefined) send(piece, move.preamble(sizeBytes));
    onProgress?.({ doneBytes: imageBytes, totalBytes: sizeBytes ?? imageBytes });
    if (readBytes < wanted.length) break;
  }
  if (sizeBytes === undefined) send(held!, move.preamble(imageBytes));
  else await reader.expectEnd();
  await Promise.all(underWay);
  return imageBytes;
}

async function sendPiece(
  { pool, key, sectorBytes, target, preambleBytes }: StreamMove,
  { index, buffer, readBytes }: ReadPiece,
  preamble: Uint8Array | undefined,
  signal: AbortSignal,
): Promise<void> {
  const offsetBytes = preamble === undefined ? 0 : preambleBytes;
  if (preamble !== undefined) buffer.set(preamble);
  const dataBytes = Math.ceil(readBytes / sectorBytes) * sectorBytes;
  buffer.fill(0, offsetBytes + readBytes, offsetBytes + dataBytes);
  const area = buffer.subarray(0, offsetBytes + dataBytes);
  const at = index * target.pieceBytes;
  const { checksum } = target;
  const task = { kind: 'piece', key, encrypt: true, sectorBytes, sparse: false, area, offsetBytes, checksum } as const;
  const sums = await pool.run({ ...task, startByte: index === 0 ? 0 : at - preambleBytes, checksumBytes: area.length });
  await traced('volseal.part', { offsetBytes: at, bytes: area.length }, () =>
    target.write({ offsetBytes: at, bytes: area, ...sums }, signal),
  );
}
