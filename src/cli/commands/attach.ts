/** `volseal attach`: a volume for every tool that speaks NBD, until `volseal detach`. */
import { Command } from 'commander';
import type { ServeOrder } from '../../attached/order.js';
import type { AttachmentRecord } from '../../attached/record.js';
import { withUnfinished } from '../in-place.js';
import {
  type Address,
  type ExistingVolumeFlags,
  existingVolumeOptions,
  type Session,
  type StoreFlags,
  storeOptions,
  withAllowNoLock,
  withExistingVolume,
  withMetrics,
  withStore,
} from '../options.js';
import { runShellCommand } from '../run-program.js';
import { ownRuntimeDirectory } from '../runtime.js';
import { withExamples } from '../terminal/output.js';

interface AttachFlags extends ExistingVolumeFlags, StoreFlags {
  socket?: string;
  readOnly?: boolean;
  run?: string;
  device?: string | true;
  mount?: string;
  metrics?: Address;
  journal?: string;
}

/** The command; `session` is what it runs with. */
export function attachCommand({ output, signal, endWith }: Session): Command {
  const command = new Command('attach')
    .description('attach a volume: a process of its own serves it over NBD until volseal detach; prints the URI')
    .argument('<volume>', 'the volume; s3://BUCKET/KEY and ebs:snap-... with --read-only')
    .option('--socket <path>', 'the unix socket of the server (default: one in $XDG_RUNTIME_DIR)')
    .option('--read-only', 'clients may only read; several readers may attach one volume')
    .option('--run <command>', 'run a shell command with $uri and $unixsocket, then detach, with its exit status')
    .option('--device [path]', 'also as a block device of the kernel, /dev/nbdN (needs root, nbd-client and the kernel module nbd)')
    .option('--mount <directory>', 'also as a file in an empty directory (needs nbdfuse)');
  withStore(withUnfinished(withAllowNoLock(withExistingVolume(withMetrics(command)))));
  withExamples(command, ["volseal attach disk.vol --run 'nbdinfo $uri'", 'volseal attach disk.vol']);
  return command.action(async (path: string, flags: AttachFlags) => {
    const { launchServing } = await import('../../attached/launch.js');
    const volume = await launchServing(programFile(), ['attach-process', path], orderOf(path, flags), signal);
    if (flags.run === undefined) {
      await volume.keep();
      output.result(volume.record, linesOf(volume.record));
      return;
    }
    const { uri, socket } = volume.record;
    try {
      endWith(await runShellCommand(flags.run, { uri, unixsocket: socket }, signal));
    } finally {
      await volume.end();
    }
  });
}

/** The script of this program. */
export const programFile = (): string => process.argv[1]!;

function orderOf(path: string, flags: AttachFlags): ServeOrder {
  const { readOnly = false, socket, device, mount, metrics, journal } = flags;
  return {
    directory: ownRuntimeDirectory(),
    volume: { kind: 'file', path, options: { ...existingVolumeOptions(flags), ...storeOptions(flags), journal } },
    readOnly,
    socket,
    device: device === true ? 'any' : device,
    mount,
    metrics,
  };
}

/** The URI alone, for `$(volseal attach ...)`; then the device and the file, where they were asked for. */
const linesOf = ({ uri, device, mountedFile }: AttachmentRecord): string[] =>
  [uri, device, mountedFile].filter((line): line is string => line !== null);
