// node in-place-paused.js VOLUME KMS: re-encrypts in place; in the middle it prints "paused" and waits for a line.
import { readSync } from 'node:fs';
import { reencryptInPlace } from '../../src/index.js';

const [volume, kms] = process.argv.slice(2) as [string, string];
let paused = false;
await reencryptInPlace(volume, {
  kms,
  partBytes: 1024 * 1024,
  onProgress({ doneBytes }) {
    if (paused || doneBytes === 0) return;
    paused = true;
    console.log('paused');
    // Both keys are in the vault now, and the round keys of both.
    for (let waits = true; waits; ) {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
      try {
        readSync(0, Buffer.alloc(1));
        waits = false;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      }
    }
  },
});
console.log('done');
