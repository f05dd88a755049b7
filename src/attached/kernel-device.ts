/** An attached volume as a block device of the kernel, /dev/nbdN, through nbd-client. */
import { closeSync, constants, existsSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { asVolsealError, messageOf, VolsealError } from '../errors.js';
import { missing, runProgram, type SystemClient, systemProgram } from './system-client.js';

const PURPOSE = 'attaching as a block device (--device)';
/** Any device that is free. */
export const ANY_DEVICE = 'any';
/** Bit of CAP_SYS_ADMIN in a set of capabilities (capabilities(7)). */
const SYS_ADMIN = 1n << 21n;

/**
 * Attaches the server at `socket` to `device`, or to the first device that is free.
 * @throws {VolsealError} `ERR_REQUIREMENT`, `ERR_ARGUMENT` (no NBD device), `ERR_STATE_BUSY` (it is in use, or none is
 * free), `ERR_IO`
 */
export async function attachDevice(
  device: string,
  { socket, readOnly, signal }: { socket: string; readOnly: boolean; signal: AbortSignal },
): Promise<SystemClient> {
  const nbdClient = checkDevice();
  const path = device === ANY_DEVICE ? firstFree() : checked(device);
  try {
    await runProgram(nbdClient, deviceArguments(socket, path, readOnly));
  } catch (error) {
    throw new VolsealError('ERR_IO', `${path}: nbd-client could not attach the volume: ${messageOf(error)}`, {
      cause: error,
      details: { path, syscall: 'nbd-client' },
    });
  }
  let done = (): void => {};
  const ended = new Promise<void>((resolve) => {
    done = resolve;
  });
  const client: SystemClient = {
    kind: 'device',
    path,
    ended,
    get hasEnded() {
      return !isInUse(basename(path));
    },
    async end(force) {
      if (client.hasEnded) return;
      if (!force) refuseIfMounted(path);
      await runProgram(nbdClient, ['-d', path]);
      done();
    },
  };
  if (signal.aborted) {
    await client.end(true);
    throw new VolsealError('ERR_ABORTED', `${path}: stopped on request; the volume is not attached`);
  }
  return client;
}

/** 512-byte blocks: a partition table counts in them (NetworkBlockDevice/nbd#157). */
export const deviceArguments = (socket: string, path: string, readOnly: boolean): string[] => [
  '-unix',
  socket,
  path,
  '-block-size',
  '512',
  ...(readOnly ? ['-readonly'] : []),
];

/**
 * Whether this process can attach block devices.
 * @returns the path of nbd-client
 * @throws {VolsealError} `ERR_REQUIREMENT`
 */
export function checkDevice(): string {
  const nbdClient = systemProgram('nbd-client', PURPOSE, 'nbd-client');
  if (!existsSync('/sys/module/nbd')) {
    throw missing('nbd', `${PURPOSE} needs the kernel module nbd, which is not loaded (as root: modprobe nbd)`);
  }
  const [, capabilities = '0'] = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  if ((BigInt(`0x${capabilities}`) & SYS_ADMIN) === 0n) {
    throw missing('CAP_SYS_ADMIN', `${PURPOSE} needs root (CAP_SYS_ADMIN): the kernel lets nobody else set up an NBD device`);
  }
  return nbdClient;
}

/** @throws {VolsealError} `ERR_ARGUMENT`, `ERR_STATE_BUSY` */
function checked(path: string): string {
  const name = basename(path);
  if (!/^\/dev\/nbd[0-9]+$/.test(path) || !existsSync(`/sys/block/${name}`)) {
    throw new VolsealError('ERR_ARGUMENT', `${path} is not an NBD device of this machine, such as /dev/nbd0`, { details: { path } });
  }
  if (isInUse(name)) throw new VolsealError('ERR_STATE_BUSY', `${path}: is attached already`, { details: { path } });
  return path;
}

function firstFree(): string {
  const names = readdirSync('/sys/block').filter((name) => /^nbd[0-9]+$/.test(name));
  const free = names.sort((one, other) => Number(one.slice(3)) - Number(other.slice(3))).find((name) => !isInUse(name));
  if (free !== undefined) return `/dev/${free}`;
  throw new VolsealError('ERR_STATE_BUSY', `all ${names.length} NBD devices of this machine are in use`);
}

/** The kernel has this file while a device has a connection. */
const isInUse = (name: string): boolean => existsSync(`/sys/block/${name}/pid`);

/**
 * Opening a block device exclusively fails while it is mounted, or below dm-crypt, LVM or the like (open(2), O_EXCL).
 */
function refuseIfMounted(path: string): void {
  try {
    closeSync(openSync(path, constants.O_RDONLY | constants.O_EXCL));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EBUSY') throw asVolsealError(error, path);
    throw new VolsealError('ERR_STATE_BUSY', `${path}: is in use; unmount it first`, { cause: error, details: { path } });
  }
}
