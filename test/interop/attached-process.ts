// node attached-process.js VOLUME KMS ...: attaches volumes, one after the other, and reads and writes them without
// pause. Prints its pid once they are attached; detaches at the first line on standard input, prints "detached" and
// stays.
import { randomInt } from 'node:crypto';
import { attach, type Volume } from '../../src/index.js';

const volumes: Volume[] = [];
for (let at = 2; at < process.argv.length; at += 2) volumes.push(await attach(process.argv[at]!, { kms: process.argv[at + 1]! }));
let working = true;
process.stdin.once('data', () => {
  working = false;
});
console.log(process.pid);
const bytes = Buffer.alloc(300_000, 1);
while (working) {
  const works = volumes.flatMap((volume) => {
    const offset = randomInt(volume.sizeBytes - bytes.length);
    return [volume.write(offset, bytes), volume.read(offset, bytes.length), volume.flush()];
  });
  await Promise.all<unknown>(works);
}
for (const volume of volumes) await volume.detach();
console.log('detached');
setInterval(() => {}, 1000);
