// node beside-a-stalled-pipe.js VOLUME KMS TARGET PIPE: encrypts a pipe that gives nothing, and reads the volume
// meanwhile; prints its first byte, then what became of the encryption.
import { constants, openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { attach, encryptImage } from '../../src/index.js';

const [path, kms, target, pipe] = process.argv.slice(2) as [string, string, string, string];
const stop = new AbortController();
// Open for writing too, so that it does not end.
const source = { fd: openSync(pipe, constants.O_RDWR), sizeBytes: 1024 * 1024, name: 'a pipe' };
const encrypting = encryptImage(source, target, { kms, signal: stop.signal }).catch(({ code }: { code: string }) => code);
await using volume = await attach(path, { kms });
// Until the pipe's task has its thread.
await sleep(500);
console.log((await volume.read(0, 1))[0]);
stop.abort();
console.log(await encrypting);
