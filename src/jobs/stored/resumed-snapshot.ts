/**
 * An image that becomes a snapshot, in a way that a later run can go on with. EBS does not tell which blocks a pending
 * snapshot has, so a record beside the volume says how many were sent. A later run computes all blocks again, sends the
 * rest, and EBS compares the digests of all.
 */
import canonicalize from 'canonicalize';
import { VolsealError } from '../../errors.js';
import { CHECKPOINT_INTERVAL_MS, EBS_RESUMABLE_MINUTES } from '../../limits.js';
import type { KeyHandle } from '../../native.js';
import type { NamedFile } from '../../output/named-file.js';
import type { VolumeIdentity } from '../../resume/resume.js';
import { SnapshotRecord } from '../../resume/snapshot-record.js';
import { snapshotName } from '../../stores/ebs/location.js';
import { type BegunSnapshot, type SnapshotUpload, startUpload } from '../../stores/ebs/upload.js';
import { openStored } from '../../stores/open.js';
import { movePieces, type PieceMove } from '../../transfer/move-pieces.js';
import { differenceOf, identifySource, whileUnchanged } from '../../transfer/source-watch.js';
import type { DecryptOptions } from '../decrypt-options.js';
import { openParent } from './snapshot-parent.js';

/** A volume in a file. */
export interface SnapshotSource extends VolumeIdentity {
  readonly file: NamedFile;
  readonly fileBytes: number;
  /** The volume's; undefined for a copy of the volume as it is. */
  readonly key: KeyHandle | undefined;
}

/**
 * Makes the snapshot, or completes the one that an interrupted run has begun. @param name `ebs:new`
 * @returns the snapshot's name @throws {VolsealError} as `decryptImage`
 */
export async function resumableSnapshot(
  name: string,
  { file, fileBytes, volumeId, uuid, key }: SnapshotSource,
  move: Omit<PieceMove, 'write' | 'pieceBytes' | 'checksum'>,
  options: DecryptOptions,
): Promise<string> {
  const { sparse = false, snapshot = {}, store, signal, onWarning } = options;
  await using record = await SnapshotRecord.open(file);
  const { changedAgainst: _, ...chosen } = snapshot;
  const source = await identifySource(file, fileBytes);
  const contents = key === undefined ? { asIs: true } : {};
  const job = { volumeId, uuid, source, choices: canonicalize({ ...chosen, ...contents, sparse })! };
  const begun = await record.find(job, key);
  if (begun !== undefined && (await isComplete(begun, record, options))) {
    await record.remove();
    return snapshotName(begun.snapshotId);
  }
  await using parent = await openParent(snapshot, store, signal);
  const wanted = { ...snapshot, sparse, base: parent?.source, begun, timeoutMinutes: EBS_RESUMABLE_MINUTES };
  await using upload = await startUpload(name, move.targetBytes, wanted, store, signal);
  if (begun === undefined) await record.begin(upload.snapshotId, job, key);
  else onWarning?.(`${upload.name}: resuming: ${begun.sentBlocks} blocks were sent; they are computed again, not sent again`);
  try {
    await whileUnchanged(file, fileBytes, async () => {
      // Once more: EBS may have taken long to answer.
      const difference = differenceOf(source, await identifySource(file, fileBytes));
      if (difference !== undefined) throw record.refuse(`the volume is not as it was: ${difference}`, upload);
      const { pieceBytes, checksum } = upload;
      const write: PieceMove['write'] = (piece, ended) => upload.write(piece, ended);
      await saving(record, upload, () => movePieces({ ...move, pieceBytes, checksum, write }, options));
    });
    await options.beforePublish?.();
    await upload.complete(signal);
  } catch (error) {
    throw await kept(error, record, upload, begun);
  }
  await record.remove();
  return upload.name;
}

/** A run that was killed may have completed it. @throws {VolsealError} `ERR_RESUME` it is gone */
async function isComplete({ snapshotId }: BegunSnapshot, record: SnapshotRecord, { store, signal }: DecryptOptions): Promise<boolean> {
  try {
    using _ = await openStored(snapshotName(snapshotId), store, signal);
    return true;
  } catch (error) {
    if (error instanceof VolsealError && error.code === 'ERR_STORE_NOT_FOUND') throw record.refuse(`${snapshotId} is gone`, { snapshotId });
    // A pending snapshot cannot be read; whatever else is wrong, writing to it will tell.
    return false;
  }
}

/** Saves now and then how far it is, while `work` runs. A record that cannot be written costs time later, no more. */
async function saving(record: SnapshotRecord, upload: SnapshotUpload, work: () => Promise<void>): Promise<void> {
  let saved: Promise<unknown> = Promise.resolve();
  const timer = setInterval(() => {
    saved = saved.then(() => record.save(upload.sentBlocks)).catch(() => {});
  }, CHECKPOINT_INTERVAL_MS);
  try {
    await work();
  } finally {
    clearInterval(timer);
    await saved;
  }
}

/** `error`, with what has become of the snapshot and its record. */
async function kept(
  error: unknown,
  record: SnapshotRecord,
  { name, snapshotId, sentBlocks }: SnapshotUpload,
  begun: BegunSnapshot | undefined,
): Promise<unknown> {
  if (!(error instanceof VolsealError) || error.code === 'ERR_RESUME') return error;
  if (error.code === 'ERR_SOURCE_CHANGED') {
    await record.remove().catch(() => {});
    return error;
  }
  // It is cancelled, or something else has written to it.
  if (begun !== undefined && ['ERR_STORE_REQUEST', 'ERR_STORE_NOT_FOUND'].includes(error.code))
    return record.refuse(`EBS does not go on with it (${error.message})`, { snapshotId });
  await record.save(sentBlocks).catch(() => {});
  const message = error.code === 'ERR_ABORTED' ? `${name}: stopped on request` : error.message;
  return new VolsealError(error.code, `${message}; what was sent is kept for a day, with the record ${record.path}`, {
    cause: error.cause,
    details: { ...error.details, partial: record.path },
  });
}
