/** `volseal kernels`: which AES-XTS kernel is in use on this machine, and why. */
import { Command } from 'commander';
import { kernels } from '../../kernels.js';
import type { KernelInfo } from '../../native.js';
import { type Session, withJson } from '../options.js';
import { alignedRows, withExamples } from '../terminal/output.js';

/** The command; `session` is what it runs with. */
export function kernelsCommand({ output }: Session): Command {
  const command = new Command('kernels').description('show which AES-XTS kernel is in use on this machine, and why');
  withJson(command);
  withExamples(
    command,
    ['volseal kernels'],
    ['All kernels produce the same bytes, at different speeds. VOLSEAL_KERNEL=NAME forces one for any command.'],
  );
  return command.action(() => {
    const all = kernels();
    // There always is one: the portable kernel runs everywhere.
    const fastest = all.find(({ usable }) => usable)!.name;
    const inUse = all.find((kernel) => kernel.inUse)!.name;
    const rows = all.map((kernel) => [`${kernel.inUse ? '*' : ' '} ${kernel.name}`, describe(kernel)] as const);
    const why = inUse === fastest ? 'the fastest that this machine can run' : `VOLSEAL_KERNEL forces it; without that, ${fastest} would be`;
    output.result({ inUse, fastest, kernels: all }, [...alignedRows(rows), '', `* in use: ${why}`]);
  });
}

const describe = ({ vectorBits, usable, reason }: KernelInfo): string =>
  `${`${vectorBits}-bit`.padEnd(7)}  ${usable ? '' : 'cannot run: '}${reason}`;
