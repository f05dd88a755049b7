/** The shape of a kernel report, and what must hold in it whatever the machine. */
import assert from 'node:assert/strict';
import * as z from 'zod';

const subject = {
  name: z.string().min(1),
  kernel: z.enum(['vaes512', 'vaes256', 'aesni', 'armv8', 'portable']).nullable(),
  direction: z.enum(['encrypt', 'decrypt']).nullable(),
  sectorBytes: z.number().int().positive().nullable(),
  bufferBytes: z.number().int().positive().nullable(),
  inPlace: z.boolean().nullable(),
};

const measurementShape = z.strictObject({
  ...subject,
  gbps: z.number().positive(),
  spread: z.number().min(0),
  limitGbps: z.number().positive().nullable(),
  ratio: z.number().positive().nullable(),
  nsPerCall: z.number().positive().optional(),
});

const kernelShape = z.strictObject({
  name: z.string(),
  vectorBits: z.number(),
  usable: z.boolean(),
  inUse: z.boolean(),
  reason: z.string().min(1),
});

export const machineShape = z.strictObject({
  cpu: z.string().min(1),
  cores: z.number().int().positive(),
  memoryBytes: z.number().int().positive(),
  arch: z.string(),
  osRelease: z.string(),
  loadAverage: z.number().min(0),
});

export const reportShape = z.strictObject({
  benchmark: z.literal('kernels'),
  date: z.iso.datetime(),
  machine: machineShape,
  node: z.literal(process.version),
  openssl: z.literal(process.versions.openssl),
  kernels: z.array(kernelShape).min(1),
  rounds: z.number().int().positive(),
  largeBytes: z.number().int().positive(),
  measurements: z.array(measurementShape).min(1),
  absent: z.array(z.strictObject({ ...subject, reason: z.string().min(1) })),
});

export type Report = z.infer<typeof reportShape>;

/** How many measurements have these members. */
export const countOf = ({ measurements }: Report, wanted: Partial<Report['measurements'][number]>): number =>
  measurements.filter((measurement) => Object.entries(wanted).every(([member, value]) => measurement[member as 'name'] === value)).length;

/** Nothing is measured twice; ratios are against limits that the same report holds. */
export function assertConsistent(report: Report): void {
  const { measurements, kernels, absent, largeBytes } = report;
  const subjects = measurements.map(({ name, kernel, direction, sectorBytes, bufferBytes, inPlace }) =>
    JSON.stringify({ name, kernel, direction, sectorBytes, bufferBytes, inPlace }),
  );
  assert.equal(new Set(subjects).size, subjects.length);
  const usable = kernels.filter((kernel) => kernel.usable);
  assert.equal(usable.filter(({ inUse }) => inUse).length, 1);
  assert.ok(kernels.every((kernel) => kernel.usable || absent.some(({ kernel: name }) => name === kernel.name)));
  for (const measurement of measurements) {
    const { name, kernel, gbps, limitGbps, ratio, nsPerCall } = measurement;
    assert.equal(ratio, limitGbps === null ? null : gbps / limitGbps);
    assert.equal(nsPerCall, name === 'call' ? measurement.bufferBytes! / gbps : undefined);
    const isLimited =
      !['limit', 'memcpy', 'streamCopy'].includes(name) && kernel !== 'portable' && usable.some(({ name }) => name !== 'portable');
    assert.equal(limitGbps !== null, isLimited, JSON.stringify(measurement));
    if (limitGbps === null) continue;
    const ofMemory = measurement.bufferBytes === largeBytes && measurement.inPlace === false;
    const limits = measurements.filter((other) => other.name === 'limit' || (ofMemory && other.name === 'streamCopy'));
    assert.ok(
      limits.some((limit) => limit.gbps === limitGbps && (kernel === null || limit.kernel === kernel)),
      JSON.stringify(measurement),
    );
  }
}
