/**
 * Descriptors that the caller of the program has opened. Node has some of its own: pipes and event descriptors, with
 * numbers that a caller may name by mistake.
 */
import { fstatSync, readdirSync, readFileSync, type Stats } from 'node:fs';

/**
 * Whether the program has it from its caller. To be asked before the program opens anything.
 * @param fd a number that may be of no open file
 */
export function isInherited(fd: number): boolean {
  const found = look(fd);
  if (found === undefined) return false;
  // Node's pipes have both ends here.
  if (found.isFIFO()) return !ownDescriptors().some((other) => other !== fd && isOtherEnd(found, fd, other));
  // An event descriptor is none of these.
  return found.isFile() || found.isSocket() || found.isCharacterDevice() || found.isBlockDevice() || found.isDirectory();
}

function look(fd: number): Stats | undefined {
  try {
    return fstatSync(fd);
  } catch {
    return undefined;
  }
}

function ownDescriptors(): number[] {
  try {
    return readdirSync('/proc/self/fd').map(Number);
  } catch {
    return [];
  }
}

/** A pipe's ends have one inode, and differ in what they are open for. */
function isOtherEnd(pipe: Stats, fd: number, other: number): boolean {
  const found = look(other);
  return found?.isFIFO() === true && found.dev === pipe.dev && found.ino === pipe.ino && accessOf(fd) !== accessOf(other);
}

const O_ACCMODE = 0o3;

function accessOf(fd: number): number {
  const [, flags = '0'] = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1')) ?? [];
  return Number.parseInt(flags, 8) & O_ACCMODE;
}
