/** A volume that is a new object or snapshot in a store, of an image that comes in order, once. */
import { native } from '../native.js';
import { beginStored } from '../stores/open.js';
import type { ImageTarget, StoreOptions } from '../stores/store.js';
import { leasePool } from '../workers/pool.js';
import type { EncryptedImage } from './build-volume.js';
import { openHeaderPlace } from './header-place.js';
import type { SourceChunks } from './image-stream.js';
import { moveStream } from './move-stream.js';
import { withToken } from './new-header.js';
import { contextOf, newVolumeKey } from './new-volume-key.js';
import { checkStoredVolume, completed } from './store-volume.js';
import type { JobOptions } from './transform.js';
import type { TargetPlan } from './volume-plan.js';

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
  await using place = await openHeaderPlace(plan);
  const sizeBytes = imageBytes === undefined ? undefined : place.preambleBytes + Math.ceil(imageBytes / sectorBytes) * sectorBytes;
  await using pool = leasePool(plan.logger);
  await using target = await beginStored(volumePath, { sizeBytes, force: output.force, snapshot }, store, job.signal);
  // A length that is not known yet is put right when it is.
  const facts = { path: source.name ?? 'the stream', imageBytes: imageBytes ?? sectorBytes };
  const { key, header: first } = await newVolumeKey({ ...plan, source: facts }, place.target, context, pool, job.signal);
  try {
    const startedMs = performance.now();
    let header = first;
    const preamble = (bytes: number): Buffer => {
      checkSize(bytes);
      if (imageBytes === undefined) header = withToken(key, first, { imageBytes: bytes }, volumePath);
      return place.preamble(header);
    };
    const write: ImageTarget['write'] = (piece, signal) => {
      place.see(piece);
      return target.write(piece, signal);
    };
    const { pieceBytes, checksum } = target;
    const { preambleBytes } = place;
    await moveStream({ pool, key, sectorBytes, source, target: { pieceBytes, checksum, write }, preambleBytes, preamble }, job);
    return await completed({ plan, job, place }, target, header, startedMs, key);
  } finally {
    native.keyWipe(key);
  }
}
