/**
 * Keyslots that the addon does not open: with Argon2 (the OpenSSL inside Node 20 lacks it), encrypted with another
 * cipher, or with a hash that volseal does not know. Where cryptsetup is installed, it converts the keyslot in a copy
 * of the header, and the copy is opened as any other. So the volume key comes from an area into the vault here too, and
 * the volume's own header is not touched.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:fs';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { asVolsealError, namingPath, VolsealError } from '../errors.js';
import { NamedFile } from '../output/named-file.js';
import { throwIfAborted } from '../workers/abort.js';

/** In memory, where there is one. */
const MEMORY_DIRECTORY = '/dev/shm';

/** What makes a keyslot one that volseal opens: options of `cryptsetup luksConvertKey`. */
export const CONVERSION = [
  ...['--pbkdf', 'pbkdf2', '--hash', 'sha256'],
  ...['--keyslot-cipher', 'aes-xts-plain64', '--keyslot-key-size', '512'],
] as const;

/** Of cryptsetup: no keyslot opens by this passphrase. */
const STATUS_NO_PERMISSION = 2;

/**
 * Has cryptsetup convert the keyslot that a passphrase opens, with the cost that PBKDF2 has there by default, in a copy
 * of the header that is gone afterwards.
 *
 * @param area the header area of the volume
 * @param passphraseFile a regular file: cryptsetup reads its first line
 * @returns what `use` makes of the copy; undefined where cryptsetup is not installed, the passphrase is in no regular
 * file, or it opens no keyslot
 * @throws {VolsealError} `ERR_IO` (also in cryptsetup's words), `ERR_ABORTED`, and whatever `use` throws
 */
export async function withConvertedCopy<T>(
  area: Buffer,
  passphraseFile: string,
  signal: AbortSignal | undefined,
  use: (copy: NamedFile) => Promise<T>,
): Promise<T | undefined> {
  const parent = await stat(MEMORY_DIRECTORY).then(
    (found) => (found.isDirectory() ? MEMORY_DIRECTORY : tmpdir()),
    () => tmpdir(),
  );
  const directory = await namingPath(parent, () => mkdtemp(join(parent, 'volseal-')));
  try {
    const path = join(directory, 'header');
    await using copy = await NamedFile.open(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL);
    await copy.write(area, 0);
    if (!(await convert(path, passphraseFile, signal))) return undefined;
    return await use(copy);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Whether a keyslot was converted. */
async function convert(path: string, passphraseFile: string, signal: AbortSignal | undefined): Promise<boolean> {
  await using passphrase = await NamedFile.open(passphraseFile, constants.O_RDONLY);
  // What volseal has read from a pipe is not there any more.
  if (!(await passphrase.stat()).isFile()) return false;
  throwIfAborted(signal, 'the volume is as it was');
  const child = spawn('cryptsetup', ['luksConvertKey', '--batch-mode', ...CONVERSION, path], {
    stdio: [passphrase.fd, 'ignore', 'pipe'],
    ...(signal === undefined ? {} : { signal }),
  });
  const ended = statusOf(child);
  const words = text(child.stderr!);
  const status = await ended;
  throwIfAborted(signal, 'the volume is as it was');
  if (status === undefined || status === STATUS_NO_PERMISSION) return false;
  if (status === 0) return true;
  throw new VolsealError('ERR_IO', `cryptsetup luksConvertKey ended with status ${status}: ${(await words).trim()}`, {
    details: { path, syscall: 'cryptsetup' },
  });
}

/** Undefined where the program is not there; null where a signal ended it. */
async function statusOf(child: ChildProcess): Promise<number | null | undefined> {
  try {
    const [status] = (await once(child, 'close')) as [number | null];
    return status;
  } catch (error) {
    const { code, name } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    if (name === 'AbortError') return null;
    throw asVolsealError(error);
  }
}
