/**
 * Which blocks a snapshot has, and the tokens to read them with. Listed page by page as they are needed, and forgotten
 * behind that: all tokens of 64 TiB would not fit into memory.
 */
import { VolsealError } from '../../errors.js';
import { EBS_BLOCK_BYTES, EBS_LIST_BLOCKS, EBS_VOLUME_GIB_MAX } from '../../limits.js';
import type { EbsConnection } from './client.js';
import { reasonOf } from './errors.js';
import { snapshotName } from './location.js';

/** A token of a listing. EBS changes the tokens when a snapshot is listed anew. */
export interface BlockToken {
  /** Undefined: the snapshot does not have the block. */
  readonly token: string | undefined;
  /** Of which listing: for `refused`. */
  readonly listing: number;
}

interface Page {
  readonly fromIndex: number;
  /** Behind the last index that the page speaks of. */
  readonly toIndex: number;
  readonly tokens: ReadonlyMap<number, string>;
}

interface Listed {
  readonly blocks: readonly (readonly [index: number, token: string])[];
  readonly nextToken: string | undefined;
  readonly volumeGib: number;
}

/** Pieces overtake each other, but not by more. */
const PAGES_KEPT = 4;
/** What is farther ahead is listed from there. */
const INDEX_JUMP = 50_000;

/** The blocks of a snapshot that is complete. */
export class SnapshotBlocks {
  readonly #connection: EbsConnection;
  readonly #snapshotId: string;
  /** One behind the other, without a gap. */
  #pages: Page[] = [];
  #nextToken: string | undefined;
  #listing = 0;
  #listed: Promise<unknown> = Promise.resolve();
  /** GiB of the volume. */
  readonly volumeGib: number;

  private constructor(connection: EbsConnection, snapshotId: string, first: Listed) {
    this.#connection = connection;
    this.#snapshotId = snapshotId;
    this.volumeGib = first.volumeGib;
    this.#take(0, first);
  }

  /** Lists the first page. @throws {VolsealError} `ERR_STORE_*`, `ERR_ABORTED` */
  static async open(connection: EbsConnection, snapshotId: string, signal: AbortSignal | undefined): Promise<SnapshotBlocks> {
    return new SnapshotBlocks(connection, snapshotId, await list(connection, snapshotId, { startIndex: 0 }, signal));
  }

  /** Where block `index` is read. @throws {VolsealError} `ERR_STORE_*`, `ERR_ABORTED` */
  async tokenOf(index: number, signal: AbortSignal | undefined): Promise<BlockToken> {
    for (;;) {
      const page = this.#pages.find(({ fromIndex, toIndex }) => index >= fromIndex && index < toIndex);
      if (page !== undefined) return { token: page.tokens.get(index), listing: this.#listing };
      // One listing at a time: who waited looks again.
      const listed = this.#listed.catch(() => {}).then(() => this.#list(index, signal));
      this.#listed = listed;
      await listed;
    }
  }

  /** EBS did not take a token of that listing: all of them are too old. */
  refused({ listing }: BlockToken): void {
    if (listing === this.#listing) this.#pages = [];
  }

  async #list(index: number, signal: AbortSignal | undefined): Promise<void> {
    if (this.#pages.some(({ fromIndex, toIndex }) => index >= fromIndex && index < toIndex)) return;
    const endIndex = this.#pages.at(-1)?.toIndex ?? Number.NEGATIVE_INFINITY;
    const continues = this.#nextToken !== undefined && index >= endIndex && index < endIndex + INDEX_JUMP;
    if (continues) {
      const next = await list(this.#connection, this.#snapshotId, { nextToken: this.#nextToken! }, signal).catch(unlessExpired);
      if (next !== undefined) return this.#take(endIndex, next);
    }
    const anew = await list(this.#connection, this.#snapshotId, { startIndex: index }, signal);
    this.#pages = [];
    this.#listing += 1;
    this.#take(index, anew);
  }

  #take(fromIndex: number, { blocks, nextToken }: Listed): void {
    this.#nextToken = nextToken;
    const last = blocks.at(-1)?.[0];
    const toIndex = nextToken === undefined ? Number.POSITIVE_INFINITY : last === undefined ? fromIndex : last + 1;
    // A page may be empty and yet not the last.
    const kept = this.#pages.filter((page) => page.toIndex > page.fromIndex);
    this.#pages = [...kept, { fromIndex, toIndex, tokens: new Map(blocks) }].slice(-PAGES_KEPT);
  }
}

/** Undefined where the token of a page was too old: it lives for an hour. */
export function unlessExpired(error: unknown): undefined {
  if (error instanceof VolsealError && error.details.reason === 'INVALID_PAGE_TOKEN') return undefined;
  throw error;
}

/** Whether EBS does not take the token of a block any more. */
export const isTokenRefused = (error: unknown): boolean => reasonOf((error as { cause?: unknown }).cause) === 'INVALID_BLOCK_TOKEN';

async function list(
  connection: EbsConnection,
  snapshotId: string,
  { startIndex, nextToken }: { startIndex?: number; nextToken?: string },
  signal: AbortSignal | undefined,
): Promise<Listed> {
  const name = snapshotName(snapshotId);
  const from = nextToken === undefined ? { StartingBlockIndex: startIndex } : { NextToken: nextToken };
  const reply = await connection.call('ListSnapshotBlocks', { name, signal }, ({ client, sdk }, send) =>
    client.send(new sdk.ListSnapshotBlocksCommand({ SnapshotId: snapshotId, MaxResults: EBS_LIST_BLOCKS, ...from }), send),
  );
  const { Blocks = [], BlockSize, VolumeSize, NextToken } = reply;
  return { blocks: checkBlocks(Blocks, { name, BlockSize, VolumeSize }), nextToken: NextToken || undefined, volumeGib: VolumeSize! };
}

function checkBlocks(
  blocks: readonly { BlockIndex?: number | undefined; BlockToken?: string | undefined }[],
  { name, BlockSize, VolumeSize }: { name: string; BlockSize: number | undefined; VolumeSize: number | undefined },
): (readonly [number, string])[] {
  const refuse = (what: string): never => {
    throw new VolsealError('ERR_STORE_REQUEST', `${name}: the server lists ${what}`, { details: { path: name } });
  };
  if (BlockSize !== EBS_BLOCK_BYTES) refuse(`blocks of ${BlockSize} bytes, expected ${EBS_BLOCK_BYTES}`);
  if (VolumeSize === undefined || !Number.isInteger(VolumeSize) || VolumeSize < 1 || VolumeSize > EBS_VOLUME_GIB_MAX)
    return refuse(`a volume of ${VolumeSize} GiB`);
  let lastIndex = -1;
  return blocks.map(({ BlockIndex = -1, BlockToken = '' }) => {
    if (BlockIndex <= lastIndex || BlockToken === '' || BlockIndex * EBS_BLOCK_BYTES >= VolumeSize * 2 ** 30)
      refuse(`block ${BlockIndex} behind block ${lastIndex}, of a volume of ${VolumeSize} GiB`);
    lastIndex = BlockIndex;
    return [BlockIndex, BlockToken] as const;
  });
}
