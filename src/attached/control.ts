/**
 * How other processes of this user talk to the one that serves a volume: a unix socket beside the record, one request a
 * connection.
 */
import { chmodSync } from 'node:fs';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { asVolsealError, messageOf, VolsealError } from '../errors.js';
import { ATTACHED_CONNECTIONS_MAX, ATTACHED_STATUS_TIMEOUT_MS } from '../limits.js';
import { errorOf, plainError, type Reply, type Request, receive, reply, request, send } from './messages.js';
import type { AttachmentStatus } from './record.js';

/** What a serving process can be asked. */
export interface ControlTarget {
  status(): AttachmentStatus;
  /** @throws {VolsealError} `ERR_STATE_BUSY`: clients are connected, and it is not forced; what a last flush throws */
  detach(force: boolean): Promise<void>;
}

/** The answering end of a control socket. */
export interface Control {
  /** Takes no more requests, and removes the socket. */
  stop(): void;
  /** Resolves once the answers that are under way are sent. */
  answered(): Promise<void>;
}

/**
 * Answers requests on the socket `path`. Only the caller's own processes reach it: the directory is private.
 * @throws {VolsealError} `ERR_IO`
 */
export async function answerRequests(path: string, target: ControlTarget): Promise<Control> {
  const answers = new Set<Promise<void>>();
  const server = createServer((socket) => {
    const answer = answerOne(socket, target).finally(() => answers.delete(answer));
    answers.add(answer);
  });
  server.maxConnections = ATTACHED_CONNECTIONS_MAX;
  await listening(server, path);
  chmodSync(path, 0o600);
  return {
    // Node removes the socket at once: by the time that another process may have one of this name, it must be gone.
    stop: () => void server.close(),
    async answered() {
      await Promise.all(answers);
    },
  };
}

function listening(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(asVolsealError(error, path)));
    server.listen(path, resolve);
  });
}

async function answerOne(socket: Socket, target: ControlTarget): Promise<void> {
  // A client that is killed meanwhile is no failure of this process.
  socket.on('error', () => {});
  socket.setTimeout(ATTACHED_STATUS_TIMEOUT_MS, () => socket.destroy());
  try {
    const asked = await receive(socket, request);
    if (asked === undefined) return;
    // Flushing may take longer than a client needs for its request.
    socket.setTimeout(0);
    await send(socket, await replyTo(asked, target)).catch(() => {});
  } catch {
    // Neither a request nor worth an answer: no command of this version sends it.
  } finally {
    socket.destroy();
  }
}

async function replyTo(asked: Request, target: ControlTarget): Promise<Reply> {
  try {
    if (asked.command === 'status') return { ok: true, status: target.status() };
    await target.detach(asked.force);
    return { ok: true };
  } catch (error) {
    const known = asVolsealError(error);
    const { code, message, details } =
      known instanceof VolsealError ? known.toPlain() : { code: 'ERR_IO', message: messageOf(error), details: {} };
    return { ok: false, error: plainError.parse({ code, message, details }) };
  }
}

/**
 * Asks the serving process behind `path`.
 * @returns undefined where there is none (any more)
 * @throws {VolsealError} what it answered; `ERR_IO` with errno `ETIMEDOUT`: no answer in time
 */
export async function ask(path: string, message: Request): Promise<Extract<Reply, { ok: true }> | undefined> {
  const socket = createConnection(path);
  let late = false;
  const giveUp = (): void => {
    late = true;
    socket.destroy();
  };
  // Detaching takes as long as the last flush.
  const timer = message.command === 'status' ? setTimeout(giveUp, ATTACHED_STATUS_TIMEOUT_MS) : undefined;
  try {
    const connected = await new Promise<boolean>((resolve) =>
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false)),
    );
    socket.on('error', () => {});
    if (!connected && !late) return undefined;
    if (!late) await send(socket, message).catch(() => {});
    const answered = late ? undefined : await receive(socket, reply);
    if (answered?.ok === false) throw errorOf(answered.error);
    if (answered === undefined && late) throw noAnswer(path);
    return answered;
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}

const noAnswer = (path: string): VolsealError =>
  new VolsealError('ERR_IO', `${path}: the process that serves the volume does not answer`, { details: { errno: 'ETIMEDOUT', path } });
