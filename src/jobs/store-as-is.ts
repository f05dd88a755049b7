/** A volume as it is, header and ciphertext, into a new object or snapshot. Needs no key and asks no KMS. */
import { VolsealError } from '../errors.js';
import { isSnapshot } from '../stores/ebs-location.js';
import { fileSource } from '../stores/file-source.js';
import { checkStoredName, isStored } from '../stores/location.js';
import { beginStored } from '../stores/open.js';
import type { ImageSource } from '../stores/store.js';
import { withStoredSource } from '../volume/stored-volume.js';
import type { NamedContents } from '../volume/unlock.js';
import { openVolumeFile } from '../volume/volume-file.js';
import { leasePool } from '../workers/pool.js';
import { type DecryptedImage, type DecryptOptions, madeIn } from './decrypt-options.js';
import { movePieces } from './move-pieces.js';
import { openParent } from './snapshot-parent.js';
import { whileUnchanged } from './source-watch.js';
import { checkStoredOptions } from './stored-source.js';

/** @throws {VolsealError} as `decryptImage`, without those of KMS */
export async function storeAsIs(volumePath: string, target: string, options: DecryptOptions): Promise<DecryptedImage> {
  const { sha256 = false, resume = false, sparse = false } = options;
  checkStoredOptions(target, { sha256, resume, sparse: sparse && !isSnapshot(target) });
  checkStoredName(target, 'target');
  if (options.header !== undefined)
    throw new VolsealError(
      'ERR_ARGUMENT',
      `${volumePath}: its header is in another file; only a volume with its header in front is copied`,
      {
        details: { path: volumePath },
      },
    );
  if (isStored(volumePath))
    return await withStoredSource(volumePath, options, (volume) => copy(volume, volume.source, volume.source.sizeBytes, target, options));
  const volume = await openVolumeFile(volumePath, 'shared', undefined);
  try {
    const { data } = volume;
    const sizeBytes = data.sizeBytes();
    return await whileUnchanged(data, sizeBytes, () => copy(volume, fileSource(data, sizeBytes), sizeBytes, target, options));
  } finally {
    await volume.close();
  }
}

async function copy(
  { token, segment }: NamedContents,
  source: ImageSource,
  sizeBytes: number,
  targetName: string,
  options: DecryptOptions,
): Promise<DecryptedImage> {
  const { force = false, sparse = false, snapshot, store, signal } = options;
  const startedMs = performance.now();
  await using parent = await openParent(snapshot ?? {}, store, signal);
  const wanted = { sizeBytes, force, sparse, snapshot, base: parent?.source };
  await using target = await beginStored(targetName, wanted, store, signal);
  await using pool = leasePool(options.logger);
  await movePieces(
    {
      ...{ pool, key: undefined, encrypt: false, sectorBytes: segment.sectorBytes, sparse: false, source, sourceOffsetBytes: 0 },
      ...{ dataBytes: sizeBytes, targetBytes: sizeBytes, pieceBytes: target.pieceBytes, checksum: target.checksum },
      write: (piece, ended) => target.write(piece, ended),
    },
    options,
  );
  await target.complete(signal);
  const { volumeId, imageBytes } = token;
  return { volumeId, ...madeIn(target.name), imageBytes, dataSeconds: (performance.now() - startedMs) / 1000 };
}
