/**
 * Which headers with keyslots are whole: stock cryptsetup is the judge, and we agree, so that neither repairs what the
 * other believes.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { VolsealError } from '../../src/errors.js';
import { encodeCopy } from '../../src/luks2/binary-header.js';
import { encodeHeader, type Luks2Header } from '../../src/luks2/header.js';
import { verifyHeader } from '../../src/luks2/header-mac.js';
import { newHeader } from '../../src/luks2/new-header.js';
import { readHeader, repairHeader } from '../../src/luks2/store.js';
import { type KeyHandle, native } from '../../src/native.js';
import { sampleToken } from '../luks2/sample-headers.js';

const directory = mkdtempSync(join(tmpdir(), 'volseal-keyslots-'));
const path = join(directory, 'disk.vol');
const passphrase = join(directory, 'pass');
const rawKey = Buffer.alloc(64, 'a key for tests that needs sixty-four bytes');
let volumeKey: KeyHandle;
/** With a PBKDF2 and an Argon2 passphrase. */
let sound: Luks2Header;

const writeImage = (area: Buffer): void => {
  writeFileSync(path, area);
  truncateSync(path, 4 * 1024 * 1024);
};

const read = async () => {
  const file = await open(path, 'r');
  try {
    return await readHeader(file, path);
  } finally {
    await file.close();
  }
};

const isWholeForCryptsetup = (): boolean => spawnSync('cryptsetup', ['luksDump', path]).status === 0;

const isWholeForUs = (): Promise<boolean> =>
  read().then(
    () => true,
    (error) => {
      expect((error as VolsealError).code).toBe('ERR_HEADER_DAMAGED');
      return false;
    },
  );

const copyOf = (header: Luks2Header, name: 'primary' | 'secondary'): Buffer => encodeCopy(header, name, JSON.stringify(header.metadata));

beforeAll(async () => {
  writeFileSync(passphrase, 'correct horse');
  writeFileSync(join(directory, 'key'), rawKey);
  volumeKey = native.keyImportBase64(Buffer.from(rawKey.toString('base64')));
  writeImage(encodeHeader(newHeader({ volumeKey, token: sampleToken(), sectorBytes: 512, placement: 'embedded' }, path)));
  for (const kdf of [
    ['pbkdf2', '--pbkdf-force-iterations', '1000'],
    ['argon2id', '--pbkdf-force-iterations', '4', '--pbkdf-memory', '1024'],
  ]) {
    const key = ['--volume-key-file', join(directory, 'key'), '--key-size', '512'];
    execFileSync('cryptsetup', ['luksAddKey', '--batch-mode', ...key, '--pbkdf', ...kdf, path, passphrase]);
  }
  sound = (await read()).header;
});
afterAll(() => {
  native.keyWipe(volumeKey);
  rmSync(directory, { recursive: true, force: true });
});

// biome-ignore lint/suspicious/noExplicitAny: each change breaks the type on purpose.
type AnyMetadata = any;
const changes: Record<string, (metadata: AnyMetadata) => unknown> = {
  'no change': () => {},
  'no type': ({ keyslots }) => delete keyslots[0].type,
  'no key_size': ({ keyslots }) => delete keyslots[0].key_size,
  'key_size of 0': ({ keyslots }) => (keyslots[0].key_size = 0),
  'negative key_size': ({ keyslots }) => (keyslots[0].key_size = -64),
  'key_size as a string': ({ keyslots }) => (keyslots[0].key_size = '64'),
  'a priority': ({ keyslots }) => (keyslots[0].priority = 2),
  'a priority that is none': ({ keyslots }) => (keyslots[0].priority = 'high'),
  'an unknown member': ({ keyslots }) => (keyslots[0].note = 'x'),
  'no area': ({ keyslots }) => delete keyslots[0].area,
  'area without type': ({ keyslots }) => delete keyslots[0].area.type,
  'area of another type': ({ keyslots }) => (keyslots[0].area.type = 'journal'),
  'area without encryption': ({ keyslots }) => delete keyslots[0].area.encryption,
  'area without key_size': ({ keyslots }) => delete keyslots[0].area.key_size,
  'area without offset': ({ keyslots }) => delete keyslots[0].area.offset,
  'area without size': ({ keyslots }) => delete keyslots[0].area.size,
  'area with an unknown member': ({ keyslots }) => (keyslots[0].area.note = 'x'),
  'offset as a number': ({ keyslots }) => (keyslots[0].area.offset = 32768),
  'offset that is no number': ({ keyslots }) => (keyslots[0].area.offset = '32768x'),
  'offset beyond 64 bits': ({ keyslots }) => (keyslots[0].area.offset = '18446744073709551616'),
  'offset at the end of 64 bits': ({ keyslots }) => (keyslots[0].area.offset = '18446744073709551615'),
  'size at the end of 64 bits': ({ keyslots }) => (keyslots[0].area.size = '18446744073709551615'),
  'area in the first header': ({ keyslots }) => (keyslots[0].area.offset = '4096'),
  'area in the second header': ({ keyslots }) => (keyslots[0].area.offset = '28672'),
  'area behind the keyslots': ({ keyslots }) => (keyslots[0].area.offset = '1048576'),
  'area across the end of the keyslots': ({ keyslots }) => (keyslots[0].area.offset = '1044480'),
  'area of no bytes': ({ keyslots }) => (keyslots[0].area.size = '0'),
  'the same area twice': ({ keyslots }) => (keyslots[1].area.offset = keyslots[0].area.offset),
  'areas that overlap in one block': ({ keyslots }) => (keyslots[1].area.offset = String(Number(keyslots[1].area.offset) - 4096)),
  'no kdf': ({ keyslots }) => delete keyslots[0].kdf,
  'kdf without type': ({ keyslots }) => delete keyslots[0].kdf.type,
  'kdf of an unknown type': ({ keyslots }) => (keyslots[0].kdf.type = 'scrypt'),
  'kdf without salt': ({ keyslots }) => delete keyslots[0].kdf.salt,
  'pbkdf2 without hash': ({ keyslots }) => delete keyslots[0].kdf.hash,
  'pbkdf2 without iterations': ({ keyslots }) => delete keyslots[0].kdf.iterations,
  'pbkdf2 with a member of argon2': ({ keyslots }) => (keyslots[0].kdf.time = 4),
  'argon2 without memory': ({ keyslots }) => delete keyslots[1].kdf.memory,
  'argon2 with a member of pbkdf2': ({ keyslots }) => (keyslots[1].kdf.hash = 'sha256'),
  argon2i: ({ keyslots }) => (keyslots[1].kdf.type = 'argon2i'),
  'no af': ({ keyslots }) => delete keyslots[0].af,
  'af of another type': ({ keyslots }) => (keyslots[0].af.type = 'luks3'),
  'af without stripes': ({ keyslots }) => delete keyslots[0].af.stripes,
  'af without hash': ({ keyslots }) => delete keyslots[0].af.hash,
  'an unknown type of keyslot': ({ keyslots }) => Object.assign(keyslots, { 0: { type: 'x', key_size: 1, area: keyslots[0].area } }),
  'an unknown type of keyslot without area': ({ keyslots }) => Object.assign(keyslots, { 0: { type: 'x', key_size: 1 } }),
  'a digest that names no such keyslot': ({ digests }) => digests[0].keyslots.push('7'),
  'a keyslot without digest': ({ digests }) => digests[0].keyslots.splice(0, 1),
  'a token that names no such keyslot': ({ tokens }) => tokens[0].keyslots.push('7'),
  'a keyslots area that reaches into the data': ({ config }) => (config.keyslots_size = '2097152'),
  'a keyslots area of no 4096-byte blocks': ({ config }) => (config.keyslots_size = '1015296'),
};

describe('we call a header whole exactly where cryptsetup does', () => {
  for (const [name, change] of Object.entries(changes)) {
    test(name, async () => {
      const header = structuredClone(sound);
      change(header.metadata);
      writeImage(Buffer.concat([copyOf(header, 'primary'), copyOf(header, 'secondary')]));
      // First ours: cryptsetup repairs.
      const ours = await isWholeForUs();
      expect(ours).toBe(isWholeForCryptsetup());
    });
  }
});

test('a copy with broken keyslots is repaired from the other, not the other way round', async () => {
  const broken = structuredClone(sound);
  (broken.metadata as AnyMetadata).keyslots[1].area.offset = '4096';
  writeImage(Buffer.concat([copyOf({ ...broken, sequence: sound.sequence + 1n }, 'primary'), copyOf(sound, 'secondary')]));
  const file = await open(path, 'r+');
  try {
    const found = await readHeader(file, path);
    expect([found.from, found.stale]).toEqual(['secondary', 'primary']);
    verifyHeader(volumeKey, found.header, path);
    await repairHeader(file, found, path);
  } finally {
    await file.close();
  }
  expect(isWholeForCryptsetup()).toBe(true);
  expect((await read()).header.metadata).toEqual(sound.metadata);
});

test('of two whole copies of one sequence number that differ, neither is overwritten', async () => {
  const other = { ...structuredClone(sound), label: 'another' };
  writeImage(Buffer.concat([copyOf(sound, 'primary'), copyOf(other, 'secondary')]));
  const found = await read();
  expect([found.from, found.stale]).toEqual(['primary', undefined]);
  expect(found.copies.secondary).toMatch(/differs/);
});

for (const algorithm of ['sha1', 'sha384', 'sha512']) {
  test(`a header with ${algorithm} checksums is read; ours is written with sha256`, async () => {
    const copies = (['primary', 'secondary'] as const).map((name) => {
      const copy = copyOf(sound, name);
      copy.fill(0, 72, 104).write(algorithm, 72);
      copy.fill(0, 448, 512);
      createHash(algorithm).update(copy).digest().copy(copy, 448);
      return copy;
    });
    writeImage(Buffer.concat(copies));
    const found = await read();
    expect(found.copies).toEqual({ primary: 'good', secondary: 'good' });
    verifyHeader(volumeKey, found.header, path);
    expect(isWholeForCryptsetup()).toBe(true);
    expect(encodeHeader(found.header).toString('latin1', 72, 79)).toBe('sha256\0');
  });
}
