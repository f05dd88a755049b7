/** A volume as it is, header and ciphertext, into a new object or snapshot. Needs no key and asks no KMS. */
import { VolsealError } from '../../errors.js';
import type { NamedFile } from '../../output/named-file.js';
import { beginUpload, findUpload, forgetUpload, keepingUpload, moveRest, resumeUpload } from '../../resume/resume-upload.js';
import { isSnapshot } from '../../stores/ebs/location.js';
import { fileSource } from '../../stores/file-source.js';
import { checkStoredName, isStored } from '../../stores/location.js';
import { beginStored } from '../../stores/open.js';
import { ResumableUpload } from '../../stores/s3/resumable.js';
import type { ImageSource } from '../../stores/store.js';
import { movePieces, type PieceMove } from '../../transfer/move-pieces.js';
import { recordedSource, whileUnchanged } from '../../transfer/source-watch.js';
import { withStoredSource } from '../../volume/stored-volume.js';
import type { NamedContents } from '../../volume/unlock.js';
import { openVolumeFile } from '../../volume/volume-file.js';
import { leasePool, type PoolLease } from '../../workers/pool.js';
import { type DecryptedImage, type DecryptOptions, madeIn } from '../decrypt-options.js';
import { openParent } from './snapshot-parent.js';
import { checkStoredOptions } from './stored-source.js';

/** @throws {VolsealError} as `decryptImage`, without those of KMS */
export async function storeAsIs(volumePath: string, target: string, options: DecryptOptions): Promise<DecryptedImage> {
  const { sha256 = false, resume = false, sparse = false } = options;
  const intoSnapshot = isSnapshot(target);
  checkStoredOptions(target, { sha256, resume: resume && intoSnapshot && isStored(volumePath), sparse: sparse && !intoSnapshot });
  checkStoredName(target, 'target');
  if (options.header !== undefined)
    throw new VolsealError(
      'ERR_ARGUMENT',
      `${volumePath}: its header is in another file; only a volume with its header in front is copied`,
      {
        details: { path: volumePath },
      },
    );
  const make = !resume ? copy : intoSnapshot ? intoResumableSnapshot : copyResumably;
  if (isStored(volumePath))
    return await withStoredSource(volumePath, options, (volume) =>
      make({ volume, source: volume.source, file: undefined }, target, options),
    );
  const volume = await openVolumeFile(volumePath, 'shared', undefined);
  try {
    const { data } = volume;
    const sizeBytes = data.sizeBytes();
    const from = { volume, source: fileSource(data, sizeBytes), file: data };
    return await make(from, target, options);
  } finally {
    await volume.close();
  }
}

/** A volume as it is, with its header. */
interface Original {
  readonly volume: NamedContents;
  readonly source: ImageSource;
  /** Where it is not in a store. */
  readonly file: NamedFile | undefined;
}

const moveOf = ({ volume: { segment }, source }: Original, pool: PoolLease): Omit<PieceMove, 'pieceBytes' | 'checksum' | 'write'> => ({
  ...{ pool, key: undefined, encrypt: false, sectorBytes: segment.sectorBytes, sparse: false, source, sourceOffsetBytes: 0 },
  ...{ dataBytes: source.sizeBytes, targetBytes: source.sizeBytes },
});

/** Runs `move`, which reads the volume. @throws {VolsealError} `ERR_SOURCE_CHANGED`; as `move` */
async function unchanged<T>({ file, source }: Original, move: () => Promise<T>): Promise<T> {
  return await whileUnchanged(file, source.sizeBytes, move);
}

function madeOf({ volume: { token } }: Original, name: string, startedMs: number): DecryptedImage {
  const { volumeId, imageBytes } = token;
  return { volumeId, ...madeIn(name), imageBytes, dataSeconds: (performance.now() - startedMs) / 1000 };
}

async function copy(original: Original, targetName: string, options: DecryptOptions): Promise<DecryptedImage> {
  const { force = false, sparse = false, snapshot, store, signal, beforePublish } = options;
  const { sizeBytes } = original.source;
  const startedMs = performance.now();
  await using parent = await openParent(snapshot ?? {}, store, signal);
  const wanted = { sizeBytes, force, sparse, snapshot, base: parent?.source };
  await using target = await beginStored(targetName, wanted, store, signal);
  await using pool = leasePool(options.logger);
  const { pieceBytes, checksum } = target;
  const write: PieceMove['write'] = (piece, ended) => target.write(piece, ended);
  await unchanged(original, () => movePieces({ ...moveOf(original, pool), pieceBytes, checksum, write }, options));
  await beforePublish?.();
  await target.complete(signal);
  return madeOf(original, target.name, startedMs);
}

/** Into a snapshot, in a way that a later run can go on with. */
async function intoResumableSnapshot(original: Original, targetName: string, options: DecryptOptions): Promise<DecryptedImage> {
  const { volume, source, file } = original;
  const startedMs = performance.now();
  await using pool = leasePool(options.logger);
  const identity = { volumeId: volume.token.volumeId, uuid: volume.found.header.uuid };
  const from = { ...identity, file: file!, fileBytes: source.sizeBytes, key: undefined };
  const { resumableSnapshot } = await import('./resumed-snapshot.js');
  return madeOf(original, await resumableSnapshot(targetName, from, moveOf(original, pool), options), startedMs);
}

/** Into an object, in a way that a later run can go on with, or goes on with what an interrupted run has left. */
async function copyResumably(original: Original, targetName: string, options: DecryptOptions): Promise<DecryptedImage> {
  const { force = false, store, signal, onWarning, beforePublish } = options;
  const { volume, source, file } = original;
  const { segment, token, found } = volume;
  const startedMs = performance.now();
  await using upload = await ResumableUpload.open(targetName, { sizeBytes: source.sizeBytes, force }, store, signal);
  return await keepingUpload(upload, async () => {
    await using pool = leasePool(options.logger);
    await unchanged(original, async () => {
      const job = { kind: 'copy', upload, source: await recordedSource(file, source), sectorBytes: segment.sectorBytes } as const;
      const identity = { volumeId: token.volumeId, uuid: found.header.uuid };
      const stored = findUpload(job);
      if (stored === undefined) await beginUpload(job, identity, Buffer.alloc(0), undefined, signal);
      else await resumeUpload(job, stored, identity, undefined, signal);
      await moveRest(job, moveOf(original, pool), options, onWarning);
    });
    await beforePublish?.();
    await upload.complete(signal);
    await forgetUpload(upload, onWarning);
    return madeOf(original, upload.name, startedMs);
  });
}
