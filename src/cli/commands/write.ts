/** `volseal write`: standard input into a volume. */
import { addAbortSignal } from 'node:stream';
import { Command } from 'commander';
import { asVolsealError, VolsealError } from '../../errors.js';
import { STREAM_PIECE_BYTES } from '../../limits.js';
import type { Volume } from '../../volume/volume.js';
import { withUnfinished } from '../in-place.js';
import {
  type ExistingVolumeFlags,
  existingVolumeOptions,
  type Session,
  sizeArgument,
  withAllowNoLock,
  withExistingVolume,
} from '../options.js';
import { withExamples } from '../terminal/output.js';
import { exactSize } from '../terminal/sizes.js';
import { STANDARD_INPUT, standardInput } from '../terminal/standard-streams.js';

/** The command; `session` is what it runs with. */
export function writeCommand({ output, signal }: Session): Command {
  const command = new Command('write')
    .description('write standard input into a volume, encrypted; the data before and after it stays')
    .argument('<volume>', 'the volume')
    .option('--offset <size>', 'where to begin: bytes, or with K, M, G, T', sizeArgument, 0);
  withUnfinished(withAllowNoLock(withExistingVolume(command)));
  withExamples(command, ['volseal write disk.vol --offset 1M < block.bin']);
  return command.action(async (path: string, flags: ExistingVolumeFlags & { offset: number; journal?: string }) => {
    const input = standardInput();
    const { attach } = await import('../../in-place/attach.js');
    const volume = await attach(path, { ...existingVolumeOptions(flags, output), journal: flags.journal, signal });
    const { volumeId } = volume;
    const offsetBytes = flags.offset;
    let writtenBytes = 0;
    try {
      for await (const piece of piecesOf(addAbortSignal(signal, input), offsetBytes)) {
        await writePiece(volume, path, offsetBytes + writtenBytes, piece);
        writtenBytes += piece.length;
      }
    } catch (error) {
      // Detaching flushes: the counted bytes are on the disk, or the message says that they may not be.
      const kept = await volume.detach().then(
        () => 'and flushed',
        () => 'and could not be flushed',
      );
      throw stoppedAfter(error, { path, offsetBytes, writtenBytes, kept, aborted: signal.aborted });
    }
    await volume.detach();
    output.result({ volumeId, path, offsetBytes, writtenBytes }, [
      `wrote ${exactSize(writtenBytes)} to ${path} (${volumeId}) at ${offsetBytes}, flushed`,
    ]);
  });
}

async function writePiece(volume: Volume, path: string, atByte: number, piece: Uint8Array): Promise<void> {
  if (atByte + piece.length > volume.sizeBytes) {
    throw new VolsealError(
      'ERR_ARGUMENT',
      `${path}: ${STANDARD_INPUT} reaches beyond the end of the volume, which has ${volume.sizeBytes} bytes`,
      { details: { path, sizeBytes: volume.sizeBytes } },
    );
  }
  await volume.write(atByte, piece);
}

/**
 * Pieces that end at multiples of their size in the volume, so that each sector between them is written once, whole.
 */
async function* piecesOf(input: AsyncIterable<Buffer>, offsetBytes: number): AsyncGenerator<Uint8Array> {
  const buffer = Buffer.allocUnsafeSlow(STREAM_PIECE_BYTES);
  let room = STREAM_PIECE_BYTES - (offsetBytes % STREAM_PIECE_BYTES);
  let filled = 0;
  for await (const chunk of input) {
    for (let taken = 0; taken < chunk.length; ) {
      const count = Math.min(chunk.length - taken, room - filled);
      chunk.copy(buffer, filled, taken, taken + count);
      taken += count;
      filled += count;
      if (filled < room) continue;
      yield buffer.subarray(0, filled);
      room = STREAM_PIECE_BYTES;
      filled = 0;
    }
  }
  if (filled > 0) yield buffer.subarray(0, filled);
}

interface Standing {
  path: string;
  offsetBytes: number;
  writtenBytes: number;
  kept: string;
  aborted: boolean;
}

function stoppedAfter(thrown: unknown, { path, offsetBytes, writtenBytes, kept, aborted }: Standing): unknown {
  const error = aborted ? new VolsealError('ERR_ABORTED', `${path}: stopped on request`) : asVolsealError(thrown, path);
  if (!(error instanceof VolsealError)) return thrown;
  return new VolsealError(error.code, `${error.message}; before that ${writtenBytes} bytes were written at ${offsetBytes} ${kept}`, {
    cause: thrown,
    details: { ...error.details, path, offsetBytes, writtenBytes },
  });
}
