/** A volume as streams: Node's and the Web's, over the requests of an attached volume. */
import { Readable, Writable } from 'node:stream';
import { ReadableStream } from 'node:stream/web';
import { VolsealError } from '../errors.js';

/** Options of `createReadStream` and `readableWebStream`. */
export interface ReadStreamOptions {
  /** Where to begin. Default: 0. */
  start?: number | undefined;
  /** The last byte that is read, as in `fs.createReadStream`. Default: the volume's last. */
  end?: number | undefined;
  /** Bytes of a chunk, and about as many are read ahead. Default: 256 KiB. */
  highWaterMark?: number | undefined;
}

/** Options of `createWriteStream`. */
export interface WriteStreamOptions {
  /** Where the first byte goes. Default: 0. */
  start?: number | undefined;
  /** Flush before `finish`, so that it means that everything lasts. Default: true. */
  flush?: boolean | undefined;
  /** Bytes that wait before `write` returns false. Default: 1 MiB. */
  highWaterMark?: number | undefined;
}

/** What a stream needs of a volume. */
export interface StreamedVolume {
  readonly sizeBytes: number;
  read(offsetBytes: number, lengthBytes: number): Promise<Uint8Array>;
  writev(offsetBytes: number, sources: readonly Uint8Array[]): Promise<void>;
  flush(): Promise<void>;
}

const CHUNK_BYTES = 256 * 1024;
const WAITING_BYTES_MAX = 1024 * 1024;

/** The bytes from `start` to `end` as a Node stream. @throws {VolsealError} `ERR_ARGUMENT` */
export function readStream(volume: StreamedVolume, options: ReadStreamOptions): Readable {
  const next = chunksOf(volume, options);
  return new Readable({
    highWaterMark: options.highWaterMark ?? CHUNK_BYTES,
    read() {
      next().then(
        (chunk) => this.push(chunk ?? null),
        (error) => this.destroy(error),
      );
    },
  });
}

/** The same as a Web stream of bytes. @throws {VolsealError} `ERR_ARGUMENT` */
export function readableWebStream(volume: StreamedVolume, options: ReadStreamOptions): ReadableStream<Uint8Array> {
  const next = chunksOf(volume, options);
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const chunk = await next();
      if (chunk === undefined) controller.close();
      else controller.enqueue(chunk);
    },
  });
}

/** A Node stream that writes from `start` on. @throws {VolsealError} `ERR_ARGUMENT` */
export function writeStream(volume: StreamedVolume, { start = 0, flush = true, highWaterMark }: WriteStreamOptions): Writable {
  checkNumber('start', start, 0, volume.sizeBytes);
  let at = start;
  const write = (chunks: readonly Uint8Array[], done: (error?: Error | null) => void): void => {
    const offsetBytes = at;
    for (const chunk of chunks) at += chunk.length;
    volume.writev(offsetBytes, chunks).then(() => done(), done);
  };
  return new Writable({
    highWaterMark: highWaterMark ?? WAITING_BYTES_MAX,
    write: (chunk: Uint8Array, _encoding, done) => write([chunk], done),
    writev: (items, done) =>
      write(
        items.map(({ chunk }) => chunk as Uint8Array),
        done,
      ),
    final(done) {
      if (flush) volume.flush().then(() => done(), done);
      else done();
    },
  });
}

/** Gives one chunk after the other, then undefined. */
function chunksOf(volume: StreamedVolume, options: ReadStreamOptions): () => Promise<Uint8Array | undefined> {
  const { start = 0, end = volume.sizeBytes - 1, highWaterMark: chunkBytes = CHUNK_BYTES } = options;
  checkNumber('start', start, 0, volume.sizeBytes);
  checkNumber('end', end, start - 1, volume.sizeBytes - 1);
  checkNumber('highWaterMark', chunkBytes, 1, Number.MAX_SAFE_INTEGER);
  let at = start;
  return async () => {
    const offsetBytes = at;
    const lengthBytes = Math.min(chunkBytes, end + 1 - offsetBytes);
    if (lengthBytes === 0) return undefined;
    at += lengthBytes;
    return volume.read(offsetBytes, lengthBytes);
  };
}

function checkNumber(name: string, value: number, min: number, max: number): void {
  if (Number.isSafeInteger(value) && value >= min && value <= max) return;
  throw new VolsealError('ERR_ARGUMENT', `${name} is ${value}, not a whole number from ${min} to ${max}`);
}
