// node attached-process.js VOLUME KMS: attaches the volume and reads and writes it without pause. Prints its pid once
// attached; detaches at the first line on standard input, prints "detached" and stays.
import { randomInt } from 'node:crypto';
import { attach } from '../../src/index.js';

const [path, kms] = process.argv.slice(2) as [string, string];
const volume = await attach(path, { kms });
let working = true;
process.stdin.once('data', () => {
  working = false;
});
console.log(process.pid);
const bytes = Buffer.alloc(300_000, 1);
while (working) {
  const offset = randomInt(volume.sizeBytes - bytes.length);
  await Promise.all([volume.write(offset, bytes), volume.read(offset, bytes.length), volume.flush()]);
}
await volume.detach();
console.log('detached');
setInterval(() => {}, 1000);
