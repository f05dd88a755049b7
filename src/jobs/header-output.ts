/** Where the header of a new volume in a store goes: in front of the data, or into a file of its own. */
import { rm } from 'node:fs/promises';
import { VolsealError } from '../errors.js';
import { EMBEDDED_DATA_OFFSET_BYTES } from '../limits.js';
import type { Luks2Header } from '../luks2/header.js';
import { headerArea } from '../luks2/store.js';
import type { KeyHandle } from '../native.js';
import { PassingSamples } from '../output/data-samples.js';
import { openTarget } from '../output/open-target.js';
import { type ResolvedTarget, resolveTarget } from '../output/resolve-target.js';
import type { TargetFile } from '../output/target.js';
import type { Piece } from '../stores/store.js';
import { putHeader, withToken } from './new-header.js';
import type { HeaderTarget } from './new-volume-key.js';
import type { TargetPlan } from './volume-plan.js';

/** Takes the header of one volume. */
export interface HeaderOutput extends AsyncDisposable {
  readonly target: HeaderTarget;
  /** Bytes in front of the data. */
  readonly preambleBytes: number;
  /** What stands there. */
  preamble(header: Luks2Header): Buffer;
  /** Looks at a piece of the data, which goes on its way after that. */
  see(piece: Piece): void;
  /**
   * Writes the header into its file, once all data was sent: the data may become visible after that.
   * @returns the header as it is written @throws {VolsealError} `ERR_TARGET_EXISTS`, `ERR_IO`
   */
  write(key: KeyHandle, header: Luks2Header): Promise<Luks2Header>;
  /** `error` of making the data visible, with what has become of the file. */
  withContext(error: unknown): Promise<unknown>;
}

/**
 * @throws {VolsealError} `ERR_TARGET_EXISTS` the file for the header is there: the data of another volume may need it;
 * as `resolveTarget`
 */
export async function openHeaderOutput(plan: Pick<TargetPlan, 'header' | 'volumePath' | 'sectorBytes' | 'output'>): Promise<HeaderOutput> {
  return plan.header === undefined ? inFront(plan.volumePath) : await HeaderFile.open(plan.header, plan);
}

const inFront = (volumePath: string): HeaderOutput => ({
  target: { headerPath: volumePath, placement: 'embedded', allocation: 'full' },
  preambleBytes: EMBEDDED_DATA_OFFSET_BYTES,
  preamble: headerArea,
  see() {},
  write: async (_key, header) => header,
  withContext: async (error) => error,
  async [Symbol.asyncDispose]() {},
});

class HeaderFile implements HeaderOutput {
  readonly target: HeaderTarget;
  readonly preambleBytes = 0;
  readonly #file: TargetFile;
  readonly #fsync: boolean;
  readonly #samples: PassingSamples;

  private constructor(file: TargetFile, { fsync }: TargetPlan['output'], sectorBytes: number) {
    this.target = { headerPath: file.path, placement: 'detached', allocation: 'full' };
    this.#file = file;
    this.#fsync = fsync;
    this.#samples = new PassingSamples(sectorBytes);
  }

  static async open(path: string, { output, sectorBytes }: Pick<TargetPlan, 'output' | 'sectorBytes'>): Promise<HeaderFile> {
    const { fsync, onWarning } = output;
    const options = { force: false, fsync, onWarning };
    const file = await openTarget(await resolveNewHeader(path), options);
    return new HeaderFile(file, output, sectorBytes);
  }

  preamble(): Buffer {
    return Buffer.alloc(0);
  }

  see({ offsetBytes, bytes }: Piece): void {
    this.#samples.see(offsetBytes, bytes);
  }

  async write(key: KeyHandle, header: Luks2Header): Promise<Luks2Header> {
    const written = withToken(key, header, { dataSamples: this.#samples.samples }, this.#file.path);
    await this.#file.begin();
    await putHeader(this.#file, written, true, this.#fsync);
    await this.#file.publish();
    return written;
  }

  async withContext(error: unknown): Promise<unknown> {
    const { path, realPath, isPublished } = this.#file;
    if (!isPublished || !(error instanceof VolsealError)) return error;
    // Another object is there, so that the data of this header is not.
    if (error.code === 'ERR_TARGET_EXISTS') {
      await rm(realPath, { force: true }).catch(() => {});
      return error;
    }
    return new VolsealError(error.code, `${error.message}; the header is ${path}: remove it only if the data is not there`, {
      cause: error.cause,
      details: { ...error.details, header: path },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file[Symbol.asyncDispose]();
  }
}

/**
 * Where a header goes that never replaces a file. @throws {VolsealError} `ERR_TARGET_EXISTS` with `details.kind` `a
 * header`; as `resolveTarget`
 */
export function resolveNewHeader(path: string): Promise<ResolvedTarget> {
  return resolveTarget(path, { force: false }).catch((error: unknown) => {
    if (!(error instanceof VolsealError) || error.code !== 'ERR_TARGET_EXISTS') throw error;
    const message = `${path}: exists already, and this header goes into a new file; it was left as it is`;
    throw new VolsealError('ERR_TARGET_EXISTS', message, { cause: error, details: { path, kind: 'a header' } });
  });
}
