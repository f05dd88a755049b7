/** The program `volseal`: command line in, exit status out. */
import { readFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { Command, CommanderError } from 'commander';
import { isError, VolsealError } from '../errors.js';
import { useKernel } from '../kernels.js';
import { type KernelName, native } from '../native.js';
import { ADDON_IS_PREBUILT, PACKAGE_FILE } from '../package-files.js';
import { flushCallLogs } from '../workers/last-flush.js';
import { EXIT, EXIT_STATUS_HELP } from './exit-status.js';
import { describeFailure } from './failure.js';
import { RootKeyWatch } from './new-root-key.js';
import type { KmsFlags, Session } from './options.js';
import { loadCommands, startThreads } from './program-commands.js';
import { refuseOtherEncodings } from './raw-names.js';
import { type Interruption, watchSignals } from './terminal/interrupt.js';
import { refuseStreams } from './terminal/no-streams.js';
import { alignedRows, type Output, openOutput, withExamples } from './terminal/output.js';
import { STANDARD_OUTPUT } from './terminal/standard-streams.js';

/**
 * The program with its commands.
 * @param word the first word of the command line: if it names a command, only that command is loaded
 */
export async function buildProgram(word: string | undefined, session: Session): Promise<Command> {
  const program = new Command('volseal')
    .description('encrypted disk images: LUKS2 volumes whose data keys KMS wraps')
    .option('-V, --version', 'output the version number')
    .on('option:version', () => {
      session.output.text(`${session.output.json ? JSON.stringify(buildFacts()) : packageVersion()}\n`);
      throw new CommanderError(EXIT.ok, 'commander.version', '');
    })
    .exitOverride()
    // `Output.failure` prints refusals, with a hint, and as JSON with `--json`.
    .configureOutput({ outputError: () => {}, writeOut: session.output.text })
    .hook('preAction', () => refuseOtherEncodings(process.argv.slice(2)))
    .hook('preAction', (_, command) => refuseStreams(command, nameOf(command)))
    .hook('preAction', chooseKernel)
    .hook('preAction', (_, command) => session.rootKey.begin(command.opts<KmsFlags>()))
    .hook('preAction', (_, command) => startThreads(topLevelOf(command)));
  for (const command of await loadCommands(word, session)) program.addCommand(command);
  inheritSettings(program);
  return withExamples(
    program,
    ['volseal encrypt disk.raw disk.vol', 'volseal decrypt disk.vol copy.raw'],
    [
      ['Environment:', ...alignedRows(ENVIRONMENT).map((row) => `  ${row}`)].join('\n'),
      ['Exit status:', ...EXIT_STATUS_HELP.map((line) => `  ${line}`)].join('\n'),
    ],
  );
}

/** `workspace` of `workspace list`. */
const topLevelOf = (command: Command): Command => (command.parent?.parent ? topLevelOf(command.parent) : command);

/** `workspace list`. */
const nameOf = (command: Command): string => (command.parent?.parent ? `${nameOf(command.parent)} ${command.name()}` : command.name());

const ENVIRONMENT: readonly (readonly [name: string, meaning: string])[] = [
  ['VOLSEAL_KMS', 'the KMS where --kms is not given'],
  ['VOLSEAL_HOME', 'where the embedded KMS keeps its keys'],
  ['VOLSEAL_KERNEL', 'the AES-XTS kernel to use instead of the fastest: volseal kernels lists them'],
];

/** Applies `$VOLSEAL_KERNEL`. It is a hook of commands, so that help works with a wrong value too. */
function chooseKernel(): void {
  const name = process.env.VOLSEAL_KERNEL;
  if (!name) return;
  try {
    useKernel(name as KernelName);
  } catch (error) {
    if (!(error instanceof VolsealError)) throw error;
    throw new VolsealError(error.code, `VOLSEAL_KERNEL: ${error.message}`, { cause: error, details: error.details });
  }
}

/** Commander passes these settings on to commands that it makes itself, but not to commands that are added. */
function inheritSettings(parent: Command): void {
  for (const command of parent.commands) {
    command.copyInheritedSettings(parent);
    inheritSettings(command);
  }
}

/** Of the package, as package.json says it. */
export function packageVersion(): string {
  return (JSON.parse(readFileSync(PACKAGE_FILE, 'utf8')) as { version: string }).version;
}

/** What a report of a fault should name. */
function buildFacts(): object {
  const kernel = native.xtsKernels().find(({ inUse }) => inUse)?.name;
  const addon = ADDON_IS_PREBUILT ? 'prebuilt' : 'compiled here';
  return { version: packageVersion(), node: process.version, platform: process.platform, arch: process.arch, addon, kernel };
}

/** The command that `words` begin with: `encrypt`, `kms serve`, or "". */
function commandNamed(words: readonly string[], program: Command): string {
  const [word, ...rest] = words;
  const command = program.commands.find((candidate) => candidate.name() === word);
  return command === undefined ? '' : `${command.name()} ${commandNamed(rest, command)}`.trim();
}

async function perform(words: readonly string[], program: Command): Promise<number> {
  try {
    await program.parseAsync(words, { from: 'user' });
    return EXIT.ok;
  } catch (error) {
    // Commander throws for `--help` and `--version` too, and for the help that it prints if the command is missing.
    if (error instanceof CommanderError && (error.exitCode === 0 || error.code === 'commander.help')) return error.exitCode;
    throw error;
  }
}

/** Runs one command line and prints to `output`. @returns its exit status */
export async function runCommand(words: readonly string[], output: Output, interruption: Interruption): Promise<number> {
  // The SDK's advice to upgrade Node is not for users of the program. Worker threads inherit this.
  process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = 'true';
  const rootKey = new RootKeyWatch(output);
  let program: Command | undefined;
  let ownStatus: number = EXIT.ok;
  const endWith = (status: number): void => {
    ownStatus = status;
  };
  try {
    // Neither a core dump nor another process of this user may show the keys of this one.
    native.forbidDumps();
    program = await buildProgram(words[0], { output, signal: interruption.signal, endWith, rootKey });
    const status = await perform(words, program).finally(() => rootKey.report());
    await output.settled();
    return status === EXIT.ok ? ownStatus : status;
  } catch (error) {
    if (isClosedOutput(error)) return EXIT.outputClosed;
    const failure = describeFailure(await named(error), program === undefined ? '' : commandNamed(words, program));
    if (failure === undefined) return reportBug(error);
    output.failure(failure);
    // A failure after Ctrl-C is a consequence of it, or does not matter any more.
    return interruption.status() ?? failure.status;
  }
}

/** With the job in place that is in the way, where one is. */
async function named(error: unknown): Promise<unknown> {
  if (!(error instanceof VolsealError) || error.details.inPlace !== true) return error;
  return (await import('../in-place/name-job.js')).nameJob(error);
}

/** Whether the error says that the reader of standard output has ended: from a stream of Node, or from the engine. */
function isClosedOutput(error: unknown): boolean {
  if (error instanceof VolsealError) return error.details.errno === 'EPIPE' && error.details.path === STANDARD_OUTPUT;
  return (error as NodeJS.ErrnoException).code === 'EPIPE';
}

function reportBug(error: unknown): number {
  const stack = isError(error) ? (error.stack ?? error.message) : String(error);
  process.stderr.write(`${stack}\nvolseal: this is a bug; please report it with the lines above\n`);
  return EXIT.internal;
}

/** Runs the command line that this process was started with, and ends the process. */
export async function main(): Promise<never> {
  // However the process comes to its end. Node would end the pool's threads first, and abort where one is loading a
  // native module.
  process.on('exit', native.exitNow);
  const words = process.argv.slice(2);
  const separator = words.indexOf('--');
  const options = words.slice(0, separator === -1 ? words.length : separator);
  const isQuiet = options.includes('--quiet') || options.includes('-q');
  const output = openOutput(options.includes('--json'), isQuiet);
  const interruption = watchSignals(() => output.warning('stopping; a second Ctrl-C ends at once, without cleaning up'));
  // A standard error that is full or closed must not end a job in the middle.
  process.stderr.on('error', () => {});
  process.on('uncaughtException', (error) => process.exit(reportBug(error)));
  const status = await runCommand(words, output, interruption);
  await flushCallLogs();
  // Warnings are printed in a tick of their own.
  await setImmediate();
  process.exit(status);
}
