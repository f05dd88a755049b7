/**
 * Amazon Resource Names: `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`. The only module that takes them apart or puts
 * them together. (AWS IAM User Guide, "Identify AWS resources with Amazon Resource Names (ARNs)".)
 */

/** The parts of an ARN. `region` and `accountId` are empty where a service has none, as in the ARNs of IAM. */
export interface Arn {
  /** `aws`, `aws-cn`, `aws-us-gov` ... */
  readonly partition: string;
  /** `kms`, `iam`, `sts` ... */
  readonly service: string;
  readonly region: string;
  readonly accountId: string;
  /** Everything after the fifth colon, further colons included: `key/UUID`, `alias/NAME`, `role/NAME`. */
  readonly resource: string;
}

/** The ARN of a KMS key. */
export interface KeyArn extends Arn {
  /** A UUID; a key of several regions has `mrk-` and 32 hexadecimal digits. */
  readonly keyId: string;
}

/**
 * `text` cut at its first five colons; the sixth part keeps all others. An ARN pattern of a policy has six parts as
 * well.
 */
export function arnParts(text: string): string[] {
  const parts = text.split(':');
  return parts.length <= 6 ? parts : [...parts.slice(0, 5), parts.slice(5).join(':')];
}

/**
 * The parts of an ARN; undefined where `text` is none: no `arn:`, fewer than six parts, no partition, service or
 * resource.
 */
export function parseArn(text: string): Arn | undefined {
  const [arn, partition, service, region, accountId, resource] = arnParts(text);
  if (arn !== 'arn' || !partition || !service || region === undefined || accountId === undefined || !resource) return undefined;
  return { partition, service, region, accountId, resource };
}

/** The inverse of `parseArn`. */
export const formatArn = ({ partition, service, region, accountId, resource }: Arn): string =>
  ['arn', partition, service, region, accountId, resource].join(':');

/** Whether `text` claims to be an ARN. What claims it and is none, KMS refuses with an error of its own. */
export const looksLikeArn = (text: string): boolean => text.startsWith('arn:');

/** An ARN of KMS, of a key or of an alias; undefined for everything else, also for a plain key id or alias. */
export function parseKmsArn(text: string): Arn | undefined {
  const arn = parseArn(text);
  return arn?.service === 'kms' ? arn : undefined;
}

const KEY_ARN = /^arn:[a-z-]{1,32}:kms:[a-z0-9-]{1,64}:\d{12}:key\/([A-Za-z0-9-]{1,128})$/;

/**
 * The ARN of a KMS key, strictly: lengths and characters of each part are bounded. Undefined for everything else,
 * aliases included.
 */
export function parseKeyArn(text: string): KeyArn | undefined {
  const keyId = KEY_ARN.exec(text)?.[1];
  const arn = parseArn(text);
  return keyId === undefined || arn === undefined ? undefined : { ...arn, keyId };
}

const KEY_ID = /^(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$/;

/** Whether `text` is the id of a KMS key: a UUID, or `mrk-` and 32 hexadecimal digits. */
export const isKeyId = (text: string): boolean => KEY_ID.test(text);

/** Whether `text` is the ARN of a KMS key, as `parseKeyArn` reads it. */
export const isKeyArn = (text: string): boolean => KEY_ARN.test(text);
