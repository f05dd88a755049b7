/** qemu-img's LUKS, version 1 of the format: its cipher is AES-256-XTS in sectors of 512 bytes. */
import { rmSync } from 'node:fs';
import { type Surroundings, timed } from './timed-process.js';

const SECRET = ['--object', 'secret,id=key,data=benchmark'];
const ATTEMPTS = 40;

/** What `qemu-img convert` needs to fill a target that `qemuFormat` has made. */
export const qemuWords = (image: string, target: string): string[] => [
  ...['-n', '-f', 'raw', ...SECRET, image, '--target-image-opts', `driver=luks,key-secret=key,file.filename=${target}`],
];

/**
 * Makes an empty volume beforehand, so that the slow derivation of its key is not timed.
 * @throws {Error} qemu-img's words
 */
export async function qemuFormat(target: string, imageBytes: number, surroundings: Surroundings): Promise<void> {
  const words = ['create', '-q', '-f', 'luks', ...SECRET, '-o', 'key-secret=key,iter-time=10', target, String(imageBytes)];
  for (let attempt = 1; ; attempt++) {
    rmSync(target, { force: true });
    try {
      await timed(['qemu-img', ...words], surroundings);
      return;
    } catch (error) {
      // It measures the processor to choose its iterations, and on a noisy one it gives up.
      const isNoise = error instanceof Error && error.message.includes('accurate CPU usage');
      if (!isNoise || attempt === ATTEMPTS) throw error;
    }
  }
}
