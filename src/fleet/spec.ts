/** What a job is: one line of JSON that any engine can carry. It holds names of things only, never a secret. */
import * as z from 'zod';
import { VolsealError } from '../errors.js';
import { RANGE_BYTES_MAX, RANGE_BYTES_MIN, RESUME_UNIT_BYTES, SECTOR_SIZES } from '../limits.js';
import { parseSize } from '../size-text.js';
import { isSnapshot } from '../stores/ebs/location.js';
import { parseStrictJson } from '../strict-json.js';

/** What every job has. */
export interface CommonSpec {
  /** The image or volume that the job reads; `rewrap` changes it. */
  source: string;
  /** Which KMS, as `--kms` has it. */
  kms?: string | undefined;
  /** The encryption context of a new volume, or pairs that an existing one must have. */
  context?: Record<string, string> | undefined;
}

/** Choices for a volume that exists. */
export interface OpenedChoices {
  /** Path of a detached header. */
  header?: string | undefined;
  /** The KMS key that must wrap its data key. */
  expectedKey?: string | undefined;
}

/** Choices for a volume that is made. */
export interface MadeChoices {
  /** 512, 1024, 2048 or 4096. */
  sectorBytes?: number | undefined;
  /** Whether zeros become holes. */
  allocation?: 'full' | 'sparse' | undefined;
  /** Replace a target that exists. */
  force?: boolean | undefined;
}

/** A job that makes a volume of an image. */
export interface EncryptSpec extends CommonSpec {
  /** What is done. */
  kind: 'encrypt';
  /** The new volume. */
  target: string;
  /** The KMS key that wraps the new data key. */
  key?: string | undefined;
  /** On a queue, the image is cut into ranges of this length, which workers encrypt side by side. */
  rangeSize?: string | undefined;
  /** `header`: where the new header goes; `pad`, `raw`: as the options of `encryptImage`. */
  choices?: (MadeChoices & { header?: string | undefined; pad?: boolean | undefined; raw?: boolean | undefined }) | undefined;
}

/** A job that makes an image of a volume. */
export interface DecryptSpec extends CommonSpec {
  /** What is done. */
  kind: 'decrypt';
  /** The new image. */
  target: string;
  /** `sparse`: zeros become holes; `force`: replace a target that exists. */
  choices?: (OpenedChoices & { sparse?: boolean | undefined; force?: boolean | undefined }) | undefined;
}

/** A job that proves a volume. */
export interface VerifySpec extends CommonSpec {
  /** What is done. */
  kind: 'verify';
  /** `against`: the image that the volume must have. */
  choices?: (OpenedChoices & { against?: string | undefined }) | undefined;
}

/** A job that wraps a volume's data key under another KMS key. */
export interface RewrapSpec extends CommonSpec {
  /** What is done. */
  kind: 'rewrap';
  /** The other KMS key. */
  key: string;
  /** For the volume. */
  choices?: OpenedChoices | undefined;
}

/** A job that makes a volume of the same data under a new data key. */
export interface ReencryptSpec extends CommonSpec {
  /** What is done. */
  kind: 'reencrypt';
  /** The new volume. */
  target: string;
  /** The KMS key that wraps the new data key. */
  key?: string | undefined;
  /** `newHeader`: where the new header goes. */
  choices?: (OpenedChoices & MadeChoices & { newHeader?: string | undefined }) | undefined;
}

/**
 * A job: its kind, source and target, the KMS key, the encryption context, and choices by the names of the library's
 * options.
 */
export type JobSpec = EncryptSpec | DecryptSpec | VerifySpec | RewrapSpec | ReencryptSpec;

/** What can be done by a job. */
export type JobKind = JobSpec['kind'];

const path = z
  .string()
  .min(1, 'is empty')
  .refine((text) => text !== '-', 'is a stream, which can be read or written only once')
  .refine((text) => !text.includes('\0'), 'has a NUL');
const target = path.refine((text) => !isSnapshot(text), 'is a new snapshot: whoever runs the job again would make another one');
const name = z.string().min(1, 'is empty');
const context = z.record(z.string(), z.string());
const sectorBytes = z.number().refine((bytes) => SECTOR_SIZES.some((size) => size === bytes), `is not one of ${SECTOR_SIZES.join(', ')}`);
const allocation = z.enum(['full', 'sparse']);

const flag = z.boolean();

/** Of one image over several workers, as people write sizes: the text of a job is what makes it the same job. */
const rangeSize = z.string().superRefine((text, context) => {
  const problem = rangeProblem(text);
  if (problem !== undefined) context.addIssue({ code: 'custom', message: problem });
});

function rangeProblem(text: string): string | undefined {
  let bytes: number;
  try {
    bytes = parseSize(text);
  } catch (error) {
    return (error as VolsealError).message;
  }
  if (bytes < RANGE_BYTES_MIN || bytes > RANGE_BYTES_MAX) return `${JSON.stringify(text)} is not from 256MiB to 4GiB`;
  return bytes % RESUME_UNIT_BYTES === 0 ? undefined : `${JSON.stringify(text)} is not a whole number of MiB`;
}

/** What every job may have. */
const common = { source: path, kms: name.optional(), context: context.optional() };
/** Choices for a volume that exists, and for one that is made. */
const opened = { header: path, expectedKey: name };
const made = { sectorBytes, allocation, force: flag };
const choices = <Shape extends z.ZodRawShape>(shape: Shape) => z.strictObject(shape).partial().optional();

/** What each kind of job may have; the library's options of the same names say what they mean. */
const encrypt = z
  .strictObject({
    kind: z.literal('encrypt'),
    ...common,
    target,
    key: name.optional(),
    /** On a queue, the image is cut into ranges of this length, which workers encrypt side by side. */
    rangeSize: rangeSize.optional(),
    choices: choices({ ...made, header: path, pad: flag, raw: flag }),
  })
  .refine(({ rangeSize: size, choices: { header } = {} }) => size === undefined || header === undefined, {
    path: ['rangeSize'],
    message: 'a volume that is made in ranges has its header in front: leave out choices.header',
  });
const decrypt = z.strictObject({
  kind: z.literal('decrypt'),
  ...common,
  target,
  choices: choices({ ...opened, sparse: flag, force: flag }),
});
const verify = z.strictObject({ kind: z.literal('verify'), ...common, choices: choices({ ...opened, against: path }) });
const rewrap = z.strictObject({ kind: z.literal('rewrap'), ...common, key: name, choices: choices(opened) });
const reencrypt = z.strictObject({
  kind: z.literal('reencrypt'),
  ...common,
  target,
  key: name.optional(),
  choices: choices({ ...opened, ...made, newHeader: path }),
});

const jobSchema: z.ZodType<JobSpec> = z.discriminatedUnion('kind', [encrypt, decrypt, verify, rewrap, reencrypt]);

/** A job of a file, and where it stands there. */
export interface JobLine {
  /** From 1, as editors count. */
  readonly line: number;
  /** The job. */
  readonly spec: JobSpec;
}

/** A line that is no job, and why. */
export interface BadLine {
  /** From 1, as editors count. */
  readonly line: number;
  /** In words. */
  readonly problem: string;
}

/** Longer than any job with paths and a full encryption context. */
const LINE_CHARACTERS_MAX = 64 * 1024;

/** Checks a job that came from elsewhere. @throws {VolsealError} `ERR_ARGUMENT` says which member is wrong */
export function checkJob(value: unknown): JobSpec {
  const checked = jobSchema.safeParse(value);
  if (checked.success) return checked.data;
  throw new VolsealError('ERR_ARGUMENT', `the job is not valid: ${describeIssues(checked.error)}`);
}

/**
 * The jobs of a text in which every line is one (JSON Lines); empty lines count for nothing. Two jobs with one target
 * are a mistake of the second.
 */
export function parseJobLines(text: string): { jobs: JobLine[]; bad: BadLine[] } {
  const jobs: JobLine[] = [];
  const bad: BadLine[] = [];
  const targets = new Map<string, number>();
  for (const [index, content] of text.split('\n').entries()) {
    if (content.trim() === '') continue;
    const line = index + 1;
    const parsed = parseLine(content);
    if (typeof parsed === 'string') {
      bad.push({ line, problem: parsed });
      continue;
    }
    const target = targetOf(parsed);
    const earlier = target === undefined ? undefined : targets.get(target);
    if (earlier !== undefined) bad.push({ line, problem: `its target ${target} is that of line ${earlier}` });
    else jobs.push({ line, spec: parsed });
    if (target !== undefined && earlier === undefined) targets.set(target, line);
  }
  return { jobs, bad };
}

/** What makes a job the same job: everything but how it is shared among workers, which its result does not show. */
export function identityOf(spec: JobSpec): JobSpec {
  if (spec.kind !== 'encrypt') return spec;
  const { rangeSize: _, ...what } = spec;
  return what;
}

/** Bytes of the ranges into which the image of a job is cut on a queue; undefined where it is done as a whole. */
export const rangeBytesOf = (spec: JobSpec): number | undefined =>
  spec.kind === 'encrypt' && spec.rangeSize !== undefined ? parseSize(spec.rangeSize) : undefined;

/** What a job writes to, if that is not its source. */
export const targetOf = (spec: JobSpec): string | undefined => ('target' in spec ? spec.target : undefined);

function parseLine(content: string): JobSpec | string {
  if (content.length > LINE_CHARACTERS_MAX) return `has more than ${LINE_CHARACTERS_MAX} characters`;
  let value: unknown;
  try {
    value = parseStrictJson(content);
  } catch (error) {
    return (error as SyntaxError).message;
  }
  const checked = jobSchema.safeParse(value);
  return checked.success ? checked.data : describeIssues(checked.error);
}

/** Every problem, by the path of its member. */
function describeIssues({ issues }: z.ZodError): string {
  return issues.map(({ path: at, message }) => (at.length === 0 ? message : `${at.join('.')}: ${message}`)).join('; ');
}
