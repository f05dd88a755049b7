/**
 * A volume that goes out in order: to a pipe, an uploader, another machine. Its header is in front of the data, as in a
 * file.
 */
import { VolsealError } from '../errors.js';
import { intactHeader } from '../luks2/header.js';
import { headerArea } from '../luks2/store.js';
import { native } from '../native.js';
import type { TargetStream } from '../transfer/image-stream.js';
import { whileUnchanged } from '../transfer/source-watch.js';
import { type JobOptions, transformImage } from '../transfer/transform.js';
import { describeHeader } from '../volume/info.js';
import { claimsOf } from '../volume/volume-file.js';
import { leasePool } from '../workers/pool.js';
import type { EncryptedImage } from './build-volume.js';
import { contextOf, newVolumeKey } from './new-volume-key.js';
import type { VolumePlan } from './volume-plan.js';

/** What a stream cannot do. @throws {VolsealError} `ERR_ARGUMENT` */
function checkOptions({ volumePath, header, allocation, output }: VolumePlan): void {
  const refuse = (why: string): never => {
    throw new VolsealError('ERR_ARGUMENT', `${volumePath}: is a stream: ${why}`);
  };
  if (header !== undefined) refuse('a volume with a detached header is two files; leave out the header option');
  if (allocation === 'sparse') refuse('it has no holes; leave out the sparse option');
  if (output.resume) refuse('it cannot be resumed; leave out the resume option');
}

/**
 * Encrypts an image into a stream that is a volume: header, then data.
 *
 * @throws {VolsealError} as `encryptImage`. What the stream got before a failure it keeps: it is not a complete volume,
 * and the error says so.
 */
export async function streamVolume(plan: VolumePlan, stream: TargetStream, job: JobOptions): Promise<EncryptedImage> {
  checkOptions(plan);
  const { source, sectorBytes, sha256: digest } = plan;
  const { side: from } = source;
  if (from.kind === 'stored')
    throw new VolsealError('ERR_ARGUMENT', `${source.path}: is an object in a store, which goes to a file or another object`);
  const context = contextOf(plan);
  await using pool = leasePool(plan.logger);
  const target = { headerPath: stream.name, placement: 'embedded', allocation: 'full' } as const;
  const { key, header } = await newVolumeKey(plan, target, context, pool, job.signal);
  try {
    const startedMs = performance.now();
    const sizeBytes = Math.ceil(source.imageBytes / sectorBytes) * sectorBytes;
    const side = { kind: 'stream', fd: stream.fd, sizeBytes, preamble: headerArea(header) } as const;
    const paths = { source: source.path, target: stream.name };
    const stopped = `${stream.name} has got a part of the volume`;
    const move = () =>
      transformImage(pool, { key, mode: 'encrypt', sectorBytes, source: from, target: side, startByte: 0, digest }, paths, {
        ...job,
        stopped,
      });
    const { sha256 } = await whileUnchanged(source.file, source.imageBytes, move);
    const info = describeHeader(claimsOf(intactHeader(header), stream.name), {
      ...{ path: stream.name, header: null },
      ...{ allocatedBytes: null, hasHoles: null },
    });
    const made = { ...info, dataSeconds: (performance.now() - startedMs) / 1000 };
    return sha256 === undefined ? made : { ...made, sha256 };
  } finally {
    native.keyWipe(key);
  }
}
