/** What commands take for a new EBS snapshot, and what they say of one. */
import type { Command } from 'commander';
import type { SnapshotOptions } from '../stores/store.js';
import { addPair } from './options.js';

export interface SnapshotFlags {
  description?: string;
  tag?: Readonly<Record<string, string>>;
  snapshotKey?: string;
}

/** The word for the KMS key that EBS takes where its user names none. */
const DEFAULT_KEY = 'default';

/** `--description`, `--tag` and `--snapshot-key`. */
export const withSnapshot = (command: Command): Command =>
  command
    .option('--description <text>', 'with ebs:new: the description of the snapshot')
    .option('--tag <key=value>', 'with ebs:new: a tag of the snapshot; repeatable', addPair)
    .option('--snapshot-key <arn>', `with ebs:new: EBS encrypts the snapshot under this KMS key, or the account's own (${DEFAULT_KEY})`);

/** The library's options. Undefined where none was given. */
export function snapshotOptions({ description, tag: tags, snapshotKey: key }: SnapshotFlags): { snapshot?: SnapshotOptions } {
  if (description === undefined && tags === undefined && key === undefined) return {};
  return { snapshot: { description, tags, encrypted: key === DEFAULT_KEY ? true : key } };
}

/** What a result adds for a new snapshot: EBS goes on for a while, and these APIs do not tell until when. */
export const snapshotLines = ({ snapshotId: id }: { snapshotId?: string }): string[] =>
  id === undefined ? [] : [`it can be read once EBS has completed it: aws ec2 wait snapshot-completed --snapshot-ids ${id}`];
