/** Programs that write to a file without flock(2), as far as the system tells of them: qemu, loop devices. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { VolsealError } from '../errors.js';
import { identityOf, isSameFile, type NamedFile } from './named-file.js';

const BLOCK_DEVICES = '/sys/block';

/**
 * Refuses a file that is to be written to while another program has it open for writing: one with a record lock (qemu),
 * a loop device that is not read-only (`losetup`, `mount -o loop`, `cryptsetup open`). A block device was opened for
 * this process alone already. To be called before this process locks the file: network file systems show its own lock
 * as one of others.
 *
 * @throws {VolsealError} `ERR_STATE_BUSY`, with `details.device` where a loop device has it; `ERR_IO`
 */
export async function refuseOtherWriters(file: NamedFile): Promise<void> {
  const { path } = file;
  if (file.hasRecordLock()) {
    const message = `${path}: another program has locked it, a virtual machine (qemu) for example; end that program first`;
    throw new VolsealError('ERR_STATE_BUSY', message, { details: { path } });
  }
  const device = await loopDeviceOver(file);
  if (device === undefined) return;
  const message = `${path}: the loop device ${device} writes to it; close what uses that device first (losetup -l ${device} shows it)`;
  throw new VolsealError('ERR_STATE_BUSY', message, { details: { path, device } });
}

/** Another mount namespace may name its backing files otherwise: those are not found. */
async function loopDeviceOver(file: NamedFile): Promise<string | undefined> {
  const own = await file.identity();
  const names = await readdir(BLOCK_DEVICES).catch(() => []);
  for (const name of names.filter((device) => device.startsWith('loop'))) {
    const read = (attribute: string): Promise<string> => readFile(`${BLOCK_DEVICES}/${name}/${attribute}`, 'utf8').catch(() => '');
    const backing = (await read('loop/backing_file')).replace(/\n$/, '');
    if (backing === '' || (await read('ro')).trim() === '1') continue;
    const found = await stat(backing, { bigint: true }).catch(() => undefined);
    if (found !== undefined && isSameFile(identityOf(found), own)) return `/dev/${name}`;
  }
  return undefined;
}
