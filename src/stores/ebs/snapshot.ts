/** A snapshot as a source: blocks of 512 KiB, each compared with its SHA-256. What it does not have is zeros. */
import { webcrypto } from 'node:crypto';
import type { Readable } from 'node:stream';
import { VolsealError } from '../../errors.js';
import { EBS_BLOCK_BYTES } from '../../limits.js';
import { BodyBuffer, type BodyOptions } from '../reply-body.js';
import type { OpenSource, StoreOptions } from '../store.js';
import { type BlockToken, isTokenRefused, SnapshotBlocks } from './blocks.js';
import { EbsConnection } from './client.js';
import { snapshotId, snapshotName } from './location.js';

/** A listing is new, and its tokens are refused all the same: so often, then that is an error. */
const LISTINGS_MAX = 4;

/**
 * Opens a snapshot that is complete.
 * @param name `ebs:snap-...` @throws {VolsealError} `ERR_ARGUMENT`, `ERR_STORE_*`, `ERR_ABORTED`
 */
export async function openSnapshot(name: string, store: StoreOptions | undefined, signal?: AbortSignal): Promise<OpenSource> {
  const id = snapshotId(name);
  const connection = await EbsConnection.open(store);
  try {
    const blocks = await SnapshotBlocks.open(connection, id, signal);
    return {
      name,
      sizeBytes: blocks.volumeGib * 2 ** 30,
      // A snapshot that is complete does not change.
      state: id,
      readRange: (offsetBytes, target, ended) => readRange(connection, id, blocks, offsetBytes, target, ended),
      [Symbol.dispose]: () => connection.close(),
    };
  } catch (error) {
    connection.close();
    throw error;
  }
}

async function readRange(
  connection: EbsConnection,
  id: string,
  blocks: SnapshotBlocks,
  offsetBytes: number,
  target: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<void> {
  const endByte = offsetBytes + target.length;
  const firstIndex = Math.floor(offsetBytes / EBS_BLOCK_BYTES);
  const count = Math.ceil(endByte / EBS_BLOCK_BYTES) - firstIndex;
  await Promise.all(
    Array.from({ length: count }, async (_, ordinal) => {
      const index = firstIndex + ordinal;
      const atByte = index * EBS_BLOCK_BYTES;
      const from = Math.max(offsetBytes, atByte);
      const part = target.subarray(from - offsetBytes, Math.min(endByte, atByte + EBS_BLOCK_BYTES) - offsetBytes);
      await readBlock(
        connection,
        id,
        blocks,
        index,
        (block) => {
          if (block === undefined) part.fill(0);
          else part.set(block.subarray(from - atByte, from - atByte + part.length));
        },
        signal,
      );
    }),
  );
}

/** @param use gets the block, or undefined for one that the snapshot does not have */
async function readBlock(
  connection: EbsConnection,
  id: string,
  blocks: SnapshotBlocks,
  index: number,
  use: (block: Uint8Array | undefined) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (let listing = 1; ; listing += 1) {
    const found = await blocks.tokenOf(index, signal);
    if (found.token === undefined) return use(undefined);
    try {
      return await getBlock(connection, id, index, found, use, signal);
    } catch (error) {
      if (!isTokenRefused(error) || listing === LISTINGS_MAX) throw error;
      blocks.refused(found);
    }
  }
}

async function getBlock(
  connection: EbsConnection,
  id: string,
  index: number,
  { token }: BlockToken,
  use: (block: Uint8Array) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const name = snapshotName(id);
  await connection.call('GetSnapshotBlock', { name, signal, ofBlock: true }, async ({ client, sdk }, send) => {
    const into = new BodyBuffer(new Uint8Array(EBS_BLOCK_BYTES));
    const options: BodyOptions = { ...send, into };
    const reply = await client.send(new sdk.GetSnapshotBlockCommand({ SnapshotId: id, BlockIndex: index, BlockToken: token }), options);
    const { BlockData, DataLength, Checksum, ChecksumAlgorithm } = reply;
    if (DataLength !== EBS_BLOCK_BYTES || Checksum === undefined || ChecksumAlgorithm !== 'SHA256') {
      (BlockData as { destroy?(): void } | undefined)?.destroy?.();
      throw new VolsealError(
        'ERR_STORE_REQUEST',
        `${name}: the server sent ${DataLength} bytes of block ${index} with a checksum ${ChecksumAlgorithm}, expected ${EBS_BLOCK_BYTES} with SHA256`,
        { details: { path: name, block: index } },
      );
    }
    await into.fill(BlockData as unknown as Readable);
    const block = into.bytes;
    // In a thread of Node's own pool, unlike createHash.
    const digest = Buffer.from(await webcrypto.subtle.digest('SHA-256', block)).toString('base64');
    if (digest !== Checksum)
      throw Object.assign(new Error(`block ${index} has another SHA-256 than the server says`), { name: 'WrongChecksum' });
    use(block);
  });
}
