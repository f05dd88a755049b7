/** `volseal jobs`: jobs from a file of them, one by one or by a fleet of workers. */
import { Command } from 'commander';
import { VolsealError } from '../../errors.js';
import type { JobOutcome } from '../../fleet/run-job.js';
import type { BadLine, JobLine } from '../../fleet/spec.js';
import { readJobs } from '../jobs-file.js';
import { type KmsFlags, type Session, type StoreFlags, storeOptions, withJson, withKms, withProgress, withStore } from '../options.js';
import { withExamples } from '../terminal/output.js';
import { reportProgress } from '../terminal/progress.js';
import { exactSize } from '../terminal/sizes.js';
import { queueCommands } from './jobs-queue.js';

/** The environment variables in which engines give a task its number, and who does. */
const INDEX_VARIABLES = {
  JOB_COMPLETION_INDEX: 'a Kubernetes Indexed Job',
  AWS_BATCH_JOB_ARRAY_INDEX: 'an AWS Batch array',
  SLURM_ARRAY_TASK_ID: 'a Slurm array',
} as const;

/** The command with its subcommands; `session` is what they run with. */
export function jobsCommand(session: Session, name = 'jobs'): Command {
  const command = new Command(name).description('many images: jobs from a file, one by one under an engine that exists');
  command.addCommand(runCommand(session));
  for (const subcommand of queueCommands(session)) command.addCommand(subcommand);
  return withExamples(command, ['volseal jobs run jobs.jsonl --index 0']);
}

interface RunFlags extends KmsFlags, StoreFlags {
  index?: string;
  run: string;
  progress?: boolean;
}

function runCommand({ output, signal }: Session): Command {
  const command = new Command('run')
    .description('run one job of a file of jobs; twice does no harm, and what an interrupted attempt has done is kept')
    .argument('<file>', 'jobs as JSON, one a line: {"kind":"encrypt","source":"a.raw","target":"a.vol"}')
    .option('--index <number>', `which job of the file, from 0 (default: $${Object.keys(INDEX_VARIABLES).join(', else $')})`)
    .option('--run <name>', 'a name for this run of the jobs: under another name the same job is done anew', 'default');
  withJson(withProgress(withStore(withKms(command, 'embedded, or what a header records'))));
  withExamples(command, ['volseal jobs run jobs.jsonl --index 0', 'volseal jobs run jobs.jsonl --index "$JOB_COMPLETION_INDEX" --json']);
  return command.action(async (path: string, flags: RunFlags) => {
    const index = indexOf(flags.index);
    const { spec, line } = pick(await readJobs(path), index, path);
    const [{ runJob }, { verdictOf }] = await Promise.all([import('../../fleet/run-job.js'), import('../../fleet/verdict.js')]);
    const progress = reportProgress(output, flags.progress === true, signal);
    const { kms, run } = flags;
    const reports = { onProgress: progress.onProgress, onWarning: output.warning };
    try {
      const outcome = await runJob(spec, { kms, run, ...storeOptions(flags), signal, ...reports });
      progress.end();
      output.result({ ...outcome, line }, outcomeLines(outcome, line));
    } catch (error) {
      progress.end();
      if (!(error instanceof VolsealError)) throw error;
      const { code, message, details } = error;
      // The exit status comes from both (exit-status.ts).
      throw new VolsealError(code, `line ${line} of ${path}: ${message}`, {
        cause: error,
        details: { ...details, verdict: verdictOf(error) },
      });
    }
  });
}

const outcomeLines = ({ kind, outcome, volumeId, imageBytes, seconds, jobId }: JobOutcome, line: number): string[] => [
  outcome === 'already'
    ? `line ${line}: ${kind} was done already (${volumeId})`
    : `line ${line}: ${kind} of ${exactSize(imageBytes)} in ${seconds.toFixed(1)} s (${volumeId})`,
  `job ${jobId}`,
];

/** @throws {VolsealError} `ERR_ARGUMENT` */
function indexOf(given: string | undefined): number {
  const variable = Object.keys(INDEX_VARIABLES).find((name) => process.env[name] !== undefined);
  const text = given ?? (variable === undefined ? undefined : process.env[variable]);
  const name = given === undefined ? `$${variable}` : '--index';
  if (text === undefined)
    throw new VolsealError(
      'ERR_ARGUMENT',
      `which job of the file? Give --index, or run under ${Object.values(INDEX_VARIABLES).join(', ')}`,
    );
  if (!/^\d{1,9}$/.test(text)) throw new VolsealError('ERR_ARGUMENT', `${name} is ${JSON.stringify(text)}: expected a number from 0`);
  return Number(text);
}

/** @throws {VolsealError} `ERR_ARGUMENT` where that line is no job, or there are not so many */
function pick({ jobs, bad }: { jobs: JobLine[]; bad: BadLine[] }, index: number, path: string): JobLine {
  const lines = [...jobs, ...bad].sort((one, other) => one.line - other.line);
  const found = lines[index];
  if (found === undefined) throw new VolsealError('ERR_ARGUMENT', `${path}: has ${lines.length} jobs, from 0; there is no job ${index}`);
  if ('spec' in found) return found;
  throw new VolsealError('ERR_ARGUMENT', `line ${found.line} of ${path} is no job: ${found.problem}`);
}
