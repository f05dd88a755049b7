/**
 * Who moves images: volseal, programs that copy without a cipher, programs that encrypt, and what the disk gives at
 * all.
 */
import { copyFileSync, existsSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type ImageFiles, keptPath, keptVolume, settle, VOLSEAL } from './image-files.js';
import { qemuFormat, qemuWords } from './image-luks.js';
import { CACHED_DD, COPY, DIRECT_DD, FIO_WRITE, type ImageSubject, PARALLEL_DD, QEMU, type Scene } from './image-report.js';
import { type Spent, timed } from './timed-process.js';

const MIB = 1024 * 1024;
const STREAM_CIPHER = fileURLToPath(new URL('./stream-cipher.js', import.meta.url));
/** More say nothing new about contenders that take most of a run. */
export const SLOW_ROUNDS = 3;

export interface ImageContender {
  subject: ImageSubject;
  command: readonly string[];
  /** Before each turn, untimed. */
  prepare: () => Promise<void>;
  /** What a turn makes; removed after it unless `keepsTarget`. */
  target?: string;
  keepsTarget?: boolean;
  /** Where the process's own are not what counts. */
  secondsOf?: (spent: Spent) => number;
  /** Where the program says itself how long it moved data. */
  dataSecondsOf?: (spent: Spent) => number;
  mostRounds?: number;
}

/** What a contender has besides its name and command. */
export type Rest = Omit<ImageContender, 'subject' | 'command' | 'prepare'> & {
  sectorBytes?: number;
  /** Whose state in the cache the scene says; the image where nothing is said. */
  source?: string;
  /** Before the source's state is set. */
  prepare?: () => Promise<void>;
};

/** Makes contenders that work on these files in one scene. */
export function inScene(files: ImageFiles, scene: Scene) {
  return (name: string, command: readonly string[], rest: Rest = {}): ImageContender => {
    const { sectorBytes = null, source = files.image, prepare = async () => {}, ...others } = rest;
    return {
      ...others,
      subject: { scene, name, sectorBytes, imageBytes: files.imageBytes },
      command,
      async prepare() {
        await prepare();
        settle(files, source, scene === 'cold' || scene === 'inPlace' ? 'cold' : 'warm');
      },
    };
  };
}

/** How long volseal has moved data, as its result says. */
export const volsealSeconds = ({ stdout }: Spent): number => (JSON.parse(stdout) as { dataSeconds: number }).dataSeconds;

/** A command line of the program. */
export const volseal = (...words: string[]): string[] => [process.execPath, VOLSEAL, ...words, '--json'];

/** A script with "$1", "$2" and so on. */
const script = (text: string, ...words: string[]): string[] => ['bash', '-ec', text, 'bash', ...words];

interface VolsealOptions {
  sectorSizes: readonly number[];
  isSparse?: boolean;
}

/** Encryption and decryption, in the scene `cached` onto targets that exist. */
function volsealOf(files: ImageFiles, scene: Scene, { sectorSizes, isSparse = false }: VolsealOptions): ImageContender[] {
  const { directory, image } = files;
  const make = inScene(files, scene);
  const isCached = scene === 'cached';
  const shown = [...(isSparse ? ['--sparse'] : []), ...(isCached ? ['--no-fsync'] : [])];
  const words = [...shown, ...(isCached ? ['--force'] : [])];
  const nameOf = (command: string): string => ['volseal', command, ...shown].join(' ');
  const [newVolume, newImage] = isCached
    ? [join(directory, 'old-volume'), oldImage(files)]
    : [join(directory, 'new-volume'), join(directory, 'new-image')];
  const stands = (path: string): void => {
    if (isCached && !existsSync(path)) copyFileSync(image, path);
  };
  const encryptions = sectorSizes.map((sectorBytes) =>
    make(nameOf('encrypt'), volseal('encrypt', image, newVolume, '--sector-size', String(sectorBytes), ...words), {
      sectorBytes,
      dataSecondsOf: volsealSeconds,
      target: newVolume,
      keepsTarget: isCached,
      prepare: async () => stands(newVolume),
    }),
  );
  const decryptions = sectorSizes.map((sectorBytes) => {
    const kept = { sectorBytes, isSparse };
    const source = keptPath(directory, kept);
    return make(nameOf('decrypt'), volseal('decrypt', source, newImage, ...words), {
      sectorBytes,
      dataSecondsOf: volsealSeconds,
      target: newImage,
      keepsTarget: isCached,
      source,
      async prepare() {
        await keptVolume(files, kept);
        stands(newImage);
      },
    });
  });
  return [...encryptions, ...decryptions];
}

/** A target that exists, for each who writes images. */
const oldImage = ({ directory }: ImageFiles): string => join(directory, 'old-image');

/** Whole images in memory, and others on the disk: durable into new files, then cached into existing ones. */
export function wholeImages(files: ImageFiles, sectorSizes: readonly number[]): ImageContender[] {
  return [...warmSource(files, sectorSizes), ...coldSource(files, sectorSizes), ...existingTarget(files, sectorSizes)];
}

function warmSource(files: ImageFiles, sectorSizes: readonly number[]): ImageContender[] {
  const { directory, image, imageBytes } = files;
  const target = join(directory, 'copy');
  const warm = inScene(files, 'warm');
  return [
    warm(FIO_WRITE, fio('write', target, imageBytes), { target, ...fioClock('write') }),
    warm('fio, reading', fio('read', image, imageBytes), fioClock('read')),
    ...volsealOf(files, 'warm', { sectorSizes }),
    ...volsealOf(files, 'warm', { sectorSizes: [512], isSparse: true }),
    warm('dd, direct writes', ['dd', `if=${image}`, `of=${target}`, 'bs=4M', 'oflag=direct', 'conv=fsync', 'status=none'], { target }),
    warm(COPY, script('cp --reflink=never "$1" "$2"; sync "$2"', image, target), { target, mostRounds: SLOW_ROUNDS }),
    ...luksPrograms(files),
    ...sectorSizes.map((sectorBytes) =>
      warm('node:crypto, stream', [process.execPath, STREAM_CIPHER, image, target, String(sectorBytes)], {
        sectorBytes,
        target,
        mostRounds: SLOW_ROUNDS,
      }),
    ),
  ];
}

/** They make LUKS volumes in sectors of 512 bytes. */
function luksPrograms(files: ImageFiles): ImageContender[] {
  const { directory, image, imageBytes } = files;
  const warm = inScene(files, 'warm');
  const [target, passphrase] = [join(directory, 'luks'), join(directory, 'passphrase')];
  const common = { sectorBytes: 512, target, mostRounds: SLOW_ROUNDS };
  const formatted = { ...common, prepare: () => qemuFormat(target, imageBytes, files.surroundings) };
  return [
    warm(QEMU, script('target=$1; shift; qemu-img convert "$@"; sync "$target"', target, ...qemuWords(image, target)), formatted),
    warm('qemu-img convert, direct', ['qemu-img', 'convert', '-t', 'none', '-W', '-m', '16', ...qemuWords(image, target)], formatted),
    warm('cryptsetup reencrypt', cryptsetupWords(target, passphrase), {
      ...common,
      source: target,
      // In place: it needs a copy to work on, and space for its header after that.
      async prepare() {
        copyFileSync(image, target);
        truncateSync(target, imageBytes + 32 * MIB);
        writeFileSync(passphrase, 'benchmark');
      },
    }),
  ];
}

/** A derivation of next to no cost: what is measured is the moving of data. */
const cryptsetupWords = (target: string, passphrase: string): string[] => [
  ...['cryptsetup', 'reencrypt', '--encrypt', '--type', 'luks2', '--reduce-device-size', '32M', '--batch-mode'],
  ...['--key-file', passphrase, '--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000'],
  ...['--cipher', 'aes-xts-plain64', '--key-size', '512', '--sector-size', '512', target],
];

function coldSource(files: ImageFiles, sectorSizes: readonly number[]): ImageContender[] {
  const { directory, image, imageBytes } = files;
  const target = join(directory, 'copy');
  const cold = inScene(files, 'cold');
  return [
    ...volsealOf(files, 'cold', { sectorSizes }),
    cold(DIRECT_DD, ['dd', `if=${image}`, `of=${target}`, 'bs=4M', ...DIRECT], { target }),
    cold(PARALLEL_DD, parallelDd(image, target, imageBytes), { target }),
    cold(COPY, script('cp --reflink=never "$1" "$2"; sync "$2"', image, target), { target, mostRounds: SLOW_ROUNDS }),
  ];
}

const DIRECT = ['iflag=direct', 'oflag=direct', 'conv=fsync', 'status=none'];

/** Eight processes, each with an eighth. @param target may be the image itself: then it is read and written in place */
export function parallelDd(image: string, target: string, imageBytes: number): string[] {
  const eighthBytes = imageBytes / 8;
  const blockBytes = Math.min(4 * MIB, eighthBytes);
  const blocks = eighthBytes / blockBytes;
  const words = `bs=${blockBytes} count=${blocks} iflag=direct oflag=direct conv=fsync,notrunc status=none`;
  const text = `for i in {0..7}; do dd if="$1" of="$2" skip=$((i * ${blocks})) seek=$((i * ${blocks})) ${words} & all+=($!); done
    for one in "\${all[@]}"; do wait "$one"; done`;
  return script(text, image, target);
}

function existingTarget(files: ImageFiles, sectorSizes: readonly number[]): ImageContender[] {
  const target = oldImage(files);
  const words = [`if=${files.image}`, `of=${target}`, 'bs=4M', 'conv=notrunc', 'status=none'];
  return [
    inScene(files, 'cached')(CACHED_DD, ['dd', ...words], { target, keepsTarget: true }),
    ...volsealOf(files, 'cached', { sectorSizes }),
  ];
}

/** An image that is nearly all holes. */
export function sparseImage(files: ImageFiles): ImageContender[] {
  const target = join(files.directory, 'copy');
  const copy = script('cp --sparse=always --reflink=never "$1" "$2"; sync "$2"', files.image, target);
  return [
    ...volsealOf(files, 'sparse', { sectorSizes: [512], isSparse: true }),
    inScene(files, 'sparse')('cp --sparse=always, sync', copy, { target }),
  ];
}

/** What a command costs before it has moved anything. @param files of an image of 1 MiB */
export function startUp(files: ImageFiles): ImageContender[] {
  const start = inScene(files, 'start');
  const kept = { sectorBytes: 512, isSparse: false };
  const volume = keptPath(files.directory, kept);
  return [
    start('node, an empty script', [process.execPath, '--eval', '0']),
    start('volseal info', volseal('info', volume), { source: volume, prepare: () => keptVolume(files, kept) }),
    ...volsealOf(files, 'start', { sectorSizes: [512] }),
  ];
}

/** O_DIRECT in blocks of 4 MiB, four in flight, into a file whose blocks are reserved beforehand; ends with fsync. */
const fio = (direction: 'read' | 'write', path: string, bytes: number): string[] => [
  ...['fio', '--name=limit', `--filename=${path}`, `--rw=${direction}`, `--size=${bytes}`, '--bs=4M', '--direct=1', '--end_fsync=1'],
  ...['--ioengine=libaio', '--iodepth=4', '--output-format=json'],
];

interface FioResult {
  jobs: Record<'read' | 'write', { runtime: number; io_bytes: number }>[];
}

function fioClock(direction: 'read' | 'write') {
  const secondsOf = ({ stdout }: Spent): number => (JSON.parse(stdout) as FioResult).jobs[0]![direction].runtime / 1000;
  return { secondsOf, dataSecondsOf: secondsOf };
}

export interface Turn extends Spent {
  /** Where the program says itself how long it moved data. */
  dataSeconds?: number;
}

/** One turn. @throws {Error} in the words of the program that failed */
export async function takeTurn(
  { prepare, command, secondsOf, dataSecondsOf }: ImageContender,
  { surroundings }: ImageFiles,
): Promise<Turn> {
  await prepare();
  const spent = await timed(command, surroundings);
  const turn = { ...spent, seconds: secondsOf?.(spent) ?? spent.seconds };
  return dataSecondsOf === undefined ? turn : { ...turn, dataSeconds: dataSecondsOf(spent) };
}
