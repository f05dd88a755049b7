/**
 * A process with one copy of a key, for the memory scan's controls: `node plant-key.js FORM [FILE]`. The 64-byte key
 * comes on standard input XORed with 0xa5 (so that the bytes as they came are no copy), or, for the vault, from a file
 * that no JavaScript reads. Prints its process id once the copy is there, and waits to be killed.
 */
import { createCipheriv } from 'node:crypto';
import { openSync, readSync } from 'node:fs';
import { native } from '../../src/native.js';
import { usableKernels } from '../xts/kernels.js';

const masked = Buffer.allocUnsafeSlow(64);
if (process.argv[2] !== 'vault') readSync(0, masked);

/** The key's bytes pass through here one by one and lie nowhere together. */
const keyByte = (at: number): number => masked[at]! ^ 0xa5;

function withKey<T>(use: (key: Buffer) => T): T {
  const key = Buffer.allocUnsafeSlow(128).subarray(0, 64);
  for (let at = 0; at < 64; at++) key[at] = keyByte(at);
  const result = use(key);
  key.fill(0);
  return result;
}

const text = (encoding: BufferEncoding): string => withKey((key) => key.toString(encoding));

function vault(): unknown {
  const key = native.keyReadFile(openSync(process.argv[3]!, 'r'), 64);
  native.xtsPrepare(key);
  for (const kernel of usableKernels()) {
    const sectors = Buffer.alloc(64 * 512);
    native.xtsTransform(key, true, 512, 0, sectors, sectors, kernel);
    native.xtsTransform(key, false, 512, 0, sectors, sectors, kernel);
  }
  native.keyPbkdf2(key, Buffer.alloc(32), 1000, 'sha512', 64);
  return key;
}

const plants: Record<string, () => unknown> = {
  none: () => undefined,
  buffer: () => withKey((key) => Buffer.from(key)),
  'small array': () => Uint8Array.from({ length: 64 }, (_, at) => keyByte(at)),
  piece: () => withKey((key) => Buffer.from(key.subarray(19, 19 + 23))),
  base64: () => text('base64'),
  base64url: () => text('base64url'),
  hex: () => text('hex'),
  // One character beyond Latin-1 makes V8 keep the whole string as 16-bit characters.
  'utf16 base64': () => JSON.parse(`"\u20ac${text('base64')}"`),
  'shifted base64': () => withKey((key) => Buffer.concat([Buffer.from('?'), key]).toString('base64')),
  cipher: () => withKey((key) => createCipheriv('aes-256-xts', key, Buffer.alloc(16))),
  vault,
};

const planted = plants[process.argv[2] ?? '']!();
process.stdout.write(`${process.pid}\n`);
// Referred to from a live timer, the plant cannot be collected.
setInterval(() => planted, 1_000_000);
