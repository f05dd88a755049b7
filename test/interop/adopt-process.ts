// node adopt-process.js VOLUME KMS PASSPHRASE-FILE: adopts the volume, prints "adopted", and waits for a line.
import { once } from 'node:events';
import { adoptVolume } from '../../src/index.js';

const [volume, kms, passphraseFile] = process.argv.slice(2) as [string, string, string];
await adoptVolume(volume, { kms, passphraseFile });
console.log('adopted');
await once(process.stdin, 'data');
process.exit(0);
