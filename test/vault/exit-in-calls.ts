// Starts threads whose native calls fail and make buffers without pause, and exits with 3 in the middle of it.
import { isMainThread, Worker } from 'node:worker_threads';
import { native } from '../../src/native.js';

if (isMainThread) {
  for (let i = 0; i < 4; i++) new Worker(new URL(import.meta.url));
  setTimeout(() => process.exit(3), 500);
} else {
  const key = native.keyGenerate(32);
  for (;;) {
    native.keyHmac(key, Buffer.alloc(8));
    try {
      native.deviceClose({} as never);
    } catch {
      // That is what this is about.
    }
  }
}
