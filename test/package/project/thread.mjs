import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { isMainThread, Worker } from 'node:worker_threads';

if (isMainThread) {
  const [code] = await once(new Worker(fileURLToPath(import.meta.url)), 'exit');
  process.exitCode = code;
} else {
  const volseal = await import('volseal');
  const { default: roundTrip } = await import('./round-trip.cjs');
  await roundTrip(volseal);
}
