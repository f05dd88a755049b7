/** Decrypting with a store on one side: a volume that is in one, an image that goes there, or both. */

import type { KeyHandle } from '../../native.js';
import type { NamedFile } from '../../output/named-file.js';
import { openTarget } from '../../output/open-target.js';
import { resolveTarget } from '../../output/resolve-target.js';
import {
  checkResumable,
  findCheckpoint,
  forgetProgress,
  proveProgress,
  type ResumableJob,
  recordProgress,
  resumableStored,
} from '../../resume/resume.js';
import { beginUpload, findUpload, forgetUpload, keepingUpload, moveRest, resumeUpload } from '../../resume/resume-upload.js';
import { isSnapshot } from '../../stores/ebs/location.js';
import { fileSource } from '../../stores/file-source.js';
import { checkStoredName, isStored } from '../../stores/location.js';
import { beginStored } from '../../stores/open.js';
import { ResumableUpload } from '../../stores/s3/resumable.js';
import type { ImageSource } from '../../stores/store.js';
import { writeInOrder } from '../../transfer/descriptor.js';
import { type Download, differsBefore, download } from '../../transfer/download.js';
import type { TargetStream } from '../../transfer/image-stream.js';
import { movePieces, type PieceMove } from '../../transfer/move-pieces.js';
import { recordedSource, whileUnchanged } from '../../transfer/source-watch.js';
import { withVolume } from '../../volume/session.js';
import { withStoredVolume } from '../../volume/stored-volume.js';
import type { NamedContents } from '../../volume/unlock.js';
import type { PoolLease } from '../../workers/pool.js';
import { type DecryptedImage, type DecryptOptions, madeIn } from '../decrypt-options.js';
import { openParent } from './snapshot-parent.js';
import { piecesOf } from './stored-read.js';
import { checkStoredOptions } from './stored-source.js';

interface Open {
  readonly volume: NamedContents;
  /** With the data, where the volume is not in a store. */
  readonly file: NamedFile | undefined;
  readonly source: ImageSource;
  readonly key: KeyHandle;
  readonly pool: PoolLease;
}

/** @throws {VolsealError} as `decryptImage`, and `ERR_STORE_*` */
export async function decryptStored(volumePath: string, image: string | TargetStream, options: DecryptOptions): Promise<DecryptedImage> {
  if (typeof image !== 'string')
    return await decryptStoredTo(volumePath, image.name, options, (pieces) => writeInOrder(image, pieces, options.signal));
  const { sha256 = false, resume = false, sparse = false, signal } = options;
  // A snapshot's record is beside the volume.
  const isResumable = !isSnapshot(image) || !isStored(volumePath);
  if (resume && !isStored(image)) checkResumable(image, false, options);
  checkStoredOptions(isStored(image) ? image : volumePath, {
    ...{ sha256, resume: resume && !isResumable, sparse: sparse && !isSnapshot(image) },
  });
  if (isStored(image)) checkStoredName(image, 'target');
  const make = (open: Open) => makeImage(open, image, options);
  if (isStored(volumePath)) {
    const checkTarget = async ({ token }: NamedContents): Promise<void> => {
      if (!isStored(image)) await resolveTarget(image, { force: options.force === true, deviceBytes: token.imageBytes });
    };
    return withStoredVolume(
      volumePath,
      options,
      ({ volume, key, pool }) => make({ volume, file: undefined, source: volume.source, key, pool }),
      checkTarget,
    );
  }
  return withVolume(volumePath, options, { lock: 'shared' }, async (session) => {
    const { data } = session.file;
    const sizeBytes = data.sizeBytes();
    const key = await session.unlock();
    signal?.throwIfAborted();
    return make({ volume: session.file, file: data, source: fileSource(data, sizeBytes), key, pool: session.pool });
  });
}

/**
 * Decrypts a volume in a store in order, once.
 * @param name of where it goes @param use takes the pieces, and ends before the call does
 * @throws {VolsealError} as `decryptStored`, and whatever `use` throws
 */
export async function decryptStoredTo(
  volumePath: string,
  name: string,
  options: DecryptOptions,
  use: (pieces: AsyncIterable<Uint8Array>) => Promise<void>,
): Promise<DecryptedImage> {
  const { sha256 = false, resume = false, sparse = false, signal, onProgress } = options;
  checkStoredOptions(volumePath, { sha256, resume, sparse });
  return withStoredVolume(volumePath, options, async (session) => {
    const { volumeId, imageBytes } = session.volume.token;
    const startedMs = performance.now();
    let doneBytes = 0;
    const counted = async function* (): AsyncGenerator<Uint8Array> {
      for await (const piece of piecesOf(session, 0, imageBytes, signal)) {
        yield piece;
        doneBytes += piece.length;
        onProgress?.({ doneBytes, totalBytes: imageBytes });
      }
    };
    await use(counted());
    return { volumeId, path: name, imageBytes, dataSeconds: (performance.now() - startedMs) / 1000 };
  });
}

async function makeImage(open: Open, image: string, options: DecryptOptions): Promise<DecryptedImage> {
  const { volumeId, imageBytes } = open.volume.token;
  const startedMs = performance.now();
  const name = await (isStored(image) ? toStore(open, image, options) : toFile(open, image, options));
  return { volumeId, ...madeIn(name), imageBytes, dataSeconds: (performance.now() - startedMs) / 1000 };
}

function moveOf({ volume, source, key, pool }: Open): Omit<PieceMove, 'pieceBytes' | 'checksum' | 'write'> {
  const { segment, token, sizeBytes } = volume;
  return {
    ...{ pool, key, encrypt: false, sectorBytes: segment.sectorBytes, sparse: token.allocation === 'sparse', source },
    ...{ sourceOffsetBytes: segment.offsetBytes, dataBytes: sizeBytes, targetBytes: token.imageBytes },
  };
}

/** Runs `move`, which reads the volume. @throws {VolsealError} `ERR_SOURCE_CHANGED`; as `move` */
async function unchanged<T>({ file, source }: Open, move: () => Promise<T>): Promise<T> {
  return await whileUnchanged(file, source.sizeBytes, move);
}

/** @returns the name of what was made */
async function toStore(open: Open, image: string, options: DecryptOptions): Promise<string> {
  const { force = false, resume = false, sparse = false, snapshot, store, signal } = options;
  if (resume) return await (isSnapshot(image) ? toSnapshot(open, image, options) : toUpload(open, image, options));
  await using parent = await openParent(snapshot ?? {}, store, signal);
  const wanted = { sizeBytes: open.volume.token.imageBytes, force, sparse, snapshot, base: parent?.source };
  await using target = await beginStored(image, wanted, store, signal);
  const { pieceBytes, checksum } = target;
  const write: PieceMove['write'] = (piece, ended) => target.write(piece, ended);
  await unchanged(open, () => movePieces({ ...moveOf(open), pieceBytes, checksum, write }, options));
  await options.beforePublish?.();
  await target.complete(signal);
  return target.name;
}

/** A snapshot that a later run can go on with, or goes on with what an interrupted run has left. */
async function toSnapshot(open: Open, image: string, options: DecryptOptions): Promise<string> {
  const { volume, file, source, key } = open;
  const identity = { volumeId: volume.token.volumeId, uuid: volume.found.header.uuid };
  const from = { ...identity, file: file!, fileBytes: source.sizeBytes, key };
  return await (await import('./resumed-snapshot.js')).resumableSnapshot(image, from, moveOf(open), options);
}

/** An object that a later run can go on with, or goes on with what an interrupted run has left. */
async function toUpload(open: Open, image: string, options: DecryptOptions): Promise<string> {
  const { force = false, store, signal, onWarning } = options;
  const { volume, file, source, key } = open;
  const { token, segment, found } = volume;
  const identity = { volumeId: token.volumeId, uuid: found.header.uuid };
  await using upload = await ResumableUpload.open(image, { sizeBytes: token.imageBytes, force }, store, signal);
  return await keepingUpload(upload, async () => {
    await unchanged(open, async () => {
      const { sectorBytes } = segment;
      const job = { kind: 'decrypt', upload, source: await recordedSource(file, source), sectorBytes } as const;
      const stored = findUpload(job);
      if (stored === undefined) await beginUpload(job, identity, Buffer.alloc(0), key, signal);
      else await resumeUpload(job, stored, identity, key, signal);
      await moveRest(job, moveOf(open), options, onWarning);
    });
    await options.beforePublish?.();
    await upload.complete(signal);
    await forgetUpload(upload, onWarning);
    return upload.name;
  });
}

async function toFile(open: Open, image: string, options: DecryptOptions): Promise<string> {
  const { force = false, fsync = true, resume = false, onWarning, beforePublish, signal } = options;
  const { token, segment, found } = open.volume;
  const { imageBytes, volumeId } = token;
  const output = { force, fsync, resume, onWarning, beforePublish, deviceBytes: imageBytes };
  await using target = await openTarget(await resolveTarget(image, output), output);
  try {
    const way: Download = { move: moveOf(open), target, dataOffsetBytes: 0 };
    const proof = { key: open.key, sizeBytes: imageBytes, compare: (safeBytes: number) => differsBefore(way, safeBytes, signal) };
    const identity = { volumeId, uuid: found.header.uuid };
    const header = options.header === undefined ? 'embedded' : 'detached';
    const { sectorBytes } = segment;
    const source = resumableStored(open.source);
    const job: ResumableJob = { kind: 'decrypt', source, target, sectorBytes, choices: { sparse: 'false', header } };
    const stored = resume ? await findCheckpoint(job) : undefined;
    let startByte = 0;
    if (stored !== undefined) {
      startByte = await proveProgress(job, stored, identity, proof, onWarning);
    } else {
      await target.begin();
      if (resume) await forgetProgress(target);
    }
    const checkpoint = resume ? await recordProgress(job, identity, proof, []) : undefined;
    await download(way, startByte, checkpoint, options);
    await target.publish();
    if (resume) await forgetProgress(target);
    return image;
  } catch (error) {
    throw target.withContext(error);
  }
}
