/** Jobs in place that stop in the middle. */
import assert from 'node:assert/strict';
import { attach, createVolume, decryptInPlace, encryptInPlace, type JobOptions, reencryptInPlace, VolsealError } from '../../src/index.js';
import type { Sandbox } from '../volume/sandbox.js';

export const MIB = 1024 * 1024;
/** Parts of 1 MiB: small images have several. */
export const PART = { partBytes: MIB };

export type Job = (path: string, options: { kms: string; header?: string | undefined; undo?: boolean } & object) => Promise<unknown>;
export const JOBS = { encrypt: encryptInPlace, decrypt: decryptInPlace, reencrypt: reencryptInPlace } as const satisfies Record<
  string,
  Job
>;

/** For `assert.rejects`: a VolsealError with this code and message. */
export const failsWith = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof VolsealError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return true;
};

/** Stops a job once it has done so many bytes. */
export function stoppingAt(wantedBytes: number): Required<Pick<JobOptions, 'signal' | 'onProgress'>> {
  const controller = new AbortController();
  const onProgress = ({ doneBytes }: { doneBytes: number }): void => {
    if (doneBytes >= wantedBytes) controller.abort();
  };
  return { signal: controller.signal, onProgress };
}

/** An image of random bytes in the file `disk`, or a volume of it, ready for the job. */
export async function prepared(
  box: Sandbox,
  kind: keyof typeof JOBS,
  imageBytes: number,
  sectorBytes: number,
  header: string | undefined,
): Promise<Buffer> {
  const image = box.image('disk', imageBytes);
  if (kind !== 'encrypt') await encryptInPlace(box.path('disk'), { kms: box.kms, sectorBytes, header, pad: true });
  return image;
}

/**
 * A sparse volume of 32 MiB, `disk.vol`, in the middle of `reencrypt`: at 2, 12 and 30 MiB are 4096 bytes of that
 * number. @returns its path
 */
export async function sparseInTheMiddle(box: Sandbox): Promise<string> {
  const volume = box.path('disk.vol');
  await createVolume(volume, { kms: box.kms, sizeBytes: 32 * MIB });
  {
    await using attached = await attach(volume, { kms: box.kms });
    for (const at of [2, 12, 30]) await attached.write(at * MIB, Buffer.alloc(4096, at));
  }
  await assert.rejects(reencryptInPlace(volume, { kms: box.kms, ...PART, ...stoppingAt(16 * MIB) }), { code: 'ERR_ABORTED' });
  return volume;
}
