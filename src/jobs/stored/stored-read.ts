/** A range of a volume in a store, decrypted: only the sectors that it touches are fetched. */
import { VolsealError } from '../../errors.js';
import { STREAM_PIECE_BYTES, STREAM_PIECES_AHEAD } from '../../limits.js';
import { type StoredOpenOptions, type StoredSession, withStoredVolume } from '../../volume/stored-volume.js';

/** Which bytes of a volume. */
export interface StoredRange {
  /** Default 0. */
  offsetBytes?: number | undefined;
  /** Default: up to the volume's end. */
  lengthBytes?: number | undefined;
}

/** What was read. */
export interface StoredRead {
  /** `vol-` and 17 hexadecimal digits. */
  volumeId: string;
  /** Where the range began. */
  offsetBytes: number;
  /** How long it was. */
  readBytes: number;
}

/**
 * Reads a range of a volume that is an object (`s3://BUCKET/KEY`), without fetching the rest.
 *
 * @param use takes the pieces, in order; ends before the call does
 * @throws {VolsealError} `ERR_ARGUMENT` (beyond the volume), `ERR_STORE_*`, `ERR_SOURCE_CHANGED`, `ERR_NOT_A_VOLUME`,
 * `ERR_HEADER_*`, `ERR_KMS_*`, `ERR_ABORTED`, and whatever `use` throws
 */
export async function readStoredRange(
  path: string,
  range: StoredRange,
  options: StoredOpenOptions,
  use: (pieces: AsyncIterable<Uint8Array>) => Promise<void>,
): Promise<StoredRead> {
  return withStoredVolume(path, options, async (session) => {
    const { sizeBytes, token } = session.volume;
    const { offsetBytes = 0, lengthBytes = Math.max(sizeBytes - offsetBytes, 0) } = range;
    if (!Number.isSafeInteger(offsetBytes) || !Number.isSafeInteger(lengthBytes) || offsetBytes < 0 || lengthBytes < 0)
      throw new VolsealError('ERR_ARGUMENT', `${path}: offset and length must be whole numbers of bytes`, { details: { path } });
    if (offsetBytes + lengthBytes > sizeBytes)
      throw new VolsealError('ERR_ARGUMENT', `${path}: ${lengthBytes} bytes at ${offsetBytes} reach beyond the volume's ${sizeBytes}`, {
        details: { path, offsetBytes, lengthBytes, sizeBytes },
      });
    await use(piecesOf(session, offsetBytes, offsetBytes + lengthBytes, options.signal));
    return { volumeId: token.volumeId, offsetBytes, readBytes: lengthBytes };
  });
}

/**
 * The plaintext of a range, in order: while the reader takes a piece, the next ones are fetched.
 * @throws {VolsealError} `ERR_STORE_*`, `ERR_SOURCE_CHANGED`, `ERR_ABORTED`
 */
export async function* piecesOf(session: StoredSession, startByte: number, endByte: number, signal: AbortSignal | undefined) {
  const ahead: Promise<Uint8Array>[] = [];
  let next = startByte;
  const fetchNext = (): void => {
    const piece = readPiece(session, next, pieceEnd(next, endByte), signal);
    // Its failure is the reader's once it gets there.
    piece.catch(() => {});
    ahead.push(piece);
    next = pieceEnd(next, endByte);
  };
  try {
    for (let at = startByte; at < endByte; at = pieceEnd(at, endByte)) {
      while (next < endByte && ahead.length <= STREAM_PIECES_AHEAD) fetchNext();
      yield await ahead.shift()!;
    }
  } finally {
    // Whoever ends early wipes the key next.
    await Promise.allSettled(ahead);
  }
}

/** Pieces end at multiples of their size, so that each sector is read once. */
const pieceEnd = (at: number, endByte: number): number => Math.min(endByte, at - (at % STREAM_PIECE_BYTES) + STREAM_PIECE_BYTES);

async function readPiece({ volume, key, pool }: StoredSession, startByte: number, endByte: number, signal: AbortSignal | undefined) {
  const { segment, source, token } = volume;
  const { sectorBytes } = segment;
  const from = startByte - (startByte % sectorBytes);
  const area = new Uint8Array(new SharedArrayBuffer(Math.ceil((endByte - from) / sectorBytes) * sectorBytes));
  await source.readRange(segment.offsetBytes + from, area, signal);
  await pool.run({
    kind: 'piece',
    ...{ key, encrypt: false, sectorBytes, startByte: from, area, offsetBytes: 0 },
    sparse: token.allocation === 'sparse',
    checksum: undefined,
    checksumBytes: 0,
  });
  return area.subarray(startByte - from, endByte - from);
}
