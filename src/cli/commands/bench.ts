/** `volseal bench`: how fast the cipher is on this machine, beside what the machine could do at all. */
import cliProgress from 'cli-progress';
import { Command } from 'commander';
import { type Session, withJson } from '../options.js';
import { withExamples } from '../output.js';

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
    const progress = output.json || !process.stderr.isTTY ? undefined : progressBar(signal);
    const report = await measureKernels(quickPlan(), { signal, onTurn: progress?.onTurn }).finally(() => progress?.end());
    output.result(report, reportLines(report));
  });
}

/** A bar on standard error that leaves its line empty. */
function progressBar(signal: AbortSignal): { onTurn: (done: number, total: number) => void; end: () => void } {
  const bar = new cliProgress.SingleBar(
    // The signals are ours: `end` restores the terminal.
    { format: 'measuring {bar} {percentage}%', barsize: 30, hideCursor: true, clearOnComplete: true, gracefulExit: false },
    cliProgress.Presets.shades_classic,
  );
  let state: 'waiting' | 'drawn' | 'ended' = 'waiting';
  const end = (): void => {
    if (state === 'drawn') bar.stop();
    state = 'ended';
  };
  // At once, so that what is said next has a line of its own.
  signal.addEventListener('abort', end);
  return {
    onTurn(done, total) {
      if (state === 'waiting') {
        bar.start(total, 0);
        state = 'drawn';
      }
      if (state === 'drawn') bar.update(done);
    },
    end,
  };
}
