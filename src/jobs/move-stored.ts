/** A range of an object in a store, on its way into the file of a new volume. */
import { STORE_PIECE_BYTES } from '../limits.js';
import type { KeyHandle } from '../native.js';
import type { NamedFile } from '../output/named-file.js';
import type { ImageSource } from '../stores/store.js';
import type { ImageRange } from '../transfer/image-ranges.js';
import { movePieces } from '../transfer/move-pieces.js';
import type { JobOptions } from '../transfer/transform.js';
import type { PoolLease } from '../workers/pool.js';
import type { Layout, VolumePlan } from './volume-plan.js';

/** Where the data goes. */
export interface StoredMove {
  readonly file: NamedFile;
  readonly layout: Layout;
  readonly source: ImageSource;
  readonly key: KeyHandle;
  readonly pool: PoolLease;
  /** Its first byte is a multiple of 1 MiB. */
  readonly range: ImageRange;
}

/** Encrypts the range into the file of a new volume. @throws {VolsealError} as `encryptImage` */
export async function moveStoredRange({ sectorBytes }: VolumePlan, move: StoredMove, job: JobOptions): Promise<void> {
  const { file, layout, source, key, pool, range } = move;
  const { startByte, endByte } = range;
  await movePieces(
    {
      ...{ pool, key, encrypt: true, sectorBytes, sparse: false, source, sourceOffsetBytes: 0 },
      ...{ dataBytes: source.sizeBytes, pieceBytes: pieceBytesFrom(startByte), startByte },
      targetBytes: endByte === source.sizeBytes ? layout.dataBytes : endByte,
      checksum: undefined,
      write: ({ offsetBytes, bytes }) => file.write(bytes, layout.dataOffsetBytes + offsetBytes),
    },
    job,
  );
}

/** The longest pieces that meet at `startByte`. */
function pieceBytesFrom(startByte: number): number {
  let bytes = STORE_PIECE_BYTES;
  while (startByte % bytes !== 0) bytes /= 2;
  return bytes;
}
