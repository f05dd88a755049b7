/** The benchmark of the cipher: every kernel this machine can run beside its limits and peers, in turns, in one run. */
import { type KernelInfo, native } from '../native.js';
import {
  absentField,
  callField,
  type Field,
  judgeBytes,
  kernelField,
  type Layout,
  limitField,
  makeBuffers,
  memcpyField,
  nodeBufferField,
  nodeCryptoField,
  streamCopyField,
  type Workbench,
} from './contenders.js';
import { describeMachine } from './machine.js';
import { type KernelReport, type Measurement, matching, type Subject } from './measurement.js';
import { publicKeyInVault } from './public-key.js';
import { median, type Sampled, type SamplingOptions, spread, takeTurns } from './sampling.js';

const KIB = 1024;
const MIB = 1024 * KIB;

/**
 * Two of the large buffers must leave a machine room for everything else. Of free memory, control groups' limits
 * counted.
 */
const SMALL_MEMORY_BYTES = 2 * 1024 * MIB;
/**
 * Larger than any core's share of a cache; where memory is short, still past the size from which kernels store past the
 * caches.
 */
const LARGE_BYTES = 256 * MIB;
const LARGE_BYTES_WHERE_MEMORY_IS_SHORT = 64 * MIB;

/** How much is measured. */
export interface Plan {
  /**
   * Every layout of every kernel, or only what a user wants to know: 1 MiB in place, and the kernel in use on large
   * buffers.
   */
  breadth: 'all' | 'main';
  rounds: number;
  /** No further round begins after this. */
  budgetMs: number;
  /** Length of a turn, at least. */
  turnMs: number;
  largeBytes: number;
}

/** Past the caches, and twice of it is free. */
export function largeBytesHere(): number {
  return process.availableMemory() < SMALL_MEMORY_BYTES ? LARGE_BYTES_WHERE_MEMORY_IS_SHORT : LARGE_BYTES;
}

/** For a user: all told well under 20 s, unless the machine gives this process a fraction of a core. */
export const quickPlan = (): Plan => ({ breadth: 'main', rounds: 7, budgetMs: 8_000, turnMs: 5, largeBytes: largeBytesHere() });

export interface KernelOptions extends Omit<SamplingOptions, 'rounds' | 'budgetMs'> {
  /** Contenders of the caller's own, who have their turns among the others. */
  peers?: ((bench: Workbench) => Field) | undefined;
}

/**
 * Measures what `plan` says. While it does, the kernel in force changes in the whole process; afterwards it is what it
 * was.
 *
 * @throws {VolsealError} `ERR_ABORTED`, `ERR_SELF_TEST` (a contender gave wrong bytes), `ERR_MEMORY_LOCK`
 */
export async function measureKernels(plan: Plan, { peers = () => ({ contenders: [], absent: [] }), ...options }: KernelOptions = {}) {
  const machine = describeMachine();
  const date = new Date().toISOString();
  const kernels = native.xtsKernels();
  const key = publicKeyInVault();
  try {
    for (const { name } of kernels.filter(({ usable }) => usable)) {
      judgeBytes(`the kernel ${name}`, (encrypt, source, target, sectorBytes) =>
        native.xtsTransform(key, encrypt, sectorBytes, 0, source, target, name),
      );
    }
    const bench = { key, buffers: makeBuffers(), turnMs: plan.turnMs };
    const own = plan.breadth === 'all' ? wholeField(bench, kernels, plan.largeBytes) : mainField(bench, kernels, plan.largeBytes);
    const others = peers(bench);
    const sampled = await takeTurns([...own.contenders, ...others.contenders], { ...options, ...plan });
    return {
      benchmark: 'kernels',
      date,
      machine,
      node: process.version,
      openssl: process.versions.openssl,
      kernels,
      rounds: sampled[0]!.turns.length,
      largeBytes: plan.largeBytes,
      measurements: againstLimits(sampled, kernels, plan.largeBytes),
      absent: [...own.absent, ...others.absent],
    } satisfies KernelReport;
  } finally {
    native.xtsUseKernel(forcedAmong(kernels));
    native.keyWipe(key);
  }
}

/** What brings the choice of the kernel back to what it was: the name of the one that was forced, or "". */
function forcedAmong(kernels: readonly KernelInfo[]): string {
  const fastest = kernels.find(({ usable }) => usable);
  const inUse = kernels.find((kernel) => kernel.inUse);
  return inUse === undefined || inUse === fastest ? '' : inUse.name;
}

function wholeField(bench: Workbench, kernels: readonly KernelInfo[], largeBytes: number): Field {
  const cached = [64 * KIB, MIB];
  const usable = kernels.filter((kernel) => kernel.usable);
  const slow = usable.filter(isSlow);
  return {
    contenders: [
      ...usable.flatMap((kernel) => limitField(bench, kernel)),
      ...usable.flatMap((kernel) => kernelField(bench, kernel, bothPlaces(isSlow(kernel) ? cached : [...cached, largeBytes]))),
      ...usable.filter(({ inUse }) => inUse).flatMap((kernel) => [...nodeBufferField(bench, kernel), ...callField(bench, kernel)]),
      ...nodeCryptoField(bench, cached),
      ...[...cached, largeBytes].flatMap((bufferBytes) => [
        ...memcpyField(bench, bufferBytes),
        ...usable.flatMap((kernel) => streamCopyField(bench, kernel, bufferBytes)),
      ]),
    ],
    absent: [
      ...kernels.filter((kernel) => !kernel.usable).map(impossible),
      ...slow.flatMap(({ name }) => absentField({ name: 'xts', kernel: name }, bothPlaces([largeBytes]), TOO_SLOW)),
      ...absentField({ name: 'node:crypto' }, [{ bufferBytes: largeBytes, inPlace: false }], TOO_SLOW),
      ...absentField({ name: 'node:crypto' }, [{ bufferBytes: MIB, inPlace: true }], 'node:crypto has no output in place'),
    ],
  };
}

function mainField(bench: Workbench, kernels: readonly KernelInfo[], largeBytes: number): Field {
  const usable = kernels.filter((kernel) => kernel.usable);
  const inUse = usable.filter((kernel) => kernel.inUse);
  const large = [{ bufferBytes: largeBytes, inPlace: false }];
  return {
    contenders: [
      ...usable.flatMap((kernel) => limitField(bench, kernel)),
      ...usable.flatMap((kernel) => kernelField(bench, kernel, [{ bufferBytes: MIB, inPlace: true }])),
      ...inUse.flatMap((kernel) => [...nodeBufferField(bench, kernel), ...callField(bench, kernel)]),
      ...nodeCryptoField(bench, [MIB]),
      ...memcpyField(bench, largeBytes),
      ...inUse.flatMap((kernel) => streamCopyField(bench, kernel, largeBytes)),
      ...inUse.filter((kernel) => !isSlow(kernel)).flatMap((kernel) => kernelField(bench, kernel, large)),
    ],
    absent: [
      ...kernels.filter((kernel) => !kernel.usable).map(impossible),
      ...inUse.filter(isSlow).flatMap(({ name }) => absentField({ name: 'xts', kernel: name }, large, TOO_SLOW)),
    ],
  };
}

const TOO_SLOW = 'a pass over a buffer this large takes seconds; memory does not slow it, so 1 MiB tells the same';

/** Slower than any memory, so that large buffers say nothing new and last too long. */
const isSlow = ({ name }: KernelInfo): boolean => name === 'portable';

const bothPlaces = (sizes: readonly number[]): Layout[] =>
  sizes.flatMap((bufferBytes) => [true, false].map((inPlace) => ({ bufferBytes, inPlace })));

const impossible = ({ name: kernel, reason }: KernelInfo) => ({
  ...{ name: 'xts', kernel, direction: null, sectorBytes: null, bufferBytes: null, inPlace: null },
  reason,
});

/** The rounds of each contender as one measurement, beside the limit that the same run measured. */
function againstLimits(sampled: readonly Sampled[], kernels: readonly KernelInfo[], largeBytes: number): Measurement[] {
  const plain = sampled.map(
    ({ subject, turns }): Measurement => ({ ...subject, gbps: median(turns), spread: spread(turns), limitGbps: null, ratio: null }),
  );
  const widest = kernels.filter(({ usable }) => usable).reduce((best, kernel) => (kernel.vectorBits > best.vectorBits ? kernel : best));
  return plain.map((measurement) => {
    const limitGbps = limitOf(measurement, plain, widest, largeBytes);
    return {
      ...measurement,
      limitGbps,
      ratio: limitGbps === null ? null : measurement.gbps / limitGbps,
      ...(measurement.name === 'call' ? { nsPerCall: measurement.bufferBytes! / measurement.gbps } : {}),
    };
  });
}

/**
 * What a measurement is held against: the AES rounds alone in the vectors of its kernel, or of the widest kernel where
 * it is a peer. Large buffers out of place come and go through memory, so there a copy past the caches of the same
 * bytes is a limit too, and the lower of the two counts.
 */
function limitOf(subject: Subject, all: readonly Measurement[], widest: KernelInfo, largeBytes: number): number | null {
  if (['limit', 'memcpy', 'streamCopy'].includes(subject.name)) return null;
  const kernel = subject.kernel ?? widest.name;
  const rounds = matching(all, { name: 'limit', kernel });
  if (rounds.length === 0) return null;
  const throughMemory = subject.bufferBytes === largeBytes && subject.inPlace === false;
  const copies = throughMemory ? matching(all, { name: 'streamCopy', kernel, bufferBytes: largeBytes }) : [];
  return Math.min(...[...rounds, ...copies].map(({ gbps }) => gbps));
}
