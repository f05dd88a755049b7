/** `volseal read`: a range of a volume, decrypted, to standard output. */
import { Command } from 'commander';
import { VolsealError } from '../../errors.js';
import { STREAM_PIECE_BYTES } from '../../limits.js';
import { isStored } from '../../stores/location.js';
import type { Volume } from '../../volume/volume.js';
import { withUnfinished } from '../in-place.js';
import {
  type ExistingVolumeFlags,
  existingVolumeOptions,
  refuseTerminal,
  type Session,
  type StoreFlags,
  sizeArgument,
  storeOptions,
  withExistingVolume,
  withStore,
} from '../options.js';
import { withExamples } from '../terminal/output.js';

interface ReadFlags extends ExistingVolumeFlags, StoreFlags {
  offset: number;
  length?: number;
  journal?: string;
}

/** The command; `session` is what it runs with. */
export function readCommand({ output, signal }: Session): Command {
  const command = new Command('read')
    .description('write a range of a volume, decrypted, to standard output')
    .argument('<volume>', 'the volume: a file, a block device, s3://BUCKET/KEY or ebs:snap-...')
    .option('--offset <size>', 'where to begin: bytes, or with K, M, G, T', sizeArgument, 0)
    .option('--length <size>', 'how many bytes (default: up to the end)', sizeArgument);
  withUnfinished(withStore(withExistingVolume(command)));
  withExamples(
    command,
    ['volseal read disk.vol --offset 1M --length 4K > block.bin'],
    ['Standard output carries the data alone: with --json the summary goes to standard error.'],
  );
  return command.action(async (path: string, flags: ReadFlags) => {
    refuseTerminal();
    if (isStored(path)) {
      const { readStoredRange } = await import('../../jobs/stored/stored-read.js');
      const range = { offsetBytes: flags.offset, lengthBytes: flags.length };
      const options = { ...existingVolumeOptions(flags), ...storeOptions(flags), signal };
      const done = await readStoredRange(path, range, options, (pieces) => output.data(pieces, signal));
      if (output.json) process.stderr.write(`${JSON.stringify(done)}\n`);
      return;
    }
    const { attach } = await import('../../in-place/attach.js');
    await using volume = await attach(path, { ...existingVolumeOptions(flags, output), journal: flags.journal, readOnly: true, signal });
    const { offset: offsetBytes, length: lengthBytes = Math.max(volume.sizeBytes - offsetBytes, 0) } = flags;
    // Before the first byte: a reader must not take a part for the whole.
    checkRange(volume, path, offsetBytes, lengthBytes);
    try {
      await output.data(piecesOf(volume, offsetBytes, lengthBytes), signal);
    } catch (error) {
      throw signal.aborted ? new VolsealError('ERR_ABORTED', `${path}: stopped on request`, { details: { path } }) : error;
    }
    if (output.json) process.stderr.write(`${JSON.stringify({ volumeId: volume.volumeId, offsetBytes, readBytes: lengthBytes })}\n`);
  });
}

function checkRange(volume: Volume, path: string, offsetBytes: number, lengthBytes: number): void {
  if (offsetBytes + lengthBytes <= volume.sizeBytes) return;
  throw new VolsealError('ERR_ARGUMENT', `${path}: ${lengthBytes} bytes at ${offsetBytes} reach beyond the volume's ${volume.sizeBytes}`, {
    details: { path, offsetBytes, lengthBytes, sizeBytes: volume.sizeBytes },
  });
}

/** Pieces that end at multiples of their size, so that each sector is read once. */
async function* piecesOf(volume: Volume, offsetBytes: number, lengthBytes: number): AsyncGenerator<Uint8Array> {
  const endByte = offsetBytes + lengthBytes;
  for (let at = offsetBytes; at < endByte; ) {
    const pieceEnd = Math.min(endByte, at - (at % STREAM_PIECE_BYTES) + STREAM_PIECE_BYTES);
    yield await volume.read(at, pieceEnd - at);
    at = pieceEnd;
  }
}
