/** Operations on the tags of keys. (AWS KMS API Reference; the texts of TagException are AWS's.) */
import { KMS_TAGS_MAX } from '../../../limits.js';
import { KmsFault } from '../faults.js';
import { keyByIdOrArn } from '../keys/access.js';
import { tagConditions } from '../policy/request-conditions.js';
import type { KeyRecord } from '../store/records.js';
import { changeOperation, readOperation } from './define.js';
import { paged, pageOf } from './paging.js';
import * as requests from './requests.js';

type Tags = NonNullable<KeyRecord['tags']>;

const tagResource = changeOperation(requests.tagResourceRequest, (call, { KeyId, Tags }) => {
  const key = keyByIdOrArn(call, { action: 'TagResource', conditions: tagConditions(Tags) }, KeyId);
  checkTags(Tags);
  const kept = (key.tags ?? []).filter(({ TagKey }) => !Tags.some((tag) => tag.TagKey === TagKey));
  const tags = [...kept, ...Tags];
  checkTags(tags);
  call.store.putKey({ ...key, tags });
  return { body: {} };
});

const untagResource = changeOperation(requests.untagResourceRequest, (call, { KeyId, TagKeys }) => {
  const key = keyByIdOrArn(call, { action: 'UntagResource', conditions: { 'aws:TagKeys': TagKeys } }, KeyId);
  call.store.putKey({ ...key, tags: (key.tags ?? []).filter(({ TagKey }) => !TagKeys.includes(TagKey)) });
  return { body: {} };
});

const listResourceTags = readOperation(requests.listResourceTagsRequest, (call, request) => {
  const { tags = [] } = keyByIdOrArn(call, { action: 'ListResourceTags' }, request.KeyId);
  const page = pageOf(request, 50);
  const found = [...tags].sort((a, b) => (a.TagKey < b.TagKey ? -1 : 1)).filter(({ TagKey }) => TagKey > page.after);
  return {
    body: paged(
      page,
      'Tags',
      found,
      ({ TagKey }) => TagKey,
      (tag) => tag,
    ),
  };
});

/** @throws {KmsFault} TagException */
export function checkTags(tags: Tags): void {
  const fail = (message: string): never => {
    throw new KmsFault('TagException', message);
  };
  if (new Set(tags.map(({ TagKey }) => TagKey)).size < tags.length) fail('Duplicate tag keys');
  if (tags.length > KMS_TAGS_MAX) fail('Too many tags');
  if (tags.some(({ TagKey }) => TagKey.toLowerCase().startsWith('aws:'))) fail('Tags beginning with aws: are reserved');
}

export const TAG_API = { ListResourceTags: listResourceTags, TagResource: tagResource, UntagResource: untagResource };
