/**
 * The process that `volseal attach` starts: the same program, so that it protects itself as every command does. Not for
 * people.
 */
import { fstatSync } from 'node:fs';
import { Socket } from 'node:net';
import { Command } from 'commander';
import { VolsealError } from '../../errors.js';
import type { Session } from '../options.js';

/** The command; its argument is for people who look at the list of processes. */
export function attachProcessCommand({ signal }: Session): Command {
  return new Command('attach-process').argument('<volume>').action(async () => {
    const { ORDER_FD, runServingProcess } = await import('../../attached/launch.js');
    if (!isSocket(ORDER_FD)) throw new VolsealError('ERR_ARGUMENT', 'only volseal itself starts this command: use volseal attach');
    await runServingProcess(new Socket({ fd: ORDER_FD, readable: true, writable: true }), signal);
  });
}

function isSocket(fd: number): boolean {
  try {
    return fstatSync(fd).isSocket();
  } catch {
    return false;
  }
}
