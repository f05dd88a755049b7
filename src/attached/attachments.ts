/** The volumes that this user has attached: listed, found and detached. */
import { realpathSync } from 'node:fs';
import { VolsealError } from '../errors.js';
import { ask } from './control.js';
import type { AttachmentRecord, AttachmentStatus } from './record.js';
import { type LiveSlot, liveSlots, removeDeadSocket } from './slots.js';

/** An attached volume, as a listing has it. */
export interface Attachment extends AttachmentRecord {
  /** Null where the serving process does not answer. */
  readonly status: AttachmentStatus | null;
}

/**
 * The slots of processes that live; what dead ones have left is removed, their sockets and mounts too.
 * @throws {VolsealError} `ERR_IO`
 */
export const liveAttachments = (directory: string): Promise<LiveSlot[]> =>
  liveSlots(directory, async ({ socket, mountedFile }) => {
    await removeDeadSocket(socket);
    if (mountedFile === null) return;
    const { unmountDead } = await import('./mount.js');
    await unmountDead(mountedFile);
  });

/** All attached volumes, with what their processes say. @throws {VolsealError} `ERR_IO` */
export async function listAttachments(directory: string): Promise<Attachment[]> {
  const slots = await liveAttachments(directory);
  const listed = await Promise.all(
    slots.map(async ({ record, controlPath }) => {
      try {
        const answer = await ask(controlPath, { command: 'status' });
        return answer === undefined ? undefined : { ...record, status: answer.status ?? null };
      } catch {
        return { ...record, status: null };
      }
    }),
  );
  return listed.filter((attachment) => attachment !== undefined);
}

/**
 * Detaches one volume.
 * @param what its path, its id or its URI
 * @param force also while clients are connected
 * @throws {VolsealError} `ERR_STATE_DETACHED`: it is not attached; `ERR_STATE_BUSY`: clients are connected;
 * `ERR_ARGUMENT`: several are meant; `ERR_IO`: it was detached, and its last flush failed
 */
export async function detachVolume(directory: string, what: string, force: boolean): Promise<AttachmentRecord> {
  const slots = await liveAttachments(directory);
  const found = slots.filter(({ record }) => isMeant(record, what));
  const [slot, ...others] = found;
  if (slot === undefined) throw notAttached(what);
  if (others.length > 0) {
    const uris = found.map(({ record }) => record.uri);
    throw new VolsealError(
      'ERR_ARGUMENT',
      `${what} is attached ${found.length} times; name the URI of the one to detach: ${uris.join(' ')}`,
      {
        details: { uris },
      },
    );
  }
  if ((await ask(slot.controlPath, { command: 'detach', force })) === undefined) throw notAttached(what);
  return slot.record;
}

function isMeant(record: AttachmentRecord, what: string): boolean {
  return [record.volumeId, record.uri, record.path, record.socket].includes(what) || record.path === realPathOf(what);
}

/** A path without symbolic links, as records have it; undefined where nothing is there. */
export function realPathOf(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined; // no path at all, or a volume that was removed while it is attached
  }
}

const notAttached = (what: string): VolsealError =>
  new VolsealError('ERR_STATE_DETACHED', `${what} is not attached`, { details: { path: what } });
