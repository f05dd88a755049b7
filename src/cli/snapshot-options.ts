/** What commands take for a new EBS snapshot, and what they say of one. */
import type { Command } from 'commander';
import type { SnapshotOptions } from '../stores/store.js';
import { addPair } from './options.js';

export interface SnapshotFlags {
  description?: string;
  tag?: Readonly<Record<string, string>>;
  snapshotKey?: string;
  parent?: string;
  changedAgainst?: string;
}

/** The word for the KMS key that EBS takes where its user names none. */
const DEFAULT_KEY = 'default';

/** `--description`, `--tag` and `--snapshot-key`. */
export const withSnapshot = (command: Command): Command =>
  command
    .option('--description <text>', 'with ebs:new: the description of the snapshot')
    .option('--tag <key=value>', 'with ebs:new: a tag of the snapshot; repeatable', addPair)
    .option('--snapshot-key <arn>', `with ebs:new: EBS encrypts the snapshot under this KMS key, or the account's own (${DEFAULT_KEY})`);

/** `--parent` and `--changed-against`. */
export const withParent = (command: Command): Command =>
  command
    .option('--parent <snapshot>', 'with ebs:new: write only blocks that differ from this snapshot (snap-...)')
    .option('--changed-against <image>', "with --parent: a file with the parent's image, which is then not read as a whole");

/** The library's options. Undefined where none was given. */
export function snapshotOptions({ description, tag: tags, snapshotKey, parent, changedAgainst }: SnapshotFlags): {
  snapshot?: SnapshotOptions;
} {
  const encrypted = snapshotKey === DEFAULT_KEY ? true : snapshotKey;
  const snapshot = { description, tags, encrypted, parent, changedAgainst };
  return Object.values(snapshot).every((value) => value === undefined) ? {} : { snapshot };
}

/** What a result adds for a new snapshot: EBS goes on for a while, and these APIs do not tell until when. */
export const snapshotLines = ({ snapshotId: id }: { snapshotId?: string }): string[] =>
  id === undefined ? [] : [`it can be read once EBS has completed it: aws ec2 wait snapshot-completed --snapshot-ids ${id}`];
