/** A volume that is a new object or snapshot in a store, of an image that comes in order, once. */
import { native } from '../../native.js';
import { beginStored } from '../../stores/open.js';
import type { ImageTarget, StoreOptions } from '../../stores/store.js';
import type { SourceChunks } from '../../transfer/image-stream.js';
import { moveStream } from '../../transfer/move-stream.js';
import type { JobOptions } from '../../transfer/transform.js';
import { leasePool } from '../../workers/pool.js';
import type { EncryptedImage } from '../build-volume.js';
import { openHeaderOutput } from '../header-output.js';
import { withToken } from '../new-header.js';
import { contextOf, newVolumeKey } from '../new-volume-key.js';
import type { TargetPlan } from '../volume-plan.js';
import { checkStoredVolume, completed } from './store-volume.js';

/**
 * Encrypts a stream into a new object or snapshot that is a volume. The header goes in the first piece, which is sent
 * last where the length of the image is not known before.
 * @param checkSize throws where a volume cannot have an image of this length
 * @throws {VolsealError} as `encryptImage`. Whatever fails, an object that was there stays
 */
export async function storeStream(
  plan: TargetPlan,
  source: SourceChunks,
  checkSize: (imageBytes: number) => void,
  store: StoreOptions | undefined,
  job: JobOptions,
): Promise<EncryptedImage> {
  const { volumePath, sectorBytes, output, snapshot } = plan;
  checkStoredVolume(plan);
  // Before KMS is asked: a mistake should cost nothing.
  const context = contextOf(plan);
  const { sizeBytes: imageBytes } = source;
  await using headerOutput = await openHeaderOutput(plan);
  const sizeBytes = imageBytes === undefined ? undefined : headerOutput.preambleBytes + Math.ceil(imageBytes / sectorBytes) * sectorBytes;
  await using pool = leasePool(plan.logger);
  await using target = await beginStored(volumePath, { sizeBytes, force: output.force, snapshot }, store, job.signal);
  // A length that is not known yet is put right when it is.
  const facts = { path: source.name ?? 'the stream', imageBytes: imageBytes ?? sectorBytes };
  const { key, header: first } = await newVolumeKey({ ...plan, source: facts }, headerOutput.target, context, pool, job.signal);
  try {
    const startedMs = performance.now();
    let header = first;
    const preamble = (bytes: number): Buffer => {
      checkSize(bytes);
      if (imageBytes === undefined) header = withToken(key, first, { imageBytes: bytes }, volumePath);
      return headerOutput.preamble(header);
    };
    const write: ImageTarget['write'] = (piece, signal) => {
      headerOutput.see(piece);
      return target.write(piece, signal);
    };
    const { pieceBytes, checksum } = target;
    const { preambleBytes } = headerOutput;
    await moveStream({ pool, key, sectorBytes, source, target: { pieceBytes, checksum, write }, preambleBytes, preamble }, job);
    return await completed({ plan, job, headerOutput }, target, header, startedMs, key);
  } finally {
    native.keyWipe(key);
  }
}
