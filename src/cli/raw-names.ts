/**
 * Names that are not UTF-8. Node decodes the command line, the environment and the working directory as UTF-8, and puts
 * U+FFFD for every other byte: two names become one, and what is written gets a name that nobody gave. Such names are
 * refused before anything is done.
 */
import { isUtf8 } from 'node:buffer';
import { readFileSync, readlinkSync } from 'node:fs';
import { VolsealError } from '../errors.js';

const REPLACEMENT = '\uFFFD';

/** The bytes between NULs of a file of /proc; undefined where there is no /proc. */
function rawEntries(path: string): Buffer[] | undefined {
  try {
    const text = readFileSync(path, 'latin1');
    return text
      .split('\0')
      .slice(0, -1)
      .map((entry) => Buffer.from(entry, 'latin1'));
  } catch {
    return undefined;
  }
}

/** `"caf\xe9"`: printable ASCII as it is. Without the bytes, what Node made of them. */
const shown = (raw: Buffer | undefined, decoded: string): string =>
  raw === undefined
    ? JSON.stringify(decoded)
    : `"${Array.from(raw, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`)).join('')}"`;

/** Without the bytes, U+FFFD counts as one of them. */
function refuse(what: string, decoded: string, raw: Buffer | undefined): void {
  if (raw !== undefined && isUtf8(raw)) return;
  throw new VolsealError(
    'ERR_ARGUMENT',
    `${what} is not UTF-8: ${shown(raw, decoded)}; rename the file or directory: other bytes would get lost`,
  );
}

/** The variable that says where volseal keeps its own files. */
const homeVariable = (): string => ['VOLSEAL_HOME', 'XDG_DATA_HOME'].find((name) => process.env[name]) ?? 'HOME';

/**
 * Refuses arguments, a home and a working directory that are not UTF-8.
 * @param words the arguments as Node has decoded them @throws {VolsealError} `ERR_ARGUMENT`
 */
export function refuseOtherEncodings(words: readonly string[]): void {
  words.forEach((word, index) => {
    if (!word.includes(REPLACEMENT)) return;
    const raw = rawEntries('/proc/self/cmdline');
    refuse(`argument ${index + 1}`, word, raw?.[raw.length - words.length + index]);
  });
  const name = homeVariable();
  const home = process.env[name];
  if (home?.includes(REPLACEMENT)) {
    const entry = rawEntries('/proc/self/environ')?.find((candidate) => candidate.toString('latin1').startsWith(`${name}=`));
    refuse(name, home, entry?.subarray(name.length + 1));
  }
  const directory = workingDirectory();
  if (directory?.includes(REPLACEMENT)) refuse('the working directory', directory, rawWorkingDirectory());
}

/** Undefined where it was removed: whoever needs it says so. */
function workingDirectory(): string | undefined {
  try {
    return process.cwd();
  } catch {
    return undefined;
  }
}

function rawWorkingDirectory(): Buffer | undefined {
  try {
    return readlinkSync('/proc/self/cwd', { encoding: 'buffer' });
  } catch {
    return undefined;
  }
}
