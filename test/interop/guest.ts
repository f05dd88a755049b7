/**
 * A real Linux kernel as a judge: runs a script under qemu with files of ours as its disks. See the script
 * `linux-guest`.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../built.js';
import { requireTool, skipFor, skipWithout, tryTool } from './tools.js';

const LINUX_GUEST = join(ROOT, 'test/interop/linux-guest');

/** Why the guest cannot run here; false where it can. Its busybox must be a program without shared libraries. */
export function skipGuest(): string | false {
  if (process.arch !== 'x64') return 'the guest is an x86-64 one';
  const missing = skipWithout('qemu-system-x86_64', 'busybox', 'cpio', 'depmod', 'flock', 'cryptsetup', 'ldd', 'nbd-client');
  if (missing !== false || !tryTool('ldd', [requireTool('busybox')]).stdout.includes('=>')) return missing;
  return skipFor('busybox is not static: install busybox-static instead (scripts/setup.sh --test)');
}

export interface GuestRun {
  /** Files of the host, or NBD URIs; in this order /dev/vda, /dev/vdb, ... */
  disks?: string[];
  /** Path in the guest to path on the host: copies of small files. */
  files?: Record<string, string>;
  /** Whether the guest has a network, in which 127.0.0.1 of the host is 10.0.2.2. */
  network?: boolean;
  /** Whether the host's root is at /host, for chroot: to read, with memory to write to at its /mnt. */
  hostRoot?: boolean;
  /** busybox sh; say `set -e`. cryptsetup, mkfs.ext4, e2fsck, nbd-client, mount, dd, sha256sum are there. */
  script: string;
}

/**
 * Boots the guest and runs the script, about 10 seconds.
 * @returns what the script printed
 * @throws {Error} where the script ends with another status than 0 or the guest does not boot; the message has all it
 * printed
 */
export async function runGuest({ disks = [], files = {}, network = false, hostRoot = false, script }: GuestRun): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'volseal-guest-'));
  try {
    const scriptFile = join(directory, 'script');
    await writeFile(scriptFile, script);
    return await runToEnd([
      ...disks.flatMap((disk) => ['--disk', disk]),
      ...Object.entries(files).flatMap(([guestPath, hostPath]) => ['--file', `${hostPath}:${guestPath}`]),
      ...(network ? ['--network'] : []),
      ...(hostRoot ? ['--host-root'] : []),
      scriptFile,
    ]);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function runToEnd(args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(LINUX_GUEST, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    let complaints = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      complaints += text;
    });
    child.on('error', reject);
    child.on('close', (status) => {
      if (status === 0) resolve(output);
      else reject(new Error(`the guest's script ended with ${status}\n${output}${complaints}`));
    });
  });
}
