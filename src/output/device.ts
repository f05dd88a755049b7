/**
 * A block device as target. There is no other place to write to first: what it held is gone from the first byte on, so the most that can be
 * promised is that an unfinished one never looks finished.
 */
import { constants } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { namingPath, VolsealError } from '../errors.js';
import { HEADER_BYTES_MAX } from '../luks2/header.js';
import { native } from '../native.js';
import { holdDevice, type Place } from './resolve-target.js';
import type { OpenTargetWish, TargetFile } from './target.js';

/**
 * Opens a device for this process alone. `begin` erases where headers of volumes lie: both copies, whatever their size.
 * @throws {VolsealError} `ERR_STATE_BUSY`, `ERR_TARGET_SIZE`, `ERR_ARGUMENT` (resuming), `ERR_IO`
 */
export async function openDeviceTarget(path: string, place: Place, { deviceBytes, fsync, resume }: OpenTargetWish): Promise<TargetFile> {
  if (resume) {
    throw new VolsealError('ERR_ARGUMENT', `${path}: is a block device, and only a job into a file can be resumed`, { details: { path } });
  }
  const file = await holdDevice(place.path, path, deviceBytes!, constants.O_RDWR);
  let begun = false;
  let published = false;
  const flush = async (): Promise<void> => {
    if (fsync) await namingPath(path, () => file.sync());
  };
  const publish = async (): Promise<void> => {
    await flush();
    published = true;
  };
  return {
    path,
    place,
    file,
    openPath: path,
    hasBegun: false,
    get isPublished() {
      return published;
    },
    async begin() {
      begun = true;
      await namingPath(path, () => erase(file, path));
      await flush();
    },
    flush,
    keepForResume: () => {},
    publish,
    async publishUndoably() {
      await publish();
      return { keep: async () => {}, undo: async () => {} };
    },
    explained: (error) => (begun && !published ? lostContent(error, path) : error),
    async [Symbol.asyncDispose]() {
      await file.close().catch(() => {});
    },
  };
}

/** Zeros over the room of the largest header there is, or over all of a smaller device. */
async function erase(file: FileHandle, path: string): Promise<void> {
  const zeros = Buffer.alloc(Math.min(HEADER_BYTES_MAX, native.fileSize(file.fd)));
  for (let offsetBytes = 0; offsetBytes < zeros.length; ) {
    const { bytesWritten } = await file.write(zeros, offsetBytes, zeros.length - offsetBytes, offsetBytes);
    if (bytesWritten === 0) {
      throw new VolsealError('ERR_IO', `${path}: erasing what it held stopped at offset ${offsetBytes}: no byte was taken`, {
        details: { syscall: 'write', path, offsetBytes },
      });
    }
    offsetBytes += bytesWritten;
  }
}

function lostContent(error: unknown, path: string): unknown {
  if (!(error instanceof VolsealError)) return error;
  const message = error.code === 'ERR_ABORTED' ? 'stopped on request' : error.message;
  return new VolsealError(error.code, `${message}; what ${path} held before is gone, and what it holds now is not complete`, {
    cause: error.cause,
    details: { ...error.details, device: path },
  });
}
