// node recovery-process.js VOLUME RECOVERY_KEY NEW_RECOVERY_KEY: adds a recovery key by the one that there is, tests
// it, and attaches the volume by it. Prints its pid, and reads without pause; detaches at the first line on standard
// input, prints "detached" and stays.
import { addRecoveryKey, attach, testKeyslot } from '../../src/index.js';

const [path, recoveryKeyFile, newKeyFile] = process.argv.slice(2) as [string, string, string];
await addRecoveryKey(path, newKeyFile, { recoveryKeyFile });
await testKeyslot(path, { recoveryKeyFile: newKeyFile });
const volume = await attach(path, { recoveryKeyFile: newKeyFile });
let working = true;
process.stdin.once('data', () => {
  working = false;
});
console.log(process.pid);
while (working) await volume.read(0, 300_000);
await volume.detach();
console.log('detached');
setInterval(() => {}, 1000);
