/** What an incremental snapshot is compared with: its parent, or a file that is known to be the parent's image. */
import { constants } from 'node:fs';
import { VolsealError } from '../../errors.js';
import { EBS_BLOCK_BYTES } from '../../limits.js';
import { openDataFile } from '../../output/data-file.js';
import { snapshotId, snapshotName } from '../../stores/ebs/location.js';
import { fileSource } from '../../stores/file-source.js';
import { openStored } from '../../stores/open.js';
import type { ImageSource, SnapshotOptions, StoreOptions } from '../../stores/store.js';

/** The contents of the parent, while they are open. */
export interface OpenParent extends AsyncDisposable {
  readonly source: ImageSource;
}

/** Blocks of a file that are compared with the parent before the file is believed. */
const SAMPLES = 16;

/**
 * Opens what blocks are compared with. Undefined for a snapshot without a parent.
 * @throws {VolsealError} `ERR_ARGUMENT`, `ERR_IMAGE_DIFFERS` (the file is not the parent's image), `ERR_IO`,
 * `ERR_STORE_*`, `ERR_ABORTED`
 */
export async function openParent(
  { parent, changedAgainst }: SnapshotOptions,
  store: StoreOptions | undefined,
  signal: AbortSignal | undefined,
): Promise<OpenParent | undefined> {
  if (parent === undefined) {
    if (changedAgainst === undefined) return undefined;
    throw new VolsealError('ERR_ARGUMENT', `${changedAgainst}: is compared with for a snapshot that has a parent; name the parent as well`);
  }
  const id = snapshotId(snapshotName(parent));
  const source = await openStored(snapshotName(id), store, signal);
  if (changedAgainst === undefined || changedAgainst === id || changedAgainst === source.name)
    return { source, [Symbol.asyncDispose]: async () => source[Symbol.dispose]() };
  try {
    const file = await openDataFile(changedAgainst, constants.O_RDONLY);
    try {
      const image = fileSource(file, file.sizeBytes());
      await checkSamples(image, source, signal);
      return { source: image, [Symbol.asyncDispose]: () => file.close() };
    } catch (error) {
      await file.close();
      throw error;
    }
  } finally {
    source[Symbol.dispose]();
  }
}

/** Spread over the image, with the first and the last block. */
export async function checkSamples(image: ImageSource, parent: ImageSource, signal: AbortSignal | undefined): Promise<void> {
  const differs = (what: string, details = {}): VolsealError =>
    new VolsealError('ERR_IMAGE_DIFFERS', `${image.name}: is not the image of ${parent.name}: ${what}`, {
      details: { path: image.name, parent: parent.name, ...details },
    });
  if (image.sizeBytes > parent.sizeBytes) throw differs(`it has ${image.sizeBytes} bytes, the snapshot ${parent.sizeBytes}`);
  const lastIndex = Math.max(0, Math.ceil(image.sizeBytes / EBS_BLOCK_BYTES) - 1);
  const indexes = new Set(Array.from({ length: SAMPLES }, (_, sample) => Math.round((sample * lastIndex) / (SAMPLES - 1))));
  for (const index of indexes) {
    const offsetBytes = index * EBS_BLOCK_BYTES;
    const [ours, theirs] = [0, 1].map(() => new Uint8Array(Math.min(EBS_BLOCK_BYTES, image.sizeBytes - offsetBytes))) as [
      Uint8Array,
      Uint8Array,
    ];
    await Promise.all([image.readRange(offsetBytes, ours, signal), parent.readRange(offsetBytes, theirs, signal)]);
    if (!Buffer.from(ours.buffer).equals(theirs)) throw differs(`block ${index} is another one`, { offsetBytes });
  }
}
