/**
 * Where the root key of an embedded KMS comes from: a file next to the store (the default), a passphrase, or a command
 * that prints it. `root-key.json` next to the store says which; without it, the file is used.
 */
import { spawnSync } from 'node:child_process';
import { randomBytes, scryptSync } from 'node:crypto';
import { closeSync, constants, existsSync, fstatSync, openSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { makeDirectory, syncDirectorySync } from '../../../directories.js';
import { asVolsealError, VolsealError } from '../../../errors.js';
import { type KeyHandle, native } from '../../../native.js';
import { checkOwnDirectory, readOwnFile } from '../../../own-files.js';
import { parseStrictJson } from '../../../strict-json.js';
import { createRootKey, readRootKey } from './root-key.js';

const ROOT_KEY_BYTES = 32;
const SOURCE_BYTES_MAX = 64 * 1024;
const COMMAND_TIMEOUT_MS = 30_000;
/** A key has 44; more is none. */
const PRINTED_BYTES_MAX = 4096;
const PASSPHRASE_BYTES_MAX = 4096;
/** RFC 7914 with what OWASP asks for: 128 MiB and about 0.4 s for each opening of the store. */
const SCRYPT = { N: 2 ** 17, r: 8, p: 1 } as const;
const SCRYPT_MEMORY_BYTES = 256 * 1024 * 1024;
/**
 * More than is used, and a multiple of 3: V8 may keep an array of 64 bytes or fewer on its heap, where it cannot be
 * wiped.
 */
const SCRYPT_OUTPUT_BYTES = 96;
/** Of its base64 text: 48 bytes. The vault's HMAC takes keys of up to 64. */
const SCRYPT_TEXT_CHARS = 64;
const SEAL_LABEL = Buffer.from('volseal kms root key\0');

const sourceRecord = z.discriminatedUnion('source', [
  z.object({ source: z.literal('file') }),
  z.object({ source: z.literal('command'), command: z.array(z.string()).min(1) }),
  z.object({
    source: z.literal('passphrase'),
    /** Absolute. Its first line is the passphrase. */
    passphraseFile: z.string().startsWith('/'),
    /** Base64 of 32 random bytes. */
    salt: z.base64(),
    /** Only these: a forged file must not make an opening slow, nor the passphrase easy to guess. */
    scrypt: z.object({ N: z.literal(SCRYPT.N), r: z.literal(SCRYPT.r), p: z.literal(SCRYPT.p) }),
    /** The root key, sealed under the passphrase's key. */
    sealed: z.base64(),
  }),
]);

/** The choice of an administrator. */
export type RootKeyChoice = { readonly passphraseFile: string } | { readonly command: readonly string[] };

/**
 * Records where the root key of a new KMS will come from. The passphrase's file must exist; the first opening runs the
 * command.
 * @param directory of the store @throws {VolsealError} `ERR_KMS_STORE`: there is a store already; `ERR_ARGUMENT`,
 * `ERR_IO`, `ERR_MEMORY_LOCK`
 */
export function chooseRootKey(directory: string, choice: RootKeyChoice): void {
  for (const name of ['store.mdb', 'root.key', 'root-key.json']) {
    if (existsSync(join(directory, name))) {
      throw new VolsealError(
        'ERR_KMS_STORE',
        `${join(directory, name)} exists already: the root key of a store is chosen before the store is made`,
      );
    }
  }
  checkOwnDirectory(directory);
  const record = 'command' in choice ? { source: 'command', command: [...choice.command] } : sealedByPassphrase(choice.passphraseFile);
  const path = join(directory, 'root-key.json');
  try {
    makeDirectory(directory);
    writeFileSync(path, `${JSON.stringify(record, undefined, 2)}\n`, { mode: 0o600, flag: 'wx', flush: true });
    syncDirectorySync(directory);
  } catch (error) {
    throw asVolsealError(error, path);
  }
}

/**
 * The root key of the store in `directory`, in the vault; the caller wipes it.
 * @param isNew there is no store yet: a key file is made where there is none
 * @returns undefined where the key file is missing
 * @throws {VolsealError} `ERR_KMS_STORE` where the source does not give a key, `ERR_IO`, `ERR_MEMORY_LOCK`
 */
export function openRootKey(directory: string, isNew: boolean): KeyHandle | undefined {
  const source = readSource(join(directory, 'root-key.json'));
  if (source.source === 'command') return keyFromCommand(source.command);
  if (source.source === 'passphrase') return unseal(source);
  const path = join(directory, 'root.key');
  return readRootKey(path) ?? (isNew ? createRootKey(path) : undefined);
}

/** How messages name the source of the root key of the store in `directory`. */
export function describeRootKey(directory: string): string {
  const source = readSource(join(directory, 'root-key.json'));
  if (source.source === 'command') return `the command ${source.command.join(' ')}`;
  return source.source === 'passphrase' ? `the passphrase in ${source.passphraseFile}` : join(directory, 'root.key');
}

function readSource(path: string): z.infer<typeof sourceRecord> {
  const bytes = readOwnFile(path, SOURCE_BYTES_MAX);
  if (bytes === undefined) return { source: 'file' };
  try {
    return sourceRecord.parse(parseStrictJson(bytes.toString('utf8')));
  } catch (error) {
    throw new VolsealError('ERR_KMS_STORE', `${path} does not say where the root key comes from; restore it from a backup`, {
      cause: error,
    });
  }
}

/** The command prints the 32 bytes of the key in base64. It may ask its user: the terminal is its own. */
function keyFromCommand([program = '', ...args]: readonly string[]): KeyHandle {
  const printed = Buffer.alloc(PRINTED_BYTES_MAX);
  // A pipe of ours: Node reads its own into memory that it frees without wiping.
  const { readFd, writeFd } = native.openPipe();
  try {
    const { status, error } = spawnSync(program, args, { stdio: ['inherit', writeFd, 'inherit'], timeout: COMMAND_TIMEOUT_MS });
    if (error !== undefined) throw fromSource(`the command ${program} failed: ${error.message}`);
    if (status !== 0) throw fromSource(`the command ${program} ended with ${status}`);
    const byteCount = readWhatIsThere(readFd, printed);
    const end = printed[byteCount - 1] === 0x0a ? byteCount - 1 : byteCount;
    return imported(printed.subarray(0, end), ROOT_KEY_BYTES, `the command ${program} printed`);
  } finally {
    native.closePipeEnd(readFd);
    native.closePipeEnd(writeFd);
    printed.fill(0);
  }
}

/** Never waits: a process that the command has left behind may keep the pipe open. @returns the count of bytes */
function readWhatIsThere(pipe: number, target: Buffer): number {
  const fd = openSync(`/proc/self/fd/${pipe}`, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return readSync(fd, target);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return 0;
    throw error;
  } finally {
    closeSync(fd);
  }
}

function imported(text: Buffer, byteLength: number, what: string): KeyHandle {
  const wrong = `${what} something else than ${byteLength} bytes in base64`;
  let key: KeyHandle;
  try {
    key = native.keyImportBase64(text);
  } catch (error) {
    if (error instanceof VolsealError && error.code === 'ERR_ARGUMENT') throw fromSource(wrong);
    throw error;
  }
  if (native.keyByteLength(key) === byteLength) return key;
  native.keyWipe(key);
  throw fromSource(wrong);
}

function sealedByPassphrase(passphraseFile: string): z.input<typeof sourceRecord> {
  const salt = randomBytes(32);
  const sealing = passphraseKey(passphraseFile, salt);
  const rootKey = native.keyGenerate(ROOT_KEY_BYTES);
  try {
    const sealed = native.keySeal(sealing, rootKey, SEAL_LABEL).toString('base64');
    return { source: 'passphrase', passphraseFile, salt: salt.toString('base64'), scrypt: SCRYPT, sealed };
  } finally {
    native.keyWipe(rootKey);
    native.keyWipe(sealing);
  }
}

function unseal({ passphraseFile, salt, sealed }: Extract<z.infer<typeof sourceRecord>, { source: 'passphrase' }>): KeyHandle {
  const sealing = passphraseKey(passphraseFile, Buffer.from(salt, 'base64'));
  try {
    const rootKey = native.keyOpen(sealing, Buffer.from(sealed, 'base64'), SEAL_LABEL);
    if (rootKey === undefined) throw fromSource(`the passphrase in ${passphraseFile} is not the one that the root key was sealed with`);
    return rootKey;
  } finally {
    native.keyWipe(sealing);
  }
}

/** The key that is derived from a passphrase, in the vault. */
function passphraseKey(path: string, salt: Buffer): KeyHandle {
  const bytes = Buffer.alloc(PASSPHRASE_BYTES_MAX + 1);
  let derived: Buffer | undefined;
  let text: Buffer | undefined;
  try {
    const passphrase = firstLine(path, bytes);
    derived = scryptSync(passphrase, salt, SCRYPT_OUTPUT_BYTES, { ...SCRYPT, maxmem: SCRYPT_MEMORY_BYTES });
    text = base64Of(derived);
    const output = native.keyImportBase64(text.subarray(0, SCRYPT_TEXT_CHARS));
    try {
      return native.keyDerive(output, SEAL_LABEL);
    } finally {
      native.keyWipe(output);
    }
  } finally {
    bytes.fill(0);
    derived?.fill(0);
    text?.fill(0);
  }
}

function firstLine(path: string, target: Buffer): Buffer {
  try {
    // A pipe would block this thread, perhaps for ever, and would give its passphrase to one opening only.
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    try {
      if (!fstatSync(fd).isFile()) throw fromSource(`${path} is no regular file`);
      const byteCount = readSync(fd, target);
      const end = target.subarray(0, byteCount).indexOf('\n');
      const length = end === -1 ? byteCount : end;
      if (length === 0 || length > PASSPHRASE_BYTES_MAX)
        throw fromSource(`${path} holds no passphrase of 1 to ${PASSPHRASE_BYTES_MAX} bytes`);
      return target.subarray(0, length);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw asVolsealError(error, path);
  }
}

const BASE64 = Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/');

/** Node's own function returns a string, which cannot be wiped. @param bytes a multiple of 3 */
function base64Of(bytes: Buffer): Buffer {
  const text = Buffer.alloc((bytes.length / 3) * 4);
  for (let index = 0; index < bytes.length; index += 3) {
    const group = bytes.readUIntBE(index, 3);
    for (let digit = 0; digit < 4; digit++) text[(index / 3) * 4 + digit] = BASE64[(group >> (18 - 6 * digit)) & 63]!;
  }
  return text;
}

const fromSource = (problem: string): VolsealError =>
  new VolsealError('ERR_KMS_STORE', `the root key of the embedded KMS: ${problem}; no new one is made, because it would open nothing`, {
    details: { rootKey: 'source' },
  });
