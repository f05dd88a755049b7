/** Names of EBS snapshots: `ebs:snap-...` for one that is there, `ebs:new` for one to make. */
import { VolsealError } from '../../errors.js';
import type { SnapshotOptions } from '../store.js';

const SCHEME = 'ebs:';
const NEW = 'new';
/** As EC2 gives them: 8 digits until 2016, 17 since. */
const SNAPSHOT = /^snap-(?:[0-9a-f]{8}|[0-9a-f]{17})$/;

/** Whether a path names a snapshot instead of a file. */
export const isSnapshot = (path: string): boolean => path.startsWith(SCHEME);

/** The name of a snapshot by its id: what commands take. */
export const snapshotName = (snapshotId: string): string => `${SCHEME}${snapshotId}`;

/** The id in the name of a target that was begun; undefined for an object. */
export const idOf = (name: string): string | undefined => (isSnapshot(name) ? name.slice(SCHEME.length) : undefined);

/** The id in `ebs:snap-...`. @throws {VolsealError} `ERR_ARGUMENT` */
export function snapshotId(name: string): string {
  const id = name.slice(SCHEME.length);
  if (SNAPSHOT.test(id)) return id;
  const why = id === NEW ? 'is a snapshot to make, which cannot be read' : 'does not name a snapshot';
  throw new VolsealError('ERR_ARGUMENT', `${name}: ${why}; expected ebs:snap- and 17 hexadecimal digits`, { details: { path: name } });
}

/** @throws {VolsealError} `ERR_ARGUMENT` a target other than `ebs:new` */
export function checkNewSnapshot(name: string): void {
  if (name === SCHEME + NEW) return;
  const why = SNAPSHOT.test(name.slice(SCHEME.length)) ? 'a snapshot that is complete cannot be changed' : 'does not name a snapshot';
  throw new VolsealError('ERR_ARGUMENT', `${name}: ${why}; a new one is ebs:new, and EBS gives it its id`, { details: { path: name } });
}

/** @throws {VolsealError} `ERR_ARGUMENT` options of a snapshot for a target that is none */
export function refuseSnapshotOptions(name: string, options: SnapshotOptions | undefined): void {
  if (isSnapshot(name) || Object.values(options ?? {}).every((value) => value === undefined)) return;
  throw new VolsealError('ERR_ARGUMENT', `${name}: description, tags and key are those of a new snapshot (ebs:new)`, {
    details: { path: name },
  });
}
