/** The options that commands share, how they are parsed, and the library options that they become. */

import { isatty } from 'node:tty';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { VOLUME_ID_CONTEXT_KEY } from '../context-keys.js';
import { VolsealError } from '../errors.js';
import type { EncryptionContext } from '../kms/shared/encryption-context.js';
import { SECTOR_SIZES } from '../limits.js';
import { parseSize } from '../size-text.js';
import type { TargetStream } from '../transfer/image-stream.js';
import type { RootKeyWatch } from './new-root-key.js';
import type { Output } from './terminal/output.js';
import { STANDARD_OUTPUT } from './terminal/standard-streams.js';

/** What every command runs with. */
export interface Session {
  readonly output: Output;
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
  /** Ends the program with this status where the command succeeds: that of another program that it has run. */
  endWith(status: number): void;
  /** Reports when the command ends. A command that runs on reports once it has opened its KMS. */
  readonly rootKey: RootKeyWatch;
}

export interface KmsFlags {
  kms?: string;
}

export interface ExistingVolumeFlags extends KmsFlags {
  context?: EncryptionContext;
  expectKey?: string;
  header?: string;
  recoveryKeyFile?: string;
  passphraseFile?: string;
  anyKeyslot?: boolean;
  allowNoLock?: boolean;
  anyData?: boolean;
}

export interface NewVolumeFlags extends KmsFlags {
  context?: EncryptionContext;
  header?: string;
  key?: string;
  sectorSize?: string;
  sparse?: boolean;
  full?: boolean;
  force?: boolean;
  fsync?: boolean;
  progress?: boolean;
}

/** The library's options for a volume that exists. */
export function existingVolumeOptions(flags: ExistingVolumeFlags, output?: Pick<Output, 'warning'>) {
  const { kms, header, context: encryptionContext, expectKey: expectedKey, recoveryKeyFile, passphraseFile, anyKeyslot } = flags;
  const { allowNoLock, anyData } = flags;
  return {
    kms,
    header,
    encryptionContext,
    expectedKey,
    recoveryKeyFile,
    passphraseFile,
    anyKeyslot,
    allowNoLock,
    anyData,
    onWarning: output?.warning,
  };
}

/** The library's options for a volume that is made. */
export function newVolumeOptions(flags: NewVolumeFlags) {
  return {
    kms: flags.kms,
    header: flags.header,
    encryptionContext: flags.context,
    key: flags.key,
    sectorBytes: flags.sectorSize === undefined ? undefined : Number(flags.sectorSize),
    force: flags.force,
    fsync: flags.fsync,
    allocation: flags.sparse ? ('sparse' as const) : flags.full ? ('full' as const) : undefined,
  };
}

/** `--json` and `--quiet`. `openOutput` implements them; the command only has to know the flags. */
export const withJson = (command: Command): Command =>
  command
    .option('--json', 'one JSON object instead of text, for errors too')
    .option('-q, --quiet', 'no progress bar and no warnings: only the result, or an error');

/** `--kms`. @param otherwise the default if `$VOLSEAL_KMS` is not set either */
export const withKms = (command: Command, otherwise: string): Command =>
  command.option('--kms <uri>', `embedded, embedded:/PATH, aws, aws:REGION or http://HOST:PORT (default: $VOLSEAL_KMS, else ${otherwise})`);

/** `--header`. */
export const withHeader = (command: Command, description: string): Command => command.option('--header <file>', description);

/** `--force`. */
export const withForce = (command: Command): Command =>
  command.option('--force', "replace an existing target, but never another volume's header; a block device is overwritten in place");

/** `--endpoint-url` and `--path-style`: for what may be in a store. */
export const withStore = (command: Command): Command =>
  command
    .option('--endpoint-url <url>', 'the server for s3: and ebs: (default: $AWS_ENDPOINT_URL_S3, $AWS_ENDPOINT_URL_EBS, else AWS)')
    .option('--path-style', 'with AWS: name the bucket in the path of URLs (always so with an endpoint URL)');

export interface StoreFlags {
  endpointUrl?: string;
  pathStyle?: boolean;
}

/** The library's options for stores. */
export const storeOptions = ({ endpointUrl, pathStyle }: StoreFlags) => ({
  store: {
    endpointUrl: endpointUrl ?? (process.env.AWS_ENDPOINT_URL_S3 || undefined),
    ebsEndpointUrl: endpointUrl ?? (process.env.AWS_ENDPOINT_URL_EBS || undefined),
    pathStyle,
  },
});

/** `--no-fsync`. */
export const withNoFsync = (command: Command): Command =>
  command.option('--no-fsync', 'do not wait for the disk: after a power cut, even minutes later, old and new target may both be lost');

/** `--resume`. */
export const withResume = (command: Command): Command =>
  command.option('--resume', 'keep the work of an interrupted run; the same command continues from there');

/** The argument that means standard input or output instead of a file. */
export const STREAM_ARGUMENT = '-';

/** Data of an image is not for a terminal. @throws {VolsealError} `ERR_ARGUMENT` if standard output is one */
export function refuseTerminal(): void {
  if (isatty(1)) throw new VolsealError('ERR_ARGUMENT', `${STANDARD_OUTPUT} is a terminal: send the data to a pipe or a file`);
}

/** `-` as a target is standard output. @throws {VolsealError} `ERR_ARGUMENT` if that is a terminal */
export function targetStreamOr(path: string): string | TargetStream {
  if (path !== STREAM_ARGUMENT) return path;
  refuseTerminal();
  return { fd: 1, name: STANDARD_OUTPUT };
}

/** `--sha256`. */
export const withSha256 = (command: Command): Command =>
  command.option('--sha256', 'also print the SHA-256 of the image, computed in the same pass');

/** The line that `--sha256` adds to the output. */
export const sha256Lines = ({ sha256 }: { sha256?: string }): string[] => (sha256 === undefined ? [] : [`sha256 ${sha256}`]);

/** `--progress`. */
export const withProgress = (command: Command): Command =>
  command.option('--progress', 'with --json: progress as JSON lines on standard error (without --json a terminal gets a bar)');

/** `--context`, once per pair. */
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
  withHeader(command, 'write the header to a file of its own');
  return withJson(withProgress(withNoFsync(withForce(command))));
}

/**
 * What commands on an existing volume share.
 * @param passphrase whether `--passphrase-file` opens the volume @param keyslots whether any keyslot does
 */
export function withExistingVolume(command: Command, { passphrase = true, keyslots = true } = {}): Command {
  withKms(command, "what the volume's header records, unless that is a URL");
  withContext(command, "pair that the volume's encryption context must have; otherwise the volume is refused; repeatable");
  command.option('--expect-key <key>', 'ARN or id of the KMS key that the volume must be under; otherwise the volume is refused');
  if (keyslots) command.option('--recovery-key-file <file>', 'open it by the recovery key in this file, without KMS');
  if (keyslots && passphrase) command.option('--passphrase-file <file>', 'open it by the passphrase in this file, without KMS');
  if (keyslots) command.option('--any-keyslot', 'with those: also by a keyslot that volseal did not add');
  withHeader(command, 'the file with the header, if it is detached');
  return withJson(command.option('--any-data', 'with --header: also data of which nothing shows that it belongs to the header'));
}

/** A host and a port, as `--listen` and `--metrics` take them. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/** An argument parser for `HOST:PORT` and `[IPV6]:PORT`. @throws {InvalidArgumentError} */
export function addressArgument(text: string): Address {
  const [, bracketed, plain, digits] = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]+)):([0-9]{1,5})$/i.exec(text) ?? [];
  const port = Number(digits);
  if (digits === undefined || port > 65535) throw new InvalidArgumentError('Expected HOST:PORT, such as 127.0.0.1:4599.');
  return { host: bracketed ?? plain ?? '', port };
}

/** `--metrics`. */
export const withMetrics = (command: Command): Command =>
  command.option('--metrics <host:port>', 'offer counters for Prometheus at a loopback address; port 0 takes a free one', addressArgument);

/** `--allow-no-lock`, of commands that write to a volume. */
export const withAllowNoLock = (command: Command): Command =>
  command.option(
    '--allow-no-lock',
    'go on where the file system has no locks: if another process uses the volume meanwhile, data is destroyed',
  );

/** An argument parser for sizes and offsets. @throws {InvalidArgumentError} so that the refusal names the option */
export function sizeArgument(text: string): number {
  try {
    return parseSize(text);
  } catch (error) {
    throw error instanceof VolsealError ? new InvalidArgumentError(error.message) : error;
  }
}

/** Adds the pair in `text`. @throws {InvalidArgumentError} if there is none, or if the key was given already */
export function addPair(text: string, pairs: EncryptionContext = {}): EncryptionContext {
  const equals = text.indexOf('=');
  if (equals < 1) throw new InvalidArgumentError('Expected KEY=VALUE.');
  const key = text.slice(0, equals);
  if (Object.hasOwn(pairs, key)) throw new InvalidArgumentError(`The key ${JSON.stringify(key)} was given already.`);
  return { ...pairs, [key]: text.slice(equals + 1) };
}
