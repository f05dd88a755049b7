/**
 * What systemd and other supervisors tell a service through its environment, and want to hear from it
 * (sd_listen_fds(3), sd_notify(3)).
 */
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { asVolsealError, VolsealError } from '../errors.js';
import { native } from '../native.js';

/** The first descriptor that a service manager passes. */
const FIRST_PASSED_FD = 3;

/** The service manager's side, as this process finds it. Programs that it starts do not. */
export interface ServiceManager {
  /** A listening socket that was passed; undefined where none was. */
  readonly listeningFd: number | undefined;
  /**
   * Sends `lines`, of the form `NAME=VALUE`. Does nothing where nobody listens; a failure is no reason to stop a
   * service.
   */
  notify(...lines: string[]): void;
}

/**
 * Takes over what the environment says.
 * @throws {VolsealError} `ERR_ARGUMENT`: more than one socket was passed
 */
export function serviceManager(): ServiceManager {
  const { LISTEN_PID, LISTEN_FDS, NOTIFY_SOCKET } = process.env;
  for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES', 'NOTIFY_SOCKET']) delete process.env[name];
  const isForUs = LISTEN_PID === String(process.pid);
  if (isForUs && LISTEN_FDS !== '1') {
    throw new VolsealError('ERR_ARGUMENT', `LISTEN_FDS is ${JSON.stringify(LISTEN_FDS)}: the service needs exactly one socket`);
  }
  return {
    listeningFd: isForUs ? FIRST_PASSED_FD : undefined,
    notify(...lines) {
      if (!NOTIFY_SOCKET) return;
      try {
        native.notifyServiceManager(NOTIFY_SOCKET, lines.join('\n'));
      } catch (error) {
        process.stderr.write(`volseal: NOTIFY_SOCKET: ${(error as Error).message}\n`);
      }
    },
  };
}

/**
 * Writes this process's id to `path`, for other programs.
 * @returns removes it
 * @throws {VolsealError} `ERR_IO`
 */
export function writePidFile(path: string): () => void {
  const temporary = `${path}.${process.pid}`;
  try {
    // By rename: nobody reads half a number.
    writeFileSync(temporary, `${process.pid}\n`, { flag: 'wx' });
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw asVolsealError(error, path);
  }
  return () => rmSync(path, { force: true });
}
