/**
 * What a serving process is told to do, and what it says when it is ready. It goes through a pipe: a command line is
 * for everybody to read.
 */
import * as z from 'zod';
import { plainError } from './messages.js';
import { attachmentRecord } from './record.js';

const text = z.string().max(4096);

/** The schema of `ServeOrder`. */
export const serveOrder = z.strictObject({
  /** The runtime directory. */
  directory: text,
  volume: z.discriminatedUnion('kind', [
    z.strictObject({
      kind: z.literal('file'),
      path: text,
      /** As `attach` has them. */
      options: z.strictObject({
        header: text.optional(),
        kms: text.optional(),
        encryptionContext: z.record(z.string(), z.string()).optional(),
        expectedKey: text.optional(),
        recoveryKeyFile: text.optional(),
        passphraseFile: text.optional(),
        anyKeyslot: z.boolean().optional(),
        allowNoLock: z.boolean().optional(),
        anyData: z.boolean().optional(),
        journal: text.optional(),
        store: z
          .strictObject({
            endpointUrl: text.optional(),
            ebsEndpointUrl: text.optional(),
            pathStyle: z.boolean().optional(),
            region: text.optional(),
          })
          .optional(),
      }),
    }),
    z.strictObject({ kind: z.literal('workspace'), workspaceId: text, which: z.enum(['root', 'user']) }),
  ]),
  readOnly: z.boolean(),
  /** Path of the NBD socket, where it is not in the runtime directory. */
  socket: text.optional(),
  /** Attach it as a block device of the kernel too: its path, or `any` for the first one that is free. */
  device: text.optional(),
  /** The directory in which nbdfuse shows it. */
  mount: text.optional(),
  /** Where its metrics are offered. */
  metrics: z.strictObject({ host: text, port: z.int().min(0).max(65535) }).optional(),
});

/** One volume to attach, and how. */
export type ServeOrder = z.infer<typeof serveOrder>;

/** The first message of the serving process. */
export const serveOutcome = z.union([
  z.strictObject({ ready: attachmentRecord }),
  z.strictObject({ error: plainError }),
  /** The stack of an error that is nobody's fault but volseal's. */
  z.strictObject({ bug: z.string() }),
]);

/** The answer to that: serve on without the process that gave the order. */
export const keepServing = z.strictObject({ keep: z.literal(true) });
