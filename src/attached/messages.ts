/**
 * Messages between `volseal` and the process that serves a volume: one JSON value a line, checked by whoever receives
 * it.
 */
import type { Duplex } from 'node:stream';
import * as z from 'zod';
import { type ErrorCode, type ErrorDetails, VolsealError } from '../errors.js';
import { ATTACHED_MESSAGE_BYTES_MAX } from '../limits.js';
import { attachmentStatus } from './record.js';

/** What a command asks of a serving process. */
export const request = z.discriminatedUnion('command', [
  z.strictObject({ command: z.literal('status') }),
  z.strictObject({ command: z.literal('detach'), force: z.boolean() }),
]);

/** What a command asks of a serving process. */
export type Request = z.infer<typeof request>;

/** A `VolsealError` on its way between processes. */
export const plainError = z.object({
  code: z.string().regex(/^ERR_[A-Z_]+$/),
  message: z.string(),
  details: z.record(z.string(), z.json()),
});

/** What a serving process answers. */
export const reply = z.union([
  z.strictObject({ ok: z.literal(true), status: attachmentStatus.optional() }),
  z.strictObject({ ok: z.literal(false), error: plainError }),
]);

/** What a serving process answers. */
export type Reply = z.infer<typeof reply>;

/** The error that another process has sent. */
export const errorOf = ({ code, message, details }: z.infer<typeof plainError>): VolsealError =>
  VolsealError.fromPlain({ code: code as ErrorCode, message, details: details as ErrorDetails });

/** Sends one message. Resolves once the system has it. */
export const send = (stream: Duplex, message: object): Promise<void> =>
  new Promise((resolve, reject) => stream.write(`${JSON.stringify(message)}\n`, (error) => (error ? reject(error) : resolve())));

/**
 * The next message of a stream; undefined where the stream ends before it. Nothing may follow it before the answer to
 * it is sent.
 * @throws {Error} where it is no JSON of this kind, or longer than any message
 */
export function receive<Schema extends z.ZodType>(stream: Duplex, schema: Schema): Promise<z.infer<Schema> | undefined> {
  return new Promise((resolve, reject) => {
    let text = '';
    const finish = (settle: () => void): void => {
      stream.off('data', onData).off('end', onEnd).off('close', onEnd).off('error', onEnd);
      stream.pause();
      settle();
    };
    const onEnd = (): void => finish(() => resolve(undefined));
    const onData = (chunk: Buffer | string): void => {
      text += chunk.toString('latin1');
      const end = text.indexOf('\n');
      if (end === -1 && text.length <= ATTACHED_MESSAGE_BYTES_MAX) return;
      finish(() => {
        try {
          if (end === -1) throw new Error('a message is too long');
          resolve(schema.parse(JSON.parse(Buffer.from(text.slice(0, end), 'latin1').toString('utf8'))));
        } catch (error) {
          reject(error);
        }
      });
    };
    stream.on('data', onData).on('end', onEnd).on('close', onEnd).on('error', onEnd);
    stream.resume();
  });
}
