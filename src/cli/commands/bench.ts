/** `volseal bench`: the speed of the cipher on this machine, compared with the limits of the machine. */
import { Command } from 'commander';
import { type Session, withJson } from '../options.js';
import { withExamples } from '../terminal/output.js';
import { openBar } from '../terminal/progress.js';

/** The command; `session` is what it runs with. */
export function benchCommand({ output, signal }: Session): Command {
  const command = new Command('bench').description(
    'measure the AES-XTS kernels on this machine and compare them with its limits; takes less than 20 seconds',
  );
  withJson(command);
  withExamples(
    command,
    ['volseal bench'],
    [
      [
        'Measured in turns, in CPU time of one thread. The limit of a kernel is the speed of the AES rounds alone, without memory;',
        'for large buffers out of place it is the speed of a copy past the caches, if that is lower. 1 GB is 10^9 bytes.',
      ].join('\n'),
    ],
  );
  return command.action(async () => {
    const [{ measureKernels, quickPlan }, { reportLines }] = await Promise.all([
      import('../../bench/kernels.js'),
      import('../../bench/tables.js'),
    ]);
    const look = { format: 'measuring {bar} {percentage}%', clearOnComplete: true };
    const bar = output.json || output.quiet || !process.stderr.isTTY ? undefined : openBar(look, signal);
    const report = await measureKernels(quickPlan(), { signal, onTurn: bar?.show }).finally(() => bar?.end());
    output.result(report, reportLines(report));
  });
}
