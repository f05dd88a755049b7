// node hostile-calls.js SEED COUNT: calls functions of the addon with arguments of every kind, valid ones among them.
// Prints how many calls there were, how many were refused, and every error that has no code of ours.
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { native } from '../../src/native.js';
import { type Draw, drawOf } from './cases.js';

/**
 * forbidDumps would hide a crash from a debugger and takes no argument; exitNow and endWithParent do what they are
 * asked to.
 */
const LEFT_OUT = new Set(['forbidDumps', 'exitNow', 'endWithParent']);
/** Calls whose work grows with a number: they get it from this list alone. */
const WORK_MAX = 5000;

const [seed, count] = process.argv.slice(2).map(Number) as [number, number];
const directory = mkdtempSync(join(tmpdir(), 'volseal-fuzz-'));
writeFileSync(join(directory, 'file'), Buffer.alloc(1024 * 1024, 7));
const fd = openSync(join(directory, 'file'), 'r+');
const readOnly = openSync(join(directory, 'file'), 'r');
const functions = Object.entries(native).filter(([name, value]) => typeof value === 'function' && !LEFT_OUT.has(name)) as [
  string,
  (...args: unknown[]) => unknown,
][];

const keys: number[] = [];
const devices: number[] = [];
const transforms: number[] = [];
const pipeEnds: number[] = [];

const number = (draw: Draw): unknown =>
  draw.oneOf<unknown>([
    0,
    1,
    2,
    7,
    16,
    32,
    64,
    512,
    4096,
    WORK_MAX,
    -1,
    0.5,
    -0,
    Number.NaN,
    2 ** 31,
    2 ** 32,
    2 ** 53,
    Infinity,
    draw.below(WORK_MAX),
  ]);

/** ES2024, which the compiler does not know yet. */
const ResizableBuffer = ArrayBuffer as new (length: number, options: { maxByteLength: number }) => ArrayBuffer;

const array = (draw: Draw): unknown => {
  const length = draw.oneOf([0, 1, 16, 65, 512, 1024, 4096]);
  return draw.oneOf<() => unknown>([
    () => draw.bytes(length),
    () => new Uint8Array(length),
    () => new Uint8Array(new SharedArrayBuffer(length)),
    () => new Uint8Array(new ResizableBuffer(length, { maxByteLength: 8192 })),
    () => new DataView(new ArrayBuffer(length)),
    () => new Float64Array(length >> 3),
    () => draw.bytes(length + 1).subarray(1),
    () => {
      const gone = new Uint8Array(length);
      structuredClone(gone, { transfer: [gone.buffer] });
      return gone;
    },
  ])();
};

function options(draw: Draw): unknown {
  const made = {
    fd: draw.oneOf<unknown>([fd, readOnly, -1, 1e6, number(draw)]),
    key: draw.oneOf<unknown>([...keys, number(draw)]),
    mode: draw.oneOf<unknown>(['encrypt', 'decrypt', 'compare', 'x', 1]),
    dataOffsetBytes: draw.oneOf<unknown>([0, 4096, number(draw)]),
    sizeBytes: draw.oneOf<unknown>([4096, 65536, number(draw)]),
    sectorBytes: draw.oneOf<unknown>([512, 4096, number(draw)]),
    writable: draw.oneOf<unknown>([true, false, 1]),
    sparse: draw.oneOf<unknown>([true, false, 0]),
    source: side(draw),
    target: side(draw),
    regions: draw.oneOf<unknown>([undefined, [], [region(draw)], [region(draw), region(draw)], number(draw)]),
    startByte: draw.oneOf<unknown>([0, 1024 * 1024, number(draw)]),
    digest: draw.oneOf<unknown>([true, false, undefined]),
  };
  const throwing = (): never => {
    throw new RangeError('from a getter');
  };
  return draw.below(50) === 0 ? Object.defineProperty(made, 'key', { get: throwing }) : made;
}

const region = (draw: Draw): unknown => ({
  fd: draw.oneOf<unknown>([fd, readOnly, -1, number(draw)]),
  key: draw.oneOf<unknown>([...keys, undefined, number(draw)]),
  offsetBytes: draw.oneOf<unknown>([0, 4096, number(draw)]),
  sizeBytes: draw.oneOf<unknown>([4096, 65536, number(draw)]),
});

const side = (draw: Draw): unknown =>
  draw.oneOf<unknown>([
    {
      kind: 'file',
      fd: draw.oneOf([fd, readOnly]),
      offsetBytes: draw.oneOf([0, 65536]),
      sizeBytes: draw.oneOf([4096, 65536]),
      sparse: draw.oneOf([true, false]),
    },
    { kind: 'zeros', sizeBytes: draw.oneOf<unknown>([4096, 65536, number(draw)]) },
    { kind: 'stream', fd: readOnly, sizeBytes: 4096 },
    { kind: draw.oneOf<unknown>(['file', 'x', 1]), fd: number(draw) },
    undefined,
    7,
  ]);

const anything = (draw: Draw): unknown =>
  draw.oneOf<() => unknown>([
    () => number(draw),
    () => draw.oneOf<unknown>([...keys, ...devices, ...transforms, 0]),
    () => array(draw),
    () => [array(draw), array(draw)],
    () => options(draw),
    () => draw.oneOf(['', 'Plaintext', 'aesni', 'portable', 'vaes512', 'x'.repeat(5000), '\0', '\ud800']),
    () => draw.oneOf<unknown>([fd, readOnly, -1, true, false, null, undefined, 1n, Symbol('s'), () => 1, {}, []]),
  ])();

/** Arguments that a function could take: handles for handles, arrays for arrays. Often right, so that calls get far. */
function likely(name: string, draw: Draw): unknown[] {
  const handles = name.startsWith('device') ? devices : name.startsWith('transform') ? transforms : keys;
  if (name === 'deviceOpen' || name === 'transformOpen') return [options(draw)];
  if (name === 'closePipeEnd') return [draw.oneOf<unknown>([...pipeEnds, number(draw)])];
  if (name === 'keyGenerate') return [draw.oneOf([32, 64, number(draw)])];
  if (name.startsWith('file') || name === 'keyReadFile') return [draw.oneOf([fd, readOnly]), draw.oneOf<unknown>([true, 64, number(draw)])];
  if (/^(recoveryKey|passphrase)Read$/.test(name)) return [draw.oneOf([fd, readOnly])];
  if (name === 'keyWriteFile') return [draw.oneOf([fd, readOnly]), draw.oneOf(keys)];
  if (name === 'keySeal') return [draw.oneOf(keys), draw.oneOf(keys), array(draw)];
  if (name === 'keyOpen') return [draw.oneOf(keys), array(draw), array(draw)];
  if (name === 'xtsTransform')
    return [draw.oneOf(keys), draw.below(2) === 0, 512, draw.below(99), array(draw), ...draw.oneOf<unknown[]>([[], [array(draw)]])];
  if (name === 'transformRun') return [draw.oneOf(transforms), 1 + draw.below(3), draw.below(20)];
  if (/^device(ReadInto|Write)$/.test(name)) return [draw.oneOf(devices), draw.below(WORK_MAX), array(draw)];
  if (name === 'deviceWritev') return [draw.oneOf(devices), draw.below(WORK_MAX), [array(draw), array(draw)]];
  if (/^device(Read|Zero|Trim|Fill|Extents)$/.test(name))
    return [draw.oneOf(devices), draw.below(WORK_MAX), draw.below(WORK_MAX), 1 + draw.below(9)];
  return [draw.oneOf<unknown>([...handles, number(draw)]), array(draw), number(draw)];
}

/**
 * Calls that read a descriptor to its end, write to it or change its mode. Low numbers may name a pipe of Node's, which
 * never ends, or a device of this machine.
 */
const STREAMS = /^(recoveryKey(Read|Write)|passphraseRead|volumeKeyHandOver|fileCopyAttributes)$/;
const DESCRIPTORS_MAX = 1000;

/** More work than a case may take, or a wait that nothing ends. */
function tooMuch(name: string, args: unknown[]): boolean {
  const large = (value: unknown): boolean => typeof value === 'number' && value > WORK_MAX;
  const foreign = (value: unknown): boolean =>
    typeof value === 'number' && value > -1 && value < DESCRIPTORS_MAX && value !== fd && value !== readOnly;
  if (STREAMS.test(name) && args.some(foreign)) return true;
  return /^(keyPbkdf2|keyslot(Seal|Open)|xtsRoundsOnly|transformRun)$/.test(name) && args.slice(1).some(large);
}

const result = { calls: 0, refused: 0, unexpected: [] as string[] };
for (let index = 0; index < count; index++) {
  const draw = drawOf(seed + index);
  if (keys.length < 4) keys.push(native.keyGenerate(draw.oneOf([32, 64])));
  const [name, call] = draw.oneOf(functions);
  const args = draw.below(3) === 0 ? Array.from({ length: draw.below(8) }, () => anything(draw)) : likely(name, draw);
  if (tooMuch(name, args)) continue;
  result.calls += 1;
  try {
    const value = await call(...args);
    if (name === 'deviceOpen') devices.push(value as number);
    else if (name === 'transformOpen') transforms.push(value as number);
    else if (name === 'openPipe') pipeEnds.push(...Object.values(value as { readFd: number; writeFd: number }));
    else if (/^key(Generate|Import|ReadFile|Derive|Open)/.test(name)) {
      const key = name === 'keyImportJson' ? (value as { key: number | undefined }).key : (value as number | undefined);
      if (key !== undefined) keys.push(key);
    }
  } catch (error) {
    result.refused += 1;
    const { code, message } = error as { code?: unknown; message: string };
    if (!/^ERR_[A-Z_]+$/.test(String(code)) && message !== 'from a getter')
      result.unexpected.push(`seed ${draw.seed}: ${name}: ${message}`);
  }
  if (keys.length > 40) for (const key of keys.splice(0, 30)) native.keyWipe(key as never);
  if (devices.length > 20) for (const device of devices.splice(0, 15)) native.deviceClose(device as never);
  if (transforms.length > 10) for (const transform of transforms.splice(0, 8)) native.transformClose(transform as never);
}
result.unexpected.splice(20);
closeSync(fd);
rmSync(directory, { recursive: true });
console.log(JSON.stringify(result));
