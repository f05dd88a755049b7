/** An open file as a source, zeros as one, and a source as what is read of a file. */
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

/** A source as a file that is read now and then: short ranges, as far as it reaches. */
export const readable = (source: ImageSource, signal?: AbortSignal) => ({
  async read(offsetBytes: number, bytesMax: number): Promise<Buffer> {
    const bytes = Buffer.alloc(Math.max(0, Math.min(bytesMax, source.sizeBytes - offsetBytes)));
    if (bytes.length > 0) await source.readRange(offsetBytes, bytes, signal);
    return bytes;
  },
});

/** `sizeBytes` zeros. */
export const zeroSource = (name: string, sizeBytes: number): ImageSource => ({
  name,
  sizeBytes,
  async readRange(_offsetBytes, target) {
    target.fill(0);
  },
});
