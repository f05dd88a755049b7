/**
 * Which job it is: the same job on the same source is one job, whoever runs it and how often. The id of an encrypted
 * volume comes from it, so that a header tells which job has made it.
 */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import canonicalize from 'canonicalize';
import { openDataFile } from '../output/data-file.js';
import { isStored } from '../stores/location.js';
import type { StoreOptions } from '../stores/store.js';
import { identifySource } from '../transfer/source-watch.js';
import { identityOf, type JobSpec } from './spec.js';

/** The state of a source, as text. Two states of one file or object differ in it; a block device does not tell. */
export async function sourceState(path: string, store?: StoreOptions, signal?: AbortSignal): Promise<string> {
  if (isStored(path)) {
    const { openStored } = await import('../stores/open.js');
    using source = await openStored(path, store, signal);
    const { sizeBytes, state = '' } = source;
    return `object ${sizeBytes} ${state}`;
  }
  await using file = await openDataFile(path, constants.O_RDONLY);
  const { kind, ino, sizeBytes, mtimeNs } = await identifySource(file, file.sizeBytes());
  return `${kind} ${ino} ${sizeBytes} ${mtimeNs}`;
}

/**
 * 64 hexadecimal digits: SHA-256 of the job's canonical form (RFC 8785), the run's name and the source's state.
 * @param run another name makes another job of the same spec
 */
export function jobIdOf(spec: JobSpec, run: string, state: string): string {
  return createHash('sha256')
    .update(canonicalize(['volseal job 1', run, state, identityOf(spec)])!)
    .digest('hex');
}

/** The id of the volume that an encrypting job makes. */
export const volumeIdOfJob = (jobId: string): string => `vol-${jobId.slice(0, 17)}`;
