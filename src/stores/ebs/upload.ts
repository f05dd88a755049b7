/**
 * A new snapshot. Each block carries its SHA-256, and the whole snapshot's is named at the end: EBS refuses what
 * differs. Nobody can read the snapshot before that.
 */
import { createHash, type Hash, randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import pLimit from 'p-limit';
import { VolsealError } from '../../errors.js';
import { EBS_BLOCK_BYTES, EBS_PIECE_BYTES, EBS_REQUESTS_AT_ONCE, EBS_TIMEOUT_MINUTES, EBS_VOLUME_GIB_MAX } from '../../limits.js';
import type { ImageSource, ImageTarget, Piece, SnapshotOptions, StoreOptions } from '../store.js';
import { SnapshotBlocks } from './blocks.js';
import { EbsConnection } from './client.js';
import { checkNewSnapshot, snapshotName } from './location.js';
import { startOptions } from './options.js';

const GIB = 2 ** 30;
const DIGEST_BYTES = 32;
const ZERO_BLOCK = new Uint8Array(EBS_BLOCK_BYTES);
const ZERO_DIGEST = createHash('sha256').update(ZERO_BLOCK).digest();

/** How a snapshot is made. */
export interface UploadOptions extends SnapshotOptions {
  /** Blocks of zeros are left out. Not with a parent, whose block would show instead. */
  readonly sparse?: boolean | undefined;
  /** The contents of the parent: blocks that are equal to it are left out. Beyond its end it is zeros. */
  readonly base?: ImageSource | undefined;
  /** Goes on with a snapshot that an interrupted run began, with the same options and the same bytes. */
  readonly begun?: BegunSnapshot | undefined;
  /** EBS cancels the snapshot where nothing is written to it for so long. Default: an hour. */
  readonly timeoutMinutes?: number | undefined;
}

/** A snapshot that an interrupted run began. */
export interface BegunSnapshot {
  readonly snapshotId: string;
  /** So many blocks from the first on were sent, or left out: they are not sent again. */
  readonly sentBlocks: number;
}

/** A new snapshot, which knows how far it is. */
export interface SnapshotUpload extends ImageTarget {
  readonly snapshotId: string;
  /** So many blocks from the first on were sent, or left out. */
  readonly sentBlocks: number;
}

/**
 * Begins a snapshot of a volume of whole GiB, or goes on with one.
 * @param name `ebs:new`
 * @throws {VolsealError} `ERR_ARGUMENT`, `ERR_IMAGE_SIZE` (beyond 64 TiB), `ERR_STORE_*`, `ERR_ABORTED`
 */
export async function startUpload(
  name: string,
  sizeBytes: number,
  options: UploadOptions,
  store: StoreOptions | undefined,
  signal?: AbortSignal,
): Promise<SnapshotUpload> {
  checkNewSnapshot(name);
  const { timeoutMinutes = EBS_TIMEOUT_MINUTES } = options;
  if (options.base !== undefined && options.sparse === true)
    throw new VolsealError(
      'ERR_ARGUMENT',
      `${name}: has a parent, so that blocks that became zeros must be written; leave out the sparse option`,
      {
        details: { path: name },
      },
    );
  const VolumeSize = Math.ceil(sizeBytes / GIB);
  if (VolumeSize > EBS_VOLUME_GIB_MAX)
    throw new VolsealError('ERR_IMAGE_SIZE', `${name}: ${sizeBytes} bytes are more than the ${EBS_VOLUME_GIB_MAX} GiB of an EBS volume`, {
      details: { path: name, sizeBytes, sizeBytesMax: EBS_VOLUME_GIB_MAX * GIB },
    });
  // The same in every attempt: a reply that was lost must not leave a second snapshot.
  const request = { ...startOptions(name, options), VolumeSize, ClientToken: randomUUID(), Timeout: timeoutMinutes };
  const connection = await EbsConnection.open(store);
  const blockCount = VolumeSize * (GIB / EBS_BLOCK_BYTES);
  if (options.begun !== undefined) return new EbsUpload(connection, options.begun, blockCount, options);
  try {
    const reply = await connection.call('StartSnapshot', { name, signal }, ({ client, sdk }, send) =>
      client.send(new sdk.StartSnapshotCommand(request), send),
    );
    const { SnapshotId: id, BlockSize, VolumeSize: startedGib } = reply;
    if (id === undefined || BlockSize !== EBS_BLOCK_BYTES || startedGib !== VolumeSize)
      throw new VolsealError(
        'ERR_STORE_REQUEST',
        `${name}: the server began ${id ?? 'a snapshot without an id'} of ${startedGib} GiB in blocks of ${BlockSize} bytes; asked was ${VolumeSize} GiB in blocks of ${EBS_BLOCK_BYTES}`,
        { details: { path: name } },
      );
    return new EbsUpload(connection, { snapshotId: id, sentBlocks: 0 }, blockCount, options);
  } catch (error) {
    connection.close();
    throw error;
  }
}

class EbsUpload implements SnapshotUpload {
  readonly name: string;
  readonly snapshotId: string;
  readonly pieceBytes = EBS_PIECE_BYTES;
  readonly checksum = 'blocks';
  readonly #connection: EbsConnection;
  /** By an earlier run. */
  readonly #sentBefore: number;
  readonly #blockCount: number;
  readonly #sparse: boolean;
  readonly #base: ImageSource | undefined;
  readonly #sum = new OrderedSum();
  #endIndex = 0;

  constructor(connection: EbsConnection, begun: BegunSnapshot, blockCount: number, { sparse = false, base }: UploadOptions) {
    this.name = snapshotName(begun.snapshotId);
    this.snapshotId = begun.snapshotId;
    this.#connection = connection;
    this.#sentBefore = begun.sentBlocks;
    this.#blockCount = blockCount;
    this.#sparse = sparse;
    this.#base = base;
  }

  get sentBlocks(): number {
    return Math.max(this.#sentBefore, this.#sum.nextIndex);
  }

  async write({ offsetBytes, bytes, blockDigests }: Piece, signal?: AbortSignal): Promise<void> {
    const firstIndex = offsetBytes / EBS_BLOCK_BYTES;
    const count = Math.ceil(bytes.length / EBS_BLOCK_BYTES);
    this.#endIndex = Math.max(this.#endIndex, firstIndex + count);
    await Promise.all(
      Array.from({ length: count }, (_, ordinal) => {
        const block = bytes.subarray(ordinal * EBS_BLOCK_BYTES, (ordinal + 1) * EBS_BLOCK_BYTES);
        const digest = Buffer.from(blockDigests.subarray(ordinal * DIGEST_BYTES, (ordinal + 1) * DIGEST_BYTES));
        return this.#put(firstIndex + ordinal, padded(block), digest, signal);
      }),
    );
  }

  async complete(signal?: AbortSignal): Promise<void> {
    // A volume of whole GiB is longer than its image: that part is to read as zeros as well.
    const rest = Array.from({ length: this.#blockCount - this.#endIndex }, (_, ordinal) => this.#endIndex + ordinal);
    // Each has the parent's block in memory, where there is a parent.
    const atOnce = pLimit(EBS_REQUESTS_AT_ONCE);
    // Each request under way listens to it: not to the caller's.
    const ended = AbortSignal.any(signal === undefined ? [] : [signal]);
    setMaxListeners(0, ended);
    await Promise.all(rest.map((index) => atOnce(() => this.#put(index, ZERO_BLOCK, ZERO_DIGEST, ended))));
    const { count, digest } = this.#sum.finish(this.#blockCount);
    let attempts = 0;
    const about = { name: this.name, signal, isNew: true };
    await this.#connection
      .call('CompleteSnapshot', about, ({ client, sdk }, send) => {
        attempts += 1;
        return client.send(
          new sdk.CompleteSnapshotCommand({
            ...{ SnapshotId: this.snapshotId, ChangedBlocksCount: count },
            ...{ Checksum: digest, ChecksumAlgorithm: 'SHA256', ChecksumAggregationMethod: 'LINEAR' },
          }),
          send,
        );
      })
      .catch(async (error: unknown) => {
        // A first attempt whose reply was lost has completed it: the second one finds it done, and it can be read.
        if (attempts === 1 || !(error instanceof VolsealError) || error.code !== 'ERR_STORE_REQUEST') throw error;
        await SnapshotBlocks.open(this.#connection, this.snapshotId, signal).catch(() => {
          throw error;
        });
      });
  }

  async #put(index: number, block: Uint8Array, digest: Buffer, signal: AbortSignal | undefined): Promise<void> {
    const isLeftOut = this.#base === undefined ? this.#sparse && digest.equals(ZERO_DIGEST) : await isIn(this.#base, index, block, signal);
    if (isLeftOut) return this.#sum.add(index, undefined);
    // EBS compares the digests of all blocks at the end, these too.
    if (index < this.#sentBefore) return this.#sum.add(index, digest);
    const Checksum = digest.toString('base64');
    const reply = await this.#connection.call(
      'PutSnapshotBlock',
      { name: this.name, signal, isNew: this.#sentBefore === 0, ofBlock: true },
      ({ client, sdk }, send) =>
        client.send(
          new sdk.PutSnapshotBlockCommand({
            ...{ SnapshotId: this.snapshotId, BlockIndex: index, BlockData: block, DataLength: EBS_BLOCK_BYTES },
            ...{ Checksum, ChecksumAlgorithm: 'SHA256' },
          }),
          send,
        ),
    );
    if ((reply.Checksum ?? Checksum) !== Checksum)
      throw new VolsealError('ERR_STORE_REQUEST', `${this.name}: the server got other bytes than were sent (block ${index})`, {
        details: { path: this.name, block: index },
      });
    this.#sum.add(index, digest);
  }

  /** A snapshot that is not completed stays pending, unreadable, until EBS cancels it: these APIs cannot delete it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#connection.close();
  }
}

async function isIn(base: ImageSource, index: number, block: Uint8Array, signal: AbortSignal | undefined): Promise<boolean> {
  const before = new Uint8Array(EBS_BLOCK_BYTES);
  const atByte = index * EBS_BLOCK_BYTES;
  const area = before.subarray(0, Math.max(0, Math.min(EBS_BLOCK_BYTES, base.sizeBytes - atByte)));
  if (area.length > 0) await base.readRange(atByte, area, signal);
  return Buffer.from(before.buffer).equals(block);
}

function padded(block: Uint8Array): Uint8Array {
  if (block.length === EBS_BLOCK_BYTES) return block;
  const whole = new Uint8Array(EBS_BLOCK_BYTES);
  whole.set(block);
  return whole;
}

/** SHA-256 over the digests of the blocks in the order of their index, whatever the order in which they come. */
class OrderedSum {
  readonly #hash: Hash = createHash('sha256');
  readonly #waiting = new Map<number, Buffer | undefined>();
  #nextIndex = 0;
  #count = 0;

  /** All before it have come. */
  get nextIndex(): number {
    return this.#nextIndex;
  }

  /** @param digest undefined for a block that is left out */
  add(index: number, digest: Buffer | undefined): void {
    this.#waiting.set(index, digest);
    for (; this.#waiting.has(this.#nextIndex); this.#nextIndex += 1) {
      const next = this.#waiting.get(this.#nextIndex);
      this.#waiting.delete(this.#nextIndex);
      if (next === undefined) continue;
      this.#hash.update(next);
      this.#count += 1;
    }
  }

  finish(blockCount: number): { count: number; digest: string } {
    if (this.#nextIndex !== blockCount) throw new Error(`${this.#nextIndex} of ${blockCount} blocks were written`);
    return { count: this.#count, digest: this.#hash.digest('base64') };
  }
}
