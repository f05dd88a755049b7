/** An open file as a source, and zeros as one. */
import { VolsealError } from '../errors.js';
import type { ImageSource } from './store.js';

/** What is needed of an open file. */
interface ReadableFile {
  readonly path: string;
  /** Fills `target`, as far as the file reaches. */
  readInto(offsetBytes: number, target: Uint8Array): Promise<number>;
}

/** Reads from the file, which stays the caller's. */
export function fileSource(file: ReadableFile, sizeBytes: number): ImageSource {
  return {
    name: file.path,
    sizeBytes,
    async readRange(offsetBytes, target) {
      const readBytes = await file.readInto(offsetBytes, target);
      if (readBytes === target.length) return;
      throw new VolsealError('ERR_IO', `${file.path}: ends at ${offsetBytes + readBytes}: it was cut off while it was read`, {
        details: { path: file.path, errno: 'ENODATA', syscall: 'read', offsetBytes: offsetBytes + readBytes },
      });
    },
  };
}

/** `sizeBytes` zeros. */
export const zeroSource = (name: string, sizeBytes: number): ImageSource => ({
  name,
  sizeBytes,
  async readRange(_offsetBytes, target) {
    target.fill(0);
  },
});
