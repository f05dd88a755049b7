/**
 * Who moves images: volseal, programs that copy without a cipher, programs that encrypt, and what the disk gives at
 * all.
 */
import { copyFileSync, existsSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { qemuFormat, qemuWords } from './image-luks.js';
import { keptPath, keptVolume, type Place, settle, VOLSEAL } from './image-place.js';
import { CACHED_DD, COPY, DIRECT_DD, FIO_WRITE, type ImageSubject, PARALLEL_DD, QEMU, type Scene } from './image-report.js';
import { type Spent, timed } from './timed-process.js';

const MIB = 1024 * 1024;
const STREAM_CIPHER = fileURLToPath(new URL('./stream-cipher.js', import.meta.url));
/** More say nothing new about contenders that take most of a run. */
const SLOW_ROUNDS = 3;

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

type Rest = Omit<ImageContender, 'subject' | 'command' | 'prepare'> & {
  sectorBytes?: number;
  /** Whose state in the cache the scene says; the image where nothing is said. */
  source?: string;
  /** Before the source's state is set. */
  prepare?: () => Promise<void>;
};

/** Contenders of one place and scene. */
function scened(place: Place, scene: Scene) {
  return (name: string, command: readonly string[], rest: Rest = {}): ImageContender => {
    const { sectorBytes = null, source = place.image, prepare = async () => {}, ...others } = rest;
    return {
      ...others,
      subject: { scene, name, sectorBytes, imageBytes: place.imageBytes },
      command,
      async prepare() {
        await prepare();
        settle(place, source, scene === 'cold' ? 'cold' : 'warm');
      },
    };
  };
}

const volsealSeconds = ({ stdout }: Spent): number => (JSON.parse(stdout) as { dataSeconds: number }).dataSeconds;

const volseal = (...words: string[]): string[] => [process.execPath, VOLSEAL, ...words, '--json'];

/** A script with "$1", "$2" and so on. */
const script = (text: string, ...words: string[]): string[] => ['bash', '-ec', text, 'bash', ...words];

interface VolsealWish {
  sectorSizes: readonly number[];
  isSparse?: boolean;
}

/** Encryption and decryption, in the scene `cached` onto targets that exist. */
function volsealOf(place: Place, scene: Scene, { sectorSizes, isSparse = false }: VolsealWish): ImageContender[] {
  const { directory, image } = place;
  const make = scened(place, scene);
  const isCached = scene === 'cached';
  const shown = [...(isSparse ? ['--sparse'] : []), ...(isCached ? ['--no-fsync'] : [])];
  const words = [...shown, ...(isCached ? ['--force'] : [])];
  const nameOf = (command: string): string => ['volseal', command, ...shown].join(' ');
  const [newVolume, newImage] = isCached
    ? [join(directory, 'old-volume'), oldImage(place)]
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
        await keptVolume(place, kept);
        stands(newImage);
      },
    });
  });
  return [...encryptions, ...decryptions];
}

/** A target that exists, for each who writes images. */
const oldImage = ({ directory }: Place): string => join(directory, 'old-image');

/** Whole images in memory, and others on the disk: durable into new files, then cached into existing ones. */
export function wholeImages(place: Place, sectorSizes: readonly number[]): ImageContender[] {
  return [...warmSource(place, sectorSizes), ...coldSource(place, sectorSizes), ...existingTarget(place, sectorSizes)];
}

function warmSource(place: Place, sectorSizes: readonly number[]): ImageContender[] {
  const { directory, image, imageBytes } = place;
  const target = join(directory, 'copy');
  const warm = scened(place, 'warm');
  return [
    warm(FIO_WRITE, fio('write', target, imageBytes), { target, ...fioClock('write') }),
    warm('fio, reading', fio('read', image, imageBytes), fioClock('read')),
    ...volsealOf(place, 'warm', { sectorSizes }),
    ...volsealOf(place, 'warm', { sectorSizes: [512], isSparse: true }),
    warm('dd, direct writes', ['dd', `if=${image}`, `of=${target}`, 'bs=4M', 'oflag=direct', 'conv=fsync', 'status=none'], { target }),
    warm(COPY, script('cp --reflink=never "$1" "$2"; sync "$2"', image, target), { target, mostRounds: SLOW_ROUNDS }),
    ...luksPrograms(place),
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
function luksPrograms(place: Place): ImageContender[] {
  const { directory, image, imageBytes } = place;
  const warm = scened(place, 'warm');
  const [target, passphrase] = [join(directory, 'luks'), join(directory, 'passphrase')];
  const common = { sectorBytes: 512, target, mostRounds: SLOW_ROUNDS };
  const formatted = { ...common, prepare: () => qemuFormat(target, imageBytes, place.surroundings) };
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

function coldSource(place: Place, sectorSizes: readonly number[]): ImageContender[] {
  const { directory, image, imageBytes } = place;
  const target = join(directory, 'copy');
  const cold = scened(place, 'cold');
  return [
    ...volsealOf(place, 'cold', { sectorSizes }),
    cold(DIRECT_DD, ['dd', `if=${image}`, `of=${target}`, 'bs=4M', ...DIRECT], { target }),
    cold(PARALLEL_DD, parallelDd(image, target, imageBytes), { target }),
    cold(COPY, script('cp --reflink=never "$1" "$2"; sync "$2"', image, target), { target, mostRounds: SLOW_ROUNDS }),
  ];
}

const DIRECT = ['iflag=direct', 'oflag=direct', 'conv=fsync', 'status=none'];

/** Eight processes, each with an eighth. */
function parallelDd(image: string, target: string, imageBytes: number): string[] {
  const eighthBytes = imageBytes / 8;
  const blockBytes = Math.min(4 * MIB, eighthBytes);
  const blocks = eighthBytes / blockBytes;
  const words = `bs=${blockBytes} count=${blocks} iflag=direct oflag=direct conv=fsync,notrunc status=none`;
  const text = `for i in {0..7}; do dd if="$1" of="$2" skip=$((i * ${blocks})) seek=$((i * ${blocks})) ${words} & all+=($!); done
    for one in "\${all[@]}"; do wait "$one"; done`;
  return script(text, image, target);
}

function existingTarget(place: Place, sectorSizes: readonly number[]): ImageContender[] {
  const target = oldImage(place);
  const words = [`if=${place.image}`, `of=${target}`, 'bs=4M', 'conv=notrunc', 'status=none'];
  return [
    scened(place, 'cached')(CACHED_DD, ['dd', ...words], { target, keepsTarget: true }),
    ...volsealOf(place, 'cached', { sectorSizes }),
  ];
}

/** An image that is nearly all holes. */
export function sparseImage(place: Place): ImageContender[] {
  const target = join(place.directory, 'copy');
  const copy = script('cp --sparse=always --reflink=never "$1" "$2"; sync "$2"', place.image, target);
  return [
    ...volsealOf(place, 'sparse', { sectorSizes: [512], isSparse: true }),
    scened(place, 'sparse')('cp --sparse=always, sync', copy, { target }),
  ];
}

/** What a command costs before it has moved anything. @param place of an image of 1 MiB */
export function startUp(place: Place): ImageContender[] {
  const start = scened(place, 'start');
  const kept = { sectorBytes: 512, isSparse: false };
  const volume = keptPath(place.directory, kept);
  return [
    start('node, an empty script', [process.execPath, '--eval', '0']),
    start('volseal info', volseal('info', volume), { source: volume, prepare: () => keptVolume(place, kept) }),
    ...volsealOf(place, 'start', { sectorSizes: [512] }),
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
export async function takeTurn({ prepare, command, secondsOf, dataSecondsOf }: ImageContender, { surroundings }: Place): Promise<Turn> {
  await prepare();
  const spent = await timed(command, surroundings);
  const turn = { ...spent, seconds: secondsOf?.(spent) ?? spent.seconds };
  return dataSecondsOf === undefined ? turn : { ...turn, dataSeconds: dataSecondsOf(spent) };
}
