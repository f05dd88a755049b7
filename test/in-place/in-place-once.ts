// node in-place-once.js KIND FILE KMS HEADER|- UNDO|-: one job in place with parts of 1 MiB; prints "done", or the
// error's code and errno.
import { decryptInPlace, encryptInPlace, reencryptInPlace, type VolsealError } from '../../src/index.js';

const [kind, path, kms, header, undo] = process.argv.slice(2) as [string, string, string, string, string];
const options = { kms, header: header === '-' ? undefined : header, undo: undo === 'undo', partBytes: 1024 * 1024 };
const jobs: Readonly<Record<string, (path: string, options: object) => Promise<object>>> = {
  encrypt: encryptInPlace,
  decrypt: decryptInPlace,
  reencrypt: reencryptInPlace,
};
try {
  await jobs[kind]!(path, options);
  console.log('done');
} catch (error) {
  const { code, details } = error as VolsealError;
  console.log(`${code} ${details.errno ?? ''}`.trim());
}
