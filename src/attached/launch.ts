/** Starting the process that serves a volume: detached from this one, and ready before this one goes on. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { isError, messageOf, VolsealError } from '../errors.js';
import { native } from '../native.js';
import { errorOf, plainError, receive, send } from './messages.js';
import { keepServing, type ServeOrder, serveOrder, serveOutcome } from './order.js';
import type { AttachmentRecord } from './record.js';
import { startServing } from './serving.js';

/** The descriptor of the serving process through which it gets its order. */
export const ORDER_FD = 3;

/** A volume that another process serves, for as long as this one lives: `keep` lets it go on without. */
export interface LaunchedVolume {
  readonly record: AttachmentRecord;
  /** The serving process no longer depends on this one. */
  keep(): Promise<void>;
  /** Detaches the volume, whoever uses it, and waits for that. */
  end(): Promise<void>;
}

/**
 * Starts a process of its own session that attaches and serves a volume. It gets no descriptor but its order, and
 * nothing on its command line but `args`.
 *
 * @param program the script that calls `runServingProcess`; @param args its arguments
 * @param signal ends the call with `ERR_ABORTED`, and the process with it
 * @throws {VolsealError} whatever kept the volume from being served; `ERR_IO`: the process was killed
 */
export async function launchServing(
  program: string,
  args: readonly string[],
  order: ServeOrder,
  signal: AbortSignal,
): Promise<LaunchedVolume> {
  signal.throwIfAborted();
  native.closeOthersOnExec();
  const child = spawn(process.execPath, [program, ...args], { detached: true, stdio: ['ignore', 'ignore', 'ignore', 'pipe'] });
  const channel = child.stdio[ORDER_FD] as Duplex;
  channel.on('error', () => {});
  const exited = once(child, 'exit');
  // Its end is the process's sign to detach.
  const end = async (): Promise<void> => {
    channel.destroy();
    await exited;
  };
  const abandon = (): void => void channel.destroy();
  signal.addEventListener('abort', abandon);
  try {
    await send(channel, order).catch(() => {});
    const record = await readyRecord(channel, child, exited, signal);
    return {
      record,
      async keep() {
        await send(channel, { keep: true });
        await receive(channel, keepServing);
        channel.destroy();
        child.unref();
      },
      end,
    };
  } catch (error) {
    await end();
    throw signal.aborted ? new VolsealError('ERR_ABORTED', 'stopped on request; the volume is not attached') : error;
  } finally {
    // From now on the caller says when it ends.
    signal.removeEventListener('abort', abandon);
  }
}

async function readyRecord(channel: Duplex, child: ChildProcess, exited: Promise<unknown>, signal: AbortSignal): Promise<AttachmentRecord> {
  const outcome = await receive(channel, serveOutcome);
  if (outcome === undefined) {
    await exited;
    if (signal.aborted) throw new VolsealError('ERR_ABORTED', 'stopped on request');
    const how = child.signalCode ?? `exit status ${child.exitCode}`;
    throw new VolsealError('ERR_IO', `the process that was to serve the volume ended before it was ready (${how})`, {
      details: { syscall: 'spawn' },
    });
  }
  if ('error' in outcome) throw errorOf(outcome.error);
  if ('bug' in outcome) throw new Error(outcome.bug);
  return outcome.ready;
}

/**
 * The whole life of a process that `launchServing` has started. Returns once the volume is detached: because somebody
 * has asked for that, because the process that gave the order has ended without `keep`, or because of `signal`.
 * @param channel the stream over `ORDER_FD`
 */
export async function runServingProcess(channel: Duplex, signal: AbortSignal): Promise<void> {
  channel.on('error', () => {});
  const order = await receive(channel, serveOrder);
  if (order === undefined) return;
  const kept = receive(channel, keepServing).catch(() => undefined);
  const abandoned = new AbortController();
  void kept.then((answer) => answer ?? abandoned.abort());
  const either = AbortSignal.any([signal, abandoned.signal]);
  try {
    const serving = await startServing(order, either);
    await send(channel, { ready: serving.record }).catch(() => abandoned.abort());
    const stop = (): void => void serving.end().catch(() => {});
    if (either.aborted) stop();
    either.addEventListener('abort', stop);
    void kept.then((answer) => {
      if (answer === undefined) return;
      channel.destroy();
      // A directory that is in use cannot be unmounted.
      process.chdir('/');
    });
    await serving.ended;
  } catch (error) {
    await send(channel, failureOf(error)).catch(() => {});
  } finally {
    channel.destroy();
  }
}

function failureOf(error: unknown): object {
  if (!(error instanceof VolsealError)) return { bug: isError(error) ? (error.stack ?? error.message) : messageOf(error) };
  return { error: plainError.parse(structuredClone(error.toPlain())) };
}
