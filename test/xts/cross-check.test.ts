import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { SECTOR_SIZES } from '../../src/limits.js';
import { type KeyHandle, native } from '../../src/native.js';
import { SEED, seededBytes } from '../seed.js';
import { withVolumeKey } from '../vault/test-keys.js';
import { usableKernels } from './kernels.js';
import { referenceTransform } from './reference.js';

const SECTORS_MAX = 200;
const CANARY = 0xe7;

/**
 * Where stretches of SECTORS_MAX sectors begin: multiples of 8, as 4096-byte sectors have them; some cross 2^32 and
 * 2^48 halfway.
 */
function firstUnits(sectorBytes: number): number[] {
  const units = SECTORS_MAX * (sectorBytes / 512);
  const before = (boundary: number): number => boundary - 8 * Math.ceil(units / 16);
  return [0, 8, before(2 ** 32), before(2 ** 48), 2 ** 53 - units - 8];
}

interface Case {
  handle: KeyHandle;
  /** undefined: the one in use. */
  kernel: string | undefined;
  encrypt: boolean;
  sectorBytes: number;
}

/** Transforms at the given distances from a buffer's start, and checks that no byte outside the target changes. */
function checkOnce({ handle, kernel, encrypt, sectorBytes }: Case, source: Buffer, expected: Buffer, unit: number, offset: number): void {
  const inPlace = offset % 2 === 1;
  const area = Buffer.alloc(source.length + 160, CANARY);
  const target = area.subarray(offset, offset + source.length);
  const input = inPlace ? target : Buffer.concat([Buffer.alloc((offset * 7) % 66), source]).subarray((offset * 7) % 66);
  if (inPlace) source.copy(target);
  if (kernel === undefined) native.xtsTransform(handle, encrypt, sectorBytes, unit, input, target);
  else native.xtsTransform(handle, encrypt, sectorBytes, unit, input, target, kernel);
  const what = `${kernel ?? 'the kernel in use'}, ${encrypt ? 'encrypt' : 'decrypt'}, ${source.length / sectorBytes} x ${sectorBytes}, unit ${unit}, offset ${offset}, seed ${SEED}`;
  assert.ok(target.equals(expected), `other bytes than OpenSSL's: ${what}`);
  assert.ok(inPlace || input.equals(source), `the source changed: ${what}`);
  const outside = [...area.subarray(0, offset), ...area.subarray(offset + source.length)];
  assert.ok(
    outside.every((byte) => byte === CANARY),
    `bytes outside the target changed: ${what}`,
  );
}

for (const keyBytes of [64, 32]) {
  for (const sectorBytes of SECTOR_SIZES) {
    describe(`AES-${keyBytes * 4}-XTS, ${sectorBytes}-byte sectors, against OpenSSL`, () => {
      for (const encrypt of [true, false]) {
        test(encrypt ? 'encrypt' : 'decrypt', () => {
          const random = seededBytes(SEED + keyBytes + sectorBytes + Number(encrypt));
          const key = random(keyBytes);
          withVolumeKey(key, (handle) => {
            const stretches = firstUnits(sectorBytes).map((firstUnit) => {
              const source = random(SECTORS_MAX * sectorBytes);
              return { firstUnit, source, expected: referenceTransform(key, encrypt, source, sectorBytes, firstUnit) };
            });
            for (const [turn, kernel] of [...usableKernels(), undefined].entries()) {
              for (let count = 1; count <= SECTORS_MAX; count++) {
                // Every kernel has every count; the stretches take turns.
                const { firstUnit, source, expected } = stretches[(count + turn) % stretches.length]!;
                const start = random(1)[0]! % (SECTORS_MAX - count + 1);
                const range = [start * sectorBytes, (start + count) * sectorBytes] as const;
                const unit = firstUnit + range[0] / 512;
                const offset = random(1)[0]! % 66;
                checkOnce({ handle, kernel, encrypt, sectorBytes }, source.subarray(...range), expected.subarray(...range), unit, offset);
              }
            }
          });
        });
      }

      test('large runs, and every address from 0 to 65', () => {
        const random = seededBytes(SEED ^ (keyBytes * sectorBytes));
        const key = random(keyBytes);
        const source = random((2 * 1024 * 1024) / sectorBytes > 600 ? 601 * sectorBytes : 2 * 1024 * 1024 + sectorBytes);
        const expected = referenceTransform(key, true, source, sectorBytes, 2 ** 32 - 64);
        withVolumeKey(key, (handle) => {
          for (const kernel of [...usableKernels(), undefined]) {
            checkOnce({ handle, kernel, encrypt: true, sectorBytes }, source, expected, 2 ** 32 - 64, 16);
            checkOnce({ handle, kernel, encrypt: false, sectorBytes }, expected, source, 2 ** 32 - 64, 17);
            for (let offset = 0; offset <= 65; offset++) {
              const bytes = 2 * sectorBytes;
              const encrypting = { handle, kernel, encrypt: true, sectorBytes };
              checkOnce(encrypting, source.subarray(0, bytes), expected.subarray(0, bytes), 2 ** 32 - 64, offset);
            }
          }
        });
      });
    });
  }
}

test('the tweak counts in 512-byte units whatever the sector size', () => {
  const random = seededBytes(SEED);
  withVolumeKey(random(64), (handle) => {
    const plaintext = random(4096);
    const first = Buffer.alloc(8192);
    native.xtsTransform(handle, true, 4096, 0, Buffer.concat([random(4096), plaintext]), first);
    const second = Buffer.alloc(4096);
    native.xtsTransform(handle, true, 4096, 8, plaintext, second);
    assert.ok(first.subarray(4096).equals(second));
  });
});

test('the first 512 bytes of a sector are the same at every sector size', () => {
  const random = seededBytes(SEED);
  withVolumeKey(random(64), (handle) => {
    const plaintext = random(4096);
    const beginnings = SECTOR_SIZES.map((sectorBytes) => {
      const target = Buffer.alloc(4096);
      native.xtsTransform(handle, true, sectorBytes, 64, plaintext, target);
      return target.toString('hex', 0, 512);
    });
    assert.equal(new Set(beginnings).size, 1);
  });
});
