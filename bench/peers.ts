/**
 * The peers that volseal's kernels are held against and that only a clone has: OpenSSL called from C++, and programs
 * that measure themselves.
 */
import { execFile, spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { DIRECTIONS, type Field, judgeBytes, type Layout, MEASURED_SECTOR_SIZES, type Workbench } from '../src/bench/contenders.js';
import type { Absence, Subject } from '../src/bench/measurement.js';
import { type Contender, inThread } from '../src/bench/sampling.js';

interface BenchAddon {
  /** AES-256-XTS under the benchmarks' public key through EVP, sectors from 0 on. */
  evpXts(encrypt: boolean, source: Uint8Array, target: Uint8Array, sectorBytes: number): void;
}

const run = promisify(execFile);

/**
 * OpenSSL's EVP from C++: one context, a new IV for each sector.
 * @throws {VolsealError} `ERR_SELF_TEST` where its bytes are others
 */
export function evpField(bench: Workbench, layouts: readonly Layout[]): Contender[] {
  const file = fileURLToPath(new URL('../../build/Release/volseal_bench.node', import.meta.url));
  const { evpXts } = createRequire(import.meta.url)(file) as BenchAddon;
  judgeBytes('OpenSSL EVP', evpXts);
  return layouts.flatMap(({ bufferBytes, inPlace }) =>
    MEASURED_SECTOR_SIZES.flatMap((sectorBytes) =>
      DIRECTIONS.map((direction) => {
        const { source, target } = bench.buffers.pair(bufferBytes);
        const subject: Subject = { name: 'OpenSSL EVP', kernel: null, direction, sectorBytes, bufferBytes, inPlace };
        return inThread(subject, bufferBytes, bench.turnMs, () =>
          evpXts(direction === 'encrypt', source, inPlace ? source : target, sectorBytes),
        );
      }),
    ),
  );
}

/**
 * `openssl speed`, one second a turn, by its own clock (CPU time); absent where it is not installed or does not do it.
 */
export function opensslSpeedField(directions: readonly (typeof DIRECTIONS)[number][]): Field {
  const base: Subject = { name: 'openssl speed', kernel: null, direction: null, sectorBytes: null, bufferBytes: null, inPlace: null };
  const absent = (reason: string): Field => ({ contenders: [], absent: [{ ...base, reason }] satisfies Absence[] });
  // Not every OpenSSL, and not every program of that name, knows these options.
  const { error, status, stdout, stderr } = spawnSync('openssl', speedWords(512, 'encrypt'), { encoding: 'utf8' });
  if (error !== undefined) return absent('openssl is not installed');
  if (status !== 0 || parseOpensslSpeed(stdout) === undefined) return absent(`openssl speed gave no result: ${inOneLine(stderr)}`);
  const contenders = MEASURED_SECTOR_SIZES.flatMap((sectorBytes) =>
    directions.map((direction): Contender => {
      return {
        subject: { ...base, direction, sectorBytes },
        turn: async () => resultOf('openssl speed', parseOpensslSpeed((await run('openssl', speedWords(sectorBytes, direction))).stdout)),
      };
    }),
  );
  return { contenders, absent: [] };
}

const speedWords = (sectorBytes: number, direction: (typeof DIRECTIONS)[number]): string[] => [
  ...['speed', '-mr', '-seconds', '1', '-bytes', String(sectorBytes), '-evp', 'aes-256-xts'],
  ...(direction === 'decrypt' ? ['-decrypt'] : []),
];

/** `cryptsetup benchmark`: the kernel's cipher through AF_ALG; absent, with its own words, where it does not work. */
export function cryptsetupField(): Field {
  const words = ['benchmark', '--cipher', 'aes-xts', '--key-size', '512'];
  const base: Subject = {
    name: 'cryptsetup benchmark',
    kernel: null,
    direction: null,
    sectorBytes: null,
    bufferBytes: null,
    inPlace: null,
  };
  const absent = (reason: string): Field => ({ contenders: [], absent: [{ ...base, reason }] satisfies Absence[] });
  const { error, status, stdout, stderr } = spawnSync('cryptsetup', words, { encoding: 'utf8' });
  if (error !== undefined) return absent('cryptsetup is not installed');
  if (status !== 0 || parseCryptsetup(stdout) === undefined) return absent(inOneLine(stderr));
  const contenders = DIRECTIONS.map(
    (direction): Contender => ({
      subject: { ...base, direction },
      turn: async () => resultOf('cryptsetup benchmark', parseCryptsetup((await run('cryptsetup', words)).stdout)?.[direction]),
    }),
  );
  return { contenders, absent: [] };
}

/** GB/s from what `openssl speed -mr` prints: the line +F has bytes a second. Undefined where there is no such line. */
export function parseOpensslSpeed(text: string): number | undefined {
  const [, bytesPerSecond] = /^\+F:\d+:AES-256-XTS:([\d.]+)$/im.exec(text) ?? [];
  return bytesPerSecond === undefined ? undefined : Number(bytesPerSecond) / 1e9;
}

/** GB/s from what `cryptsetup benchmark` prints in MiB/s. Undefined where there is no such line. */
export function parseCryptsetup(text: string): { encrypt: number; decrypt: number } | undefined {
  const [, encrypt, decrypt] = /^\s*aes-xts\s+512b\s+([\d.]+) MiB\/s\s+([\d.]+) MiB\/s/m.exec(text) ?? [];
  if (encrypt === undefined || decrypt === undefined) return undefined;
  return { encrypt: (Number(encrypt) * 2 ** 20) / 1e9, decrypt: (Number(decrypt) * 2 ** 20) / 1e9 };
}

function resultOf(program: string, gbps: number | undefined): number {
  if (gbps === undefined) throw new Error(`${program} printed a result before, and now none`);
  return gbps;
}

/** Words of a program, for a reason. */
export const inOneLine = (text: string): string => text.trim().replaceAll('\n', ' ');
