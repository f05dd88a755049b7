/** The options that commands share, how they are read, and what they stand for in the library. */

import { type Command, InvalidArgumentError, Option } from 'commander';
import { VOLUME_ID_CONTEXT_KEY } from '../context-keys.js';
import { VolsealError } from '../errors.js';
import type { EncryptionContext } from '../kms/shared/encryption-context.js';
import { SECTOR_SIZES } from '../limits.js';
import type { Output } from './output.js';
import { parseSize } from './sizes.js';

/** What every command runs with. */
export interface Session {
  readonly output: Output;
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
}

export interface KmsFlags {
  kms?: string;
}

export interface ExistingVolumeFlags extends KmsFlags {
  context?: EncryptionContext;
  header?: string;
}

export interface NewVolumeFlags extends ExistingVolumeFlags {
  key?: string;
  sectorSize?: string;
  sparse?: boolean;
  full?: boolean;
  force?: boolean;
  fsync?: boolean;
  progress?: boolean;
}

/** `$VOLSEAL_HOME`: where the embedded KMS keeps its store; undefined for the user's data folder. */
export const embeddedHome = (): string | undefined => process.env.VOLSEAL_HOME || undefined;

/** `--kms`, else `$VOLSEAL_KMS`, with the embedded KMS's place beside it: as the library's options take them. */
export function kmsChoice({ kms }: KmsFlags): { kms: string | undefined; embeddedHome: string | undefined } {
  return { kms: kms ?? (process.env.VOLSEAL_KMS || undefined), embeddedHome: embeddedHome() };
}

/** The library's options for a volume that exists. */
export function existingVolumeOptions(flags: ExistingVolumeFlags) {
  return { ...kmsChoice(flags), header: flags.header, encryptionContext: flags.context };
}

/** The library's options for a volume that is made. */
export function newVolumeOptions(flags: NewVolumeFlags) {
  return {
    ...existingVolumeOptions(flags),
    key: flags.key,
    sectorBytes: flags.sectorSize === undefined ? undefined : Number(flags.sectorSize),
    force: flags.force,
    fsync: flags.fsync,
    allocation: flags.sparse ? ('sparse' as const) : flags.full ? ('full' as const) : undefined,
  };
}

/** `--json`. What it does, `openOutput` does: the command only has to know the flag. */
export const withJson = (command: Command): Command => command.option('--json', 'one JSON object instead of text, for errors too');

/** `--kms`. @param otherwise what counts where neither it nor the environment says anything */
export const withKms = (command: Command, otherwise: string): Command =>
  command.option('--kms <uri>', `embedded, embedded:/PATH, aws, aws:REGION or http://HOST:PORT (default: $VOLSEAL_KMS, else ${otherwise})`);

/** `--header`. */
export const withHeader = (command: Command, description: string): Command => command.option('--header <file>', description);

/** `--force`. */
export const withForce = (command: Command): Command =>
  command.option('--force', 'replace a target that exists; a block device is overwritten where it is');

/** `--no-fsync`. */
export const withNoFsync = (command: Command): Command =>
  command.option(
    '--no-fsync',
    'do not wait for the disk: a power cut, even minutes later, may leave neither the old target nor a whole new one',
  );

/** `--resume`. */
export const withResume = (command: Command): Command =>
  command.option('--resume', 'keep what is done where the run is interrupted, and go on from there when the same command comes again');

/** What stands for standard input or output in the place of an image. */
export const STREAM_ARGUMENT = '-';

/** `--sha256`. */
export const withSha256 = (command: Command): Command =>
  command.option('--sha256', 'print the SHA-256 of the image as well, of the same pass');

/** What `--sha256` adds to a command's lines. */
export const sha256Lines = ({ sha256 }: { sha256?: string }): string[] => (sha256 === undefined ? [] : [`sha256 ${sha256}`]);

/** `--progress`. */
export const withProgress = (command: Command): Command =>
  command.option('--progress', 'with --json: progress as JSON lines on standard error (a terminal gets a bar unasked)');

/** `--context`, as often as there are pairs. */
export const withContext = (command: Command, description: string): Command =>
  command.option('--context <key=value>', description, addPair);

/** What `encrypt` and `create` share. */
export function withNewVolume(command: Command): Command {
  withKms(command, 'embedded');
  command.option('--key <key>', 'KMS key id, ARN or alias that wraps the data key (default: alias/aws/ebs)');
  withContext(command, `pair of the encryption context, besides ${VOLUME_ID_CONTEXT_KEY}; repeatable`);
  command.addOption(
    new Option('--sector-size <bytes>', 'bytes of a sector (default: 512, as a GPT in the image expects)').choices(
      SECTOR_SIZES.map(String),
    ),
  );
  withHeader(command, 'put the header into a file of its own');
  return withJson(withProgress(withNoFsync(withForce(command))));
}

/** What commands on a volume share that exists. */
export function withExistingVolume(command: Command): Command {
  withKms(command, "what the volume's header records, unless that is a URL");
  withContext(command, "pair that the volume's encryption context must have, else it is refused; repeatable");
  return withJson(withHeader(command, 'the file with the header, where that is detached'));
}

/** An argument parser for sizes and offsets. @throws {InvalidArgumentError} so that the refusal names the option */
export function sizeArgument(text: string): number {
  try {
    return parseSize(text);
  } catch (error) {
    throw error instanceof VolsealError ? new InvalidArgumentError(error.message) : error;
  }
}

/** Adds the pair that `text` holds. @throws {InvalidArgumentError} where it holds none, or the key was given already */
function addPair(text: string, pairs: EncryptionContext = {}): EncryptionContext {
  const equals = text.indexOf('=');
  if (equals < 1) throw new InvalidArgumentError('Expected KEY=VALUE.');
  const key = text.slice(0, equals);
  if (Object.hasOwn(pairs, key)) throw new InvalidArgumentError(`The key ${JSON.stringify(key)} was given already.`);
  return { ...pairs, [key]: text.slice(equals + 1) };
}
