// node flush-twice.js VOLUME KMS: prints how each step went.
import { attach } from '../../src/index.js';
import { native } from '../../src/native.js';

const [path, kms] = process.argv.slice(2) as [string, string];
const volume = await attach(path, { kms });
const outcome = (step: Promise<unknown>): Promise<string> =>
  step.then(
    () => 'ok',
    (error: { code: string }) => error.code,
  );
const said = {
  write: await outcome(volume.write(0, Buffer.alloc(512))),
  flush: await outcome(volume.flush()),
  flushAgain: await outcome(volume.flush()),
  writeAgain: await outcome(volume.write(0, Buffer.alloc(512))),
  read: await outcome(volume.read(0, 512)),
  detach: await outcome(volume.detach()),
  readDetached: await outcome(volume.read(0, 512)),
  liveKeys: native.vaultInfo().liveKeys,
};
console.log(JSON.stringify(said));
