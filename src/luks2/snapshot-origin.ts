/**
 * Which EBS snapshot the data of a volume is the image of: so that a later snapshot needs to bring only the blocks that
 * changed since then. Any new version of the header that does not say so again ends it (docs/FORMAT.md).
 */
import * as z from 'zod';

/** A record as the token has it. */
export interface SnapshotOrigin {
  /** `snap-` and 8 or 17 hexadecimal digits. */
  readonly id: string;
  /**
   * Where the data is being brought from another snapshot to this one, and is a mixture of both: the other one.
   * Undefined: the data is the image of `id`.
   */
  readonly since?: string | undefined;
  /** The sequence number of the header that the record was written with. */
  readonly sequence: bigint;
}

/** As EC2 gives them: 8 digits until 2016, 17 since. */
const snapshotId = z.string().regex(/^snap-(?:[0-9a-f]{8}|[0-9a-f]{17})$/, 'is not the id of a snapshot');

/** The record as JSON. */
export interface StoredOrigin {
  id: string;
  since?: string | undefined;
  sequence: string;
}

/** Of the record as JSON. @internal */
export const snapshotOriginSchema: z.ZodType<StoredOrigin> = z.strictObject({
  id: snapshotId,
  since: snapshotId.optional(),
  sequence: z.string().regex(/^(0|[1-9][0-9]{0,19})$/, 'is not a 64-bit number as a string'),
});

/** The record as JSON. */
export const encodeOrigin = ({ id, since, sequence }: SnapshotOrigin): StoredOrigin => ({
  id,
  ...(since === undefined ? {} : { since }),
  sequence: String(sequence),
});

/** The record from JSON. */
export const decodeOrigin = ({ id, since, sequence }: StoredOrigin): SnapshotOrigin => ({
  id,
  ...(since === undefined ? {} : { since }),
  sequence: BigInt(sequence),
});

/**
 * The record if it still holds in the header with that sequence number. A backup that was restored has a later one, and
 * the volume may have been written to since the backup; a mixture stays a mixture.
 */
export const heldOrigin = (record: SnapshotOrigin | undefined, sequence: bigint): SnapshotOrigin | undefined =>
  record?.since !== undefined || record?.sequence === sequence ? record : undefined;
