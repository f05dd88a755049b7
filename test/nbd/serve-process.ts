// node serve-process.js VOLUME KMS OPTIONS: attaches the volume and serves it with OPTIONS (NbdServeOptions as JSON).
// Prints "URI pid" once it listens. Detaches when standard input ends, prints "detached" and stays; ends with the
// server where OPTIONS has `stdio`.
import { attach, type NbdServeOptions } from '../../src/index.js';

const [path, kms, json] = process.argv.slice(2) as [string, string, string];
const options = JSON.parse(json) as NbdServeOptions;
const volume = await attach(path, { kms });
const server = await volume.serve(options);
console.log(server.uri, process.pid);
if (options.stdio === undefined) {
  process.stdin.once('end', async () => {
    await volume.detach();
    console.log('detached');
    setInterval(() => {}, 1000);
  });
  process.stdin.resume();
} else {
  server.once('close', async () => {
    await volume.detach();
  });
}
