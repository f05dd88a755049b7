/** `volseal bench`: how fast the cipher is on this machine, beside what the machine could do at all. */
import { Command } from 'commander';
import { type Session, withJson } from '../options.js';
import { withExamples } from '../output.js';
import { openBar } from '../progress.js';

/** The command; `session` is what it runs with. */
export function benchCommand({ output, signal }: Session): Command {
  const command = new Command('bench').description(
    'measure the AES-XTS kernels on this machine, beside its limits; takes less than 20 seconds',
  );
  withJson(command);
  withExamples(
    command,
    ['volseal bench'],
    [
      [
        'Measured in turns, by CPU time of one thread. The limit of a kernel is the AES rounds alone in its vectors, without any',
        'memory; for large buffers out of place a copy past the caches, where that is lower. GB/s are 10^9 bytes a second.',
      ].join('\n'),
    ],
  );
  return command.action(async () => {
    const [{ measureKernels, quickPlan }, { reportLines }] = await Promise.all([
      import('../../bench/kernels.js'),
      import('../../bench/tables.js'),
    ]);
    const look = { format: 'measuring {bar} {percentage}%', clearOnComplete: true };
    const bar = output.json || !process.stderr.isTTY ? undefined : openBar(look, signal);
    const report = await measureKernels(quickPlan(), { signal, onTurn: bar?.show }).finally(() => bar?.end());
    output.result(report, reportLines(report));
  });
}
