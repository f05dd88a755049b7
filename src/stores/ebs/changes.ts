/** Which blocks of a snapshot differ from those of another one of the same volume. */
import { VolsealError } from '../../errors.js';
import { EBS_BLOCK_BYTES, EBS_LIST_BLOCKS, EBS_VOLUME_GIB_MAX } from '../../limits.js';
import { unlessExpired } from './blocks.js';
import type { EbsConnection } from './client.js';
import { snapshotName } from './location.js';

interface Page {
  readonly indexes: readonly number[];
  readonly nextToken: string | undefined;
}

/**
 * The indexes of the blocks that differ, in order, page by page; also of those that only one of the two has.
 * @param since id of the earlier snapshot @param id of the later one
 * @throws {VolsealError} `ERR_STORE_REQUEST` (also where the two are not related), other `ERR_STORE_*`, `ERR_ABORTED`
 */
export async function* changedBlocks(
  connection: EbsConnection,
  { since, id }: { since: string; id: string },
  signal: AbortSignal | undefined,
): AsyncGenerator<readonly number[]> {
  let startIndex = 0;
  let nextToken: string | undefined;
  do {
    const continued =
      nextToken === undefined
        ? undefined
        : await listChanged(connection, { since, id, startIndex, nextToken }, signal).catch(unlessExpired);
    const page: Page = continued ?? (await listChanged(connection, { since, id, startIndex }, signal));
    if (page.indexes.length > 0) yield page.indexes;
    startIndex = (page.indexes.at(-1) ?? startIndex - 1) + 1;
    nextToken = page.nextToken;
  } while (nextToken !== undefined);
}

/** @param asked `startIndex`: where the listing begins, and what an index must not be below */
async function listChanged(
  connection: EbsConnection,
  { since, id, startIndex, nextToken }: { since: string; id: string; startIndex: number; nextToken?: string },
  signal: AbortSignal | undefined,
): Promise<Page> {
  const name = snapshotName(id);
  const from = nextToken === undefined ? { StartingBlockIndex: startIndex } : { NextToken: nextToken };
  const reply = await connection.call('ListChangedBlocks', { name, signal }, ({ client, sdk }, send) =>
    client.send(
      new sdk.ListChangedBlocksCommand({ FirstSnapshotId: since, SecondSnapshotId: id, MaxResults: EBS_LIST_BLOCKS, ...from }),
      send,
    ),
  );
  const refuse = (what: string): never => {
    throw new VolsealError('ERR_STORE_REQUEST', `${name}: the server lists ${what}`, { details: { path: name } });
  };
  const { ChangedBlocks = [], BlockSize, NextToken } = reply;
  if (BlockSize !== EBS_BLOCK_BYTES) refuse(`blocks of ${BlockSize} bytes, expected ${EBS_BLOCK_BYTES}`);
  const endIndex = (EBS_VOLUME_GIB_MAX * 2 ** 30) / EBS_BLOCK_BYTES;
  let lowest = startIndex;
  const indexes = ChangedBlocks.map(({ BlockIndex = -1 }) => {
    if (!Number.isInteger(BlockIndex) || BlockIndex < lowest || BlockIndex >= endIndex)
      refuse(`block ${BlockIndex} where ${lowest} or a later one was expected`);
    lowest = BlockIndex + 1;
    return BlockIndex;
  });
  return { indexes, nextToken: NextToken || undefined };
}
