/**
 * What is written down of an attached volume, for other processes of the same user. No key, no token, no credential.
 */
import * as z from 'zod';

const text = z.string().max(4096);

/** The schema of a record: other versions of volseal may have written it. */
export const attachmentRecord = z.object({
  version: z.literal(1),
  /** `vol-` and 17 hexadecimal digits. */
  volumeId: z.string().regex(/^vol-[0-9a-f]{17}$/),
  /** Absolute path of the file or device with the data, without symbolic links. */
  path: text,
  /** How clients reach it: `nbd+unix:///...`. */
  uri: text,
  /** Path of the NBD socket. */
  socket: text,
  /** The serving process. */
  pid: z.int().positive(),
  /** Bytes of the attached volume. */
  sizeBytes: z.int().nonnegative(),
  /** Whether clients may only read. */
  readOnly: z.boolean(),
  /** When it was attached: ISO 8601, UTC. */
  since: text,
  /** The kernel's block device, where it is one: `/dev/nbd0`. */
  device: text.nullable(),
  /** The file under which nbdfuse shows it. */
  mountedFile: text.nullable(),
  /** Where its metrics are: `http://127.0.0.1:9100/metrics`. */
  metrics: text.nullable(),
});

/** A volume that a process of this user serves. */
export type AttachmentRecord = z.infer<typeof attachmentRecord>;

const count = z.number().nonnegative();

/** What a serving process says of its clients. */
export const attachmentStatus = z.object({
  /** Connections now. */
  clients: count,
  /** Requests answered since the volume was attached. */
  requests: count,
  readBytes: count,
  writtenBytes: count,
  /** Requests that failed. */
  errors: count,
});

/** Counts since the volume was attached, but for `clients`: connections now. */
export type AttachmentStatus = z.infer<typeof attachmentStatus>;
