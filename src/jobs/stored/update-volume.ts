/**
 * A volume that was made from an EBS snapshot becomes the image of a later one, in place: only the blocks that changed
 * between the two are read and written.
 */
import pLimit from 'p-limit';
import { VolsealError, withPath } from '../../errors.js';
import { EBS_BLOCK_BYTES, EBS_REQUESTS_AT_ONCE } from '../../limits.js';
import type { SnapshotOrigin } from '../../luks2/snapshot-origin.js';
import { repairHeader } from '../../luks2/store.js';
import { type DeviceHandle, native } from '../../native.js';
import { changedBlocks } from '../../stores/ebs/changes.js';
import { EbsConnection } from '../../stores/ebs/client.js';
import { snapshotId, snapshotName } from '../../stores/ebs/location.js';
import { openStored } from '../../stores/open.js';
import type { ImageSource, StoreOptions } from '../../stores/store.js';
import type { JobOptions } from '../../transfer/transform.js';
import { describeContents, type VolumeInfo } from '../../volume/info.js';
import { type VolumeSession, withVolume } from '../../volume/session.js';
import type { OpenOptions } from '../../volume/unlock.js';
import { checkSamples } from './snapshot-parent.js';

/** Options of `updateVolume`. */
export interface UpdateOptions extends OpenOptions, JobOptions {
  /** Id of the snapshot whose image the volume is: `snap-...`. */
  since: string;
  /** How EBS is reached. */
  store?: StoreOptions | undefined;
}

/** What `updateVolume` did. */
export interface UpdatedVolume extends VolumeInfo {
  /** Bytes of the blocks that were written; 0 where the volume was the snapshot's image already. */
  changedBytes: number;
  /** Seconds that moving them took. */
  dataSeconds: number;
}

const ZERO_BLOCK = Buffer.alloc(EBS_BLOCK_BYTES);
const STOPPED = 'where blocks were written already, the volume is a mixture of both snapshots; the same command finishes it';

/**
 * Brings a volume from the snapshot that it was made from to a later one of the same disk, under the data key that it
 * has. The header says first that the data is a mixture, and at the end whose image it is: whatever ends the job in
 * between, kill -9 and a power cut included, the same call finishes it, and nothing else opens the volume before that.
 *
 * That the volume is still the image of `since` is what its header says: it says so no longer once volseal has opened
 * the volume for writing. Some blocks are compared as well. What other tools wrote to it (cryptsetup, by a recovery
 * key) shows only there.
 *
 * @param snapshot `ebs:snap-...`, complete, of the size of the volume @param path of the volume, a file or a device
 * @throws {VolsealError} as `attach`; `ERR_IMAGE_DIFFERS` the volume is not the image of `since`; `ERR_IMAGE_SIZE` the
 * snapshot has another size; `ERR_STATE_INTERRUPTED` the volume is on its way to another snapshot; `ERR_STORE_*`
 */
export async function updateVolume(snapshot: string, path: string, options: UpdateOptions): Promise<UpdatedVolume> {
  const id = snapshotId(snapshot);
  const since = snapshotId(snapshotName(options.since));
  const access = { lock: 'exclusive', changesData: true, ifStopped: STOPPED, mixture: true } as const;
  try {
    return await withVolume(path, options, access, async (session) => {
      checkRecord(session.file.token.snapshot, { path, id, since });
      using source = await openStored(snapshot, options.store, options.signal);
      checkSize(source, session, path);
      await session.unlock();
      await repairHeader(session.file.header.handle, session.file.found, session.file.header.path);
      const startedMs = performance.now();
      const isDone = session.file.token.snapshot?.id === id && session.file.token.snapshot.since === undefined;
      const changedBytes = isDone ? 0 : await update(session, source, { id, since }, options);
      const dataSeconds = (performance.now() - startedMs) / 1000;
      return { ...(await describeContents(session.file)), changedBytes, dataSeconds };
    });
  } catch (error) {
    throw withPath(error, path);
  }
}

/** @returns bytes that were written */
async function update(
  session: VolumeSession,
  source: ImageSource,
  { id, since }: { id: string; since: string },
  { store, signal, onProgress }: UpdateOptions,
): Promise<number> {
  using connection = await EbsConnection.open(store);
  const device = session.openDevice(true);
  try {
    if (session.file.token.snapshot?.since === undefined) {
      using before = await openStored(snapshotName(since), store, signal);
      await checkSamples(imageIn(device, session), before, signal);
    }
    const totalBytes = session.file.sizeBytes;
    const atOnce = pLimit(EBS_REQUESTS_AT_ONCE);
    let changedBytes = 0;
    let isMixture = false;
    for await (const indexes of changedBlocks(connection, { since, id }, signal)) {
      // The first page shows that EBS takes the two for snapshots of one disk.
      if (!isMixture) await session.writeToken({ snapshot: { id, since, sequence: 0n } });
      isMixture = true;
      const within = indexes.filter((index) => index * EBS_BLOCK_BYTES < totalBytes);
      await allOrFirstFailure(
        within.map((index) =>
          atOnce(async () => {
            session.throwIfAborted();
            const bytes = await bringBlock(source, device, index, signal);
            changedBytes += bytes;
            onProgress?.({ doneBytes: Math.min(totalBytes, (index + 1) * EBS_BLOCK_BYTES), totalBytes });
          }),
        ),
      );
    }
    await native.deviceFlush(device);
    await session.writeToken({ snapshot: { id, sequence: 0n } });
    await session.afterFlush();
    onProgress?.({ doneBytes: totalBytes, totalBytes });
    return changedBytes;
  } finally {
    native.deviceClose(device);
  }
}

/** Nothing is still written when the device is closed. @throws the first failure */
async function allOrFirstFailure(jobs: readonly Promise<void>[]): Promise<void> {
  for (const outcome of await Promise.allSettled(jobs)) if (outcome.status === 'rejected') throw outcome.reason;
}

/** @returns bytes that were written */
async function bringBlock(source: ImageSource, device: DeviceHandle, index: number, signal: AbortSignal | undefined): Promise<number> {
  const offsetBytes = index * EBS_BLOCK_BYTES;
  const block = new Uint8Array(Math.min(EBS_BLOCK_BYTES, source.sizeBytes - offsetBytes));
  await source.readRange(offsetBytes, block, signal);
  // Of a sparse volume, holes stay holes.
  if (ZERO_BLOCK.subarray(0, block.length).equals(block)) await native.deviceZero(device, offsetBytes, block.length);
  else await native.deviceWrite(device, offsetBytes, block);
  return block.length;
}

/** The volume's contents, as a source. */
function imageIn(device: DeviceHandle, { file }: VolumeSession): ImageSource {
  return {
    name: file.data.path,
    sizeBytes: file.sizeBytes,
    readRange: async (offsetBytes, target) => target.set(await native.deviceRead(device, offsetBytes, target.length)),
  };
}

function checkRecord(record: SnapshotOrigin | undefined, { path, id, since }: { path: string; id: string; since: string }): void {
  const details = { path, snapshot: id, since };
  if (record?.since !== undefined && (record.id !== id || record.since !== since)) {
    const way = `is on its way from ${record.since} to ${record.id}, and its data is a mixture of both; finish that first`;
    throw new VolsealError('ERR_STATE_INTERRUPTED', `${path}: ${way}`, { details: { path, snapshot: record.id, since: record.since } });
  }
  if (record?.id === id || record?.id === since) return;
  const what = record === undefined ? 'was not encrypted from a snapshot, or was opened for writing since' : `is the image of ${record.id}`;
  throw new VolsealError('ERR_IMAGE_DIFFERS', `${path}: is not the image of ${since}: it ${what}`, { details });
}

function checkSize(source: ImageSource, { file }: VolumeSession, path: string): void {
  const { imageBytes } = file.token;
  if (source.sizeBytes === imageBytes) return;
  throw new VolsealError(
    'ERR_IMAGE_SIZE',
    `${path}: has ${imageBytes} bytes, and ${source.name} ${source.sizeBytes}: a volume keeps its size`,
    {
      details: { path, sizeBytes: imageBytes, snapshot: source.name },
    },
  );
}
