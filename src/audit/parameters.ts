/**
 * What a record shows of a request or a reply of the KMS API. Only members that are named here are shown, in the type
 * that the API gives them: whatever else a request carries (a plaintext under a misspelt name, for instance) never
 * reaches the log.
 */
import { AUDIT_PARAMETERS_BYTES_MAX, AUDIT_REFUSED_PARAMETERS_BYTES_MAX, AUDIT_TEXT_CHARS_MAX } from '../limits.js';

/** The value as a record shows it; undefined: not shown. */
type Show = (value: unknown) => unknown;
type Members = Readonly<Record<string, Show>>;

const text: Show = (value) => (typeof value === 'string' ? value : undefined);
const number: Show = (value) => (typeof value === 'number' ? value : undefined);
const flag: Show = (value) => (typeof value === 'boolean' ? value : undefined);
/** Seconds since 1970 on the wire, a Date in the SDK. */
const time: Show = (value) => (value instanceof Date ? value.getTime() / 1000 : number(value));
const listOf =
  (show: Show): Show =>
  (value) =>
    Array.isArray(value) ? value.map(show).filter((item) => item !== undefined) : undefined;
/** An object whose names are the user's. */
const pairs: Show = (value) =>
  isObject(value) ? Object.fromEntries(Object.entries(value).filter(([, item]) => typeof item === 'string')) : undefined;
const object =
  (members: Members): Show =>
  (value) =>
    isObject(value) ? shown(value, members) : undefined;

const TEXTS = [
  'AWSAccountId AliasName Arn CurrentKeyMaterialId CustomKeyStoreId CustomerMasterKeySpec Description DestinationEncryptionAlgorithm',
  'DestinationKeyId DestinationKeyMaterialId EncryptionAlgorithm ExpirationModel GrantId GranteePrincipal GranteeServicePrincipal',
  'IncludeKeyMaterial KeyId KeyManager KeyMaterialId KeyPairSpec KeySpec KeyState KeyUsage Marker Name NextMarker Origin Policy',
  'PolicyName RetiringPrincipal RetiringServicePrincipal SourceArn SourceEncryptionAlgorithm SourceKeyId SourceKeyMaterialId',
  'TargetKeyId XksKeyId',
];
const NUMBERS = 'Limit NumberOfBytes PendingDeletionWindowInDays PendingWindowInDays RotationPeriodInDays';
const FLAGS = 'BypassPolicyLockoutSafetyCheck DryRun Enabled KeyRotationEnabled MultiRegion Truncated';
const TIMES = 'CreationDate DeletionDate NextRotationDate OnDemandRotationStartDate ValidTo';

const namesIn = (list: string, show: Show): [string, Show][] => list.split(' ').map((name) => [name, show]);

const PLAIN: Members = Object.fromEntries([
  ...namesIn(TEXTS.join(' '), text),
  ...namesIn(NUMBERS, number),
  ...namesIn(FLAGS, flag),
  ...namesIn(TIMES, time),
  ...namesIn('DryRunModifiers EncryptionAlgorithms Operations PolicyNames TagKeys', listOf(text)),
]);

const MEMBERS: Members = {
  ...PLAIN,
  ...Object.fromEntries(namesIn('DestinationEncryptionContext EncryptionContext SourceEncryptionContext', pairs)),
  Constraints: object({ EncryptionContextEquals: pairs, EncryptionContextSubset: pairs, SourceArn: text }),
  KeyMetadata: object(PLAIN),
  // CloudTrail writes the names of a tag in lower case as well.
  Tags: listOf(object({ TagKey: text, TagValue: text })),
};

/**
 * The members of a request or a reply, in CloudTrail's lower camel case. Where they are too long together, the long
 * ones are replaced by their sizes.
 * @param isRefused the call was refused
 */
export function shownParameters(members: object, isRefused = false): Record<string, unknown> {
  const parameters = shown(members, MEMBERS);
  const bytesMax = isRefused ? AUDIT_REFUSED_PARAMETERS_BYTES_MAX : AUDIT_PARAMETERS_BYTES_MAX;
  if (sizeOf(parameters) <= bytesMax) return parameters;
  const short = Object.entries(parameters).map(([name, value]) => {
    const originalSize = sizeOf(value);
    return [name, originalSize > AUDIT_TEXT_CHARS_MAX ? { omitted: true, originalSize } : value];
  });
  const reduced = Object.fromEntries(short);
  return sizeOf(reduced) <= bytesMax ? reduced : { omitted: true, originalSize: sizeOf(parameters) };
}

const sizeOf = (value: unknown): number => Buffer.byteLength(JSON.stringify(value));

/** A text of a caller, at the length that a record repeats. */
export const shortened = (value: string): string =>
  value.length <= AUDIT_TEXT_CHARS_MAX ? value : `${value.slice(0, AUDIT_TEXT_CHARS_MAX)}... (${value.length} characters)`;

function shown(value: object, members: Members): Record<string, unknown> {
  const entries = Object.entries(value).map(([name, item]) => [
    `${name.charAt(0).toLowerCase()}${name.slice(1)}`,
    Object.hasOwn(members, name) ? members[name]!(item) : undefined,
  ]);
  return Object.fromEntries(entries.filter(([, item]) => item !== undefined));
}

const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null && !Array.isArray(value);
