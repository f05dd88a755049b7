import { fakeKms } from 'volseal/testing';
import { type Logger, attach, encryptImage, VolsealError, type ErrorCode, type Volume, kernels, useKernel, describeVolume } from 'volseal';

const logger: Logger = { debug() {}, info() {}, warn() {}, error() {} };

export async function tested(): Promise<number> {
  await using kms = await fakeKms();
  await encryptImage('a', 'b', { ...kms.options, logger });
  // @ts-expect-error no credentials
  await attach('b', { kmsAccess: { credentials: 'AKID' } });
  kms.fail('Decrypt', 'AccessDeniedException')();
  return kms.calls.length;
}

export async function use(signal: AbortSignal): Promise<number> {
  const made = await encryptImage('a', 'b', { encryptionContext: { user: 'alice' } });
  await using volume: Volume = await attach('b', { encryptionContext: { user: 'alice' }, signal });
  await volume.write(4096, Buffer.from('any'));
  const bytes: Uint8Array = await volume.read(0, 10);
  const code: ErrorCode = 'ERR_IO';
  // @ts-expect-error there is no such code
  const wrong: ErrorCode = 'ERR_NONE';
  // @ts-expect-error a path is a string
  await describeVolume(1);
  // @ts-expect-error no kernel's name
  useKernel('nonsense');
  console.log(code, wrong, kernels().length, new VolsealError('ERR_IO', 'x').retryable);
  return bytes.length + made.sizeBytes;
}
