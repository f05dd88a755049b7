/** A volume that is a new object or snapshot in a store. */
import { VolsealError } from '../errors.js';
import { EMBEDDED_DATA_OFFSET_BYTES } from '../limits.js';
import { intactHeader } from '../luks2/header.js';
import { headerArea } from '../luks2/store.js';
import { native } from '../native.js';
import { fileSource, zeroSource } from '../stores/file-source.js';
import { checkStoredName } from '../stores/location.js';
import { beginStored } from '../stores/open.js';
import type { ImageSource, StoreOptions } from '../stores/store.js';
import { describeHeader } from '../volume/info.js';
import { claimsOf } from '../volume/volume-file.js';
import { leasePool } from '../workers/pool.js';
import type { EncryptedImage } from './build-volume.js';
import { madeIn } from './decrypt-options.js';
import { movePieces } from './move-pieces.js';
import { contextOf, newVolumeKey } from './new-volume-key.js';
import { whileUnchanged } from './source-watch.js';
import { checkStoredOptions } from './stored-source.js';
import type { JobOptions } from './transform.js';
import type { VolumePlan, VolumeSource } from './volume-plan.js';

/**
 * Encrypts an image into a new object or snapshot that is a volume: header, then data. It appears when it is complete.
 * @throws {VolsealError} as `encryptImage`, and `ERR_STORE_*`. Whatever fails, an object that was there stays
 */
export async function storeVolume(plan: VolumePlan, store: StoreOptions | undefined, job: JobOptions): Promise<EncryptedImage> {
  const { source, volumePath, sectorBytes, allocation, output } = plan;
  checkStoredOptions(volumePath, { sha256: plan.sha256, resume: output.resume === true, sparse: allocation === 'sparse' });
  if (plan.header !== undefined)
    throw new VolsealError('ERR_ARGUMENT', `${volumePath}: is one piece, which has its header in front; leave out the header option`);
  if (plan.snapshot?.parent !== undefined || plan.snapshot?.changedAgainst !== undefined)
    throw new VolsealError('ERR_ARGUMENT', `${volumePath}: a new volume has a new key, so that every block differs; leave out the parent`, {
      details: { path: volumePath },
    });
  const from = sourceOf(source);
  checkStoredName(volumePath, 'target');
  const context = contextOf(plan);
  await using pool = leasePool(plan.logger);
  const sizeBytes = Math.ceil(source.imageBytes / sectorBytes) * sectorBytes;
  const draft = { headerPath: volumePath, placement: 'embedded', allocation: 'full' } as const;
  // Before KMS is asked: a mistake should cost nothing. The area's length is always the same.
  const wanted = { sizeBytes: EMBEDDED_DATA_OFFSET_BYTES + sizeBytes, force: output.force, snapshot: plan.snapshot };
  await using target = await beginStored(volumePath, wanted, store, job.signal);
  const { key, header } = await newVolumeKey(plan, draft, context, pool, job.signal);
  try {
    const startedMs = performance.now();
    const preamble = headerArea(header);
    const move = () =>
      movePieces(
        {
          ...{ pool, key, encrypt: true, sectorBytes, sparse: false, source: from, sourceOffsetBytes: 0, preamble },
          ...{ dataBytes: source.imageBytes, pieceBytes: target.pieceBytes, targetBytes: preamble.length + sizeBytes },
          checksum: target.checksum,
          write: (piece, signal) => target.write(piece, signal),
        },
        job,
      );
    await (source.file === undefined ? move() : whileUnchanged(source.file, source.fileBytes ?? source.imageBytes, move));
    await output.beforePublish?.();
    await target.complete(job.signal);
    const info = describeHeader(claimsOf(intactHeader(header), volumePath), {
      ...{ path: target.name, header: null },
      ...{ allocatedBytes: null, hasHoles: null },
    });
    return { ...info, ...madeIn(target.name), dataSeconds: (performance.now() - startedMs) / 1000 };
  } finally {
    native.keyWipe(key);
  }
}

function sourceOf({ side, file, path, imageBytes }: VolumeSource): ImageSource {
  if (side.kind === 'stored') return side.source;
  if (side.kind === 'zeros') return zeroSource(path, imageBytes);
  if (file !== undefined && side.kind === 'file' && side.offsetBytes === 0) return fileSource(file, imageBytes);
  throw new VolsealError('ERR_ARGUMENT', `${path}: is not read in ranges, as an upload needs it; save it to a file first`);
}
