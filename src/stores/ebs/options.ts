/** What a new snapshot is given, checked before anything is sent. */
import { VolsealError } from '../../errors.js';
import { EBS_DESCRIPTION_CHARS_MAX, EBS_TAG_KEY_CHARS_MAX, EBS_TAG_VALUE_CHARS_MAX, EBS_TAGS_MAX } from '../../limits.js';
import type { SnapshotOptions } from '../store.js';

/** ARN of a key, in any partition; EBS takes aliases as well. */
const KEY_ARN = /^arn:[a-z0-9-]+:kms:[a-z0-9-]+:\d{12}:(key|alias)\/[A-Za-z0-9/_-]+$/;
/** AWS keeps these for itself. */
const RESERVED = /^aws:/i;

/** The members of StartSnapshot that the caller decides. @throws {VolsealError} `ERR_ARGUMENT` */
export function startOptions(name: string, { description, tags = {}, encrypted = false, parent }: SnapshotOptions) {
  const refuse = (what: string): never => {
    throw new VolsealError('ERR_ARGUMENT', `${name}: ${what}`, { details: { path: name } });
  };
  const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
  if (description !== undefined && description.length > EBS_DESCRIPTION_CHARS_MAX)
    refuse(`the description has ${description.length} characters; EBS takes ${EBS_DESCRIPTION_CHARS_MAX}`);
  if (Tags.length > EBS_TAGS_MAX) refuse(`${Tags.length} tags; EBS takes ${EBS_TAGS_MAX}`);
  for (const { Key, Value } of Tags) {
    if (Key === '' || Key.length > EBS_TAG_KEY_CHARS_MAX || RESERVED.test(Key))
      refuse(`the tag key ${JSON.stringify(Key)} is not 1 to ${EBS_TAG_KEY_CHARS_MAX} characters, or begins with aws:`);
    if (Value.length > EBS_TAG_VALUE_CHARS_MAX) refuse(`the value of the tag ${Key} has more than ${EBS_TAG_VALUE_CHARS_MAX} characters`);
  }
  if (typeof encrypted === 'string' && !KEY_ARN.test(encrypted))
    refuse(`${JSON.stringify(encrypted)} is not the ARN of a KMS key, which EBS wants for an encrypted snapshot`);
  if (parent !== undefined && encrypted !== false) refuse('a snapshot with a parent is encrypted as its parent is; leave out the key');
  return {
    ...(parent === undefined ? {} : { ParentSnapshotId: parent }),
    ...(description === undefined ? {} : { Description: description }),
    ...(Tags.length === 0 ? {} : { Tags }),
    ...(encrypted === false ? {} : { Encrypted: true }),
    ...(typeof encrypted === 'string' ? { KmsKeyArn: encrypted } : {}),
  };
}
