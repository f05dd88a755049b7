/**
 * `npm run bench -- image`: how fast whole images move. volseal's encrypt and decrypt beside a limit (dd, O_DIRECT and fsync, no
 * cipher) and a peer (qemu-img to LUKS), as whole processes, in turns, on one file system. Prints one JSON object; a ratio is against
 * the limit in the same run.
 */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createWriteStream, mkdtempSync, rmSync, statSync } from 'node:fs';
import { cpus, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { Command, InvalidArgumentError } from 'commander';

const VOLSEAL = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
const QEMU_SECRET = 'secret,id=key,data=benchmark';

/** The subcommand. */
export function imageCommand(): Command {
  return new Command('image')
    .description('whole images through volseal, dd and qemu-img')
    .option('--size-mib <mib>', 'size of the image', countArgument, 1024)
    .option('--rounds <count>', 'rounds, after one to warm up', countArgument, 5)
    .option('--folder <folder>', 'where the images lie', tmpdir())
    .action(async (flags: { sizeMib: number; rounds: number; folder: string }) => {
      const folder = mkdtempSync(join(flags.folder, 'volseal-bench-'));
      try {
        const report = await measureImages(folder, flags.sizeMib, flags.rounds);
        console.log(JSON.stringify(report, null, 2));
      } finally {
        rmSync(folder, { recursive: true });
      }
    });
}

function countArgument(text: string): number {
  if (!/^[1-9][0-9]*$/.test(text)) throw new InvalidArgumentError('Expected a whole number of at least 1.');
  return Number(text);
}

interface Contender {
  name: string;
  command: string[];
  target: string;
  /** Not timed. */
  prepare?: () => void;
}

function contendersIn(folder: string, sizeMib: number): Contender[] {
  const inFolder = (name: string): string => join(folder, name);
  return [
    {
      name: 'dd, O_DIRECT, fsync (limit)',
      command: [
        ...['dd', `if=${inFolder('image')}`, `of=${inFolder('copy')}`],
        ...['bs=4M', 'iflag=direct', 'oflag=direct', 'conv=fsync', 'status=none'],
      ],
      target: inFolder('copy'),
    },
    {
      name: 'volseal encrypt',
      command: [process.execPath, VOLSEAL, 'encrypt', inFolder('image'), inFolder('volume'), '--json'],
      target: inFolder('volume'),
    },
    {
      name: 'volseal decrypt',
      command: [process.execPath, VOLSEAL, 'decrypt', inFolder('kept'), inFolder('back'), '--json'],
      target: inFolder('back'),
    },
    {
      name: 'qemu-img convert to LUKS (peer)',
      // -t none: O_DIRECT, as the others; -n: the target is made beforehand, so that its slow key derivation does not count twice.
      command: [
        ...['qemu-img', 'convert', '-n', '-t', 'none', '-T', 'none', '-f', 'raw', '--object', QEMU_SECRET, inFolder('image')],
        ...['--target-image-opts', `driver=luks,key-secret=key,file.filename=${inFolder('qemu')}`],
      ],
      target: inFolder('qemu'),
      prepare: () => makeQemuTarget(inFolder('qemu'), sizeMib),
    },
  ];
}

function makeQemuTarget(path: string, sizeMib: number): void {
  const options = ['--object', QEMU_SECRET, '-o', 'key-secret=key,iter-time=10'];
  // It measures the processor to choose its iterations, and gives up on a noisy one.
  for (let attempt = 0; attempt < 5; attempt++) {
    const { status } = spawnSync('qemu-img', ['create', '-q', '-f', 'luks', ...options, path, `${sizeMib}M`]);
    if (status === 0) return;
  }
  throw new Error('qemu-img create failed five times');
}

/** @returns seconds */
function run({ name, command: [program, ...args], prepare = () => {} }: Contender, home: string): number {
  prepare();
  const started = performance.now();
  const { status, stderr, error } = spawnSync(program!, args, { env: { ...process.env, VOLSEAL_HOME: home }, encoding: 'utf8' });
  if (error !== undefined || status !== 0) throw new Error(`${name}: ${error?.message ?? stderr}`);
  return (performance.now() - started) / 1000;
}

function* randomChunks(sizeMib: number): Generator<Buffer> {
  for (let i = 0; i < sizeMib; i++) yield randomBytes(1024 * 1024);
}

const median = (numbers: number[]): number => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]!;

async function measureImages(folder: string, sizeMib: number, rounds: number) {
  const image = join(folder, 'image');
  const home = join(folder, 'home');
  const contenders = contendersIn(folder, sizeMib);
  await pipeline(Readable.from(randomChunks(sizeMib)), createWriteStream(image, { flush: true }));
  const first = [process.execPath, VOLSEAL, 'encrypt', image, join(folder, 'kept'), '--json'];
  run({ name: 'first volume', command: first, target: '' }, home);
  const seconds = new Map<string, number[]>(contenders.map(({ name }) => [name, []]));
  for (let round = 0; round <= rounds; round++) {
    for (const contender of contenders) {
      const took = run(contender, home);
      rmSync(contender.target);
      // Round 0 warms up.
      if (round > 0) seconds.get(contender.name)!.push(took);
    }
  }
  const sizeBytes = statSync(image).size;
  const limit = median(seconds.get(contenders[0]!.name)!);
  const results = contenders.map(({ name }) => {
    const all = seconds.get(name)!;
    return {
      name,
      seconds: { median: median(all), min: Math.min(...all), max: Math.max(...all) },
      megabytesPerSecond: Math.round(sizeBytes / 1e6 / median(all)),
      ratioToLimit: Number((limit / median(all)).toFixed(2)),
    };
  });
  const machine = { cpu: cpus()[0]?.model, cores: cpus().length, kernel: release(), node: process.version };
  return { benchmark: 'image', machine, sizeBytes, rounds, results };
}
