/**
 * Reads requests from JSON, and reports broken constraints in AWS's wording. (AWS KMS API Reference, "Common Errors";
 * the texts are those that AWS really sends.)
 */
import type * as z from 'zod';
import { parseStrictJson } from '../../../strict-json.js';
import { constraintsBroken, type KmsFault, serialization, unsupported } from '../faults.js';

/** More elements than any list of the API holds. It is checked first, because each broken element costs a message. */
const ELEMENTS_MAX = 1000;
/** More members than any request of the API has. */
const MEMBERS_MAX = 100;
/** Broken constraints that one error names. */
const PROBLEMS_MAX = 20;
/** Characters of a value or of a name that an error repeats. */
const CHARS_SHOWN = 256;

/**
 * The JSON `body` as a request of `schema`.
 * @throws {KmsFault} SerializationException: not JSON, wrong types; ValidationException: broken constraints, in AWS's
 * words; UnsupportedOperationException: a member that the operation does not have
 */
export function parseRequest<Schema extends z.ZodType>(schema: Schema, body: Buffer): z.infer<Schema> {
  const value = parseObject(body);
  const members = Object.entries(value);
  if (members.length > MEMBERS_MAX) throw serialization(`The body has ${members.length} members.`);
  for (const [name, member] of members) {
    if (Array.isArray(member) && member.length > ELEMENTS_MAX) {
      const shown = `Value at '${memberName(name.slice(0, CHARS_SHOWN))}'`;
      throw constraintsBroken([`${shown} failed to satisfy constraint: Member must have length less than or equal to ${ELEMENTS_MAX}`]);
    }
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const { issues } = result.error;
  for (const issue of issues) if (issue.code === 'unrecognized_keys') throw unknownMember([...issue.path, issue.keys[0]!]);
  throw constraintsBroken(issues.slice(0, PROBLEMS_MAX).map((issue) => problemOf(issue, valueAt(value, issue.path))));
}

function parseObject(body: Buffer): object {
  let value: unknown;
  try {
    value = parseStrictJson(body.toString('utf8'));
  } catch (error) {
    const { message } = error as SyntaxError;
    throw serialization(`The body ${message === 'is not JSON' ? 'is not a JSON object' : message}.`);
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw serialization('The body is not a JSON object.');
}

const unknownMember = (path: readonly PropertyKey[]): KmsFault =>
  unsupported(`the request member ${JSON.stringify(path.map(String).join('.').slice(0, CHARS_SHOWN))}`);

const valueAt = (value: unknown, path: readonly PropertyKey[]): unknown =>
  path.reduce<unknown>((inner, step) => (inner as Record<PropertyKey, unknown> | undefined)?.[step], value);

/** `Tags`, 0, `TagKey` -> `tags.1.member.tagKey`, as AWS writes it. */
const pathText = (path: readonly PropertyKey[]): string =>
  path.map((step) => (typeof step === 'number' ? `${step + 1}.member` : memberName(String(step)))).join('.');

const memberName = (name: string): string => `${name.charAt(0).toLowerCase()}${name.slice(1)}`;

function problemOf(issue: z.core.$ZodIssue, value: unknown): string {
  const at = `'${pathText(issue.path)}'`;
  if (issue.code === 'invalid_type' && (value === undefined || value === null)) {
    return `Value null at ${at} failed to satisfy constraint: Member must not be null`;
  }
  // A wrong type is a SerializationException in AWS too.
  if (issue.code === 'invalid_type') throw serialization(`The member ${issue.path.map(String).join('.')} has the wrong type.`);
  // AWS shows no bytes either.
  const shown = issue.path[0] === 'CiphertextBlob' ? 'Value' : `Value '${String(value).slice(0, CHARS_SHOWN)}'`;
  return `${shown} at ${at} failed to satisfy constraint: ${constraintOf(issue)}`;
}

function constraintOf(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'too_small':
      return `Member must have ${measured(issue.origin)} greater than or equal to ${issue.minimum}`;
    case 'too_big':
      return `Member must have ${measured(issue.origin)} less than or equal to ${issue.maximum}`;
    case 'invalid_value':
      return `Member must satisfy enum value set: [${issue.values.join(', ')}]`;
    case 'invalid_format':
      if (issue.message.startsWith('Member must')) return issue.message;
      return `Member must satisfy regular expression pattern: ${(issue.pattern ?? '').replace(/^\/|\/[a-z]*$/g, '')}`;
    default:
      return issue.message;
  }
}

const measured = (origin: string): string => (origin === 'number' || origin === 'int' ? 'value' : 'length');
