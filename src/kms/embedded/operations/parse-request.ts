/**
 * Reads requests from JSON, and reports broken constraints in AWS's wording. (AWS KMS API Reference, "Common Errors"; the texts are those
 * that AWS really sends.)
 */
import type * as z from 'zod';
import { constraintsBroken, serialization } from '../faults.js';

/**
 * The JSON `body` as a request of `schema`.
 * @throws {KmsFault} SerializationException: not JSON, wrong types; ValidationException: all broken constraints, in AWS's words
 */
export function parseRequest<Schema extends z.ZodType>(schema: Schema, body: Buffer): z.infer<Schema> {
  const value = parseObject(body);
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw constraintsBroken(result.error.issues.map((issue) => problemOf(issue, valueAt(value, issue.path))));
}

function parseObject(body: Buffer): unknown {
  try {
    const value: unknown = JSON.parse(body.toString('utf8'));
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  } catch {
    // The message of the JSON parser quotes the body, so it is not used.
  }
  throw serialization('The body is not a JSON object.');
}

const valueAt = (value: unknown, path: readonly PropertyKey[]): unknown =>
  path.reduce<unknown>((inner, step) => (inner as Record<PropertyKey, unknown> | undefined)?.[step], value);

const VALUE_CHARS_SHOWN = 256;

function problemOf(issue: z.core.$ZodIssue, value: unknown): string {
  const [member = '', index] = issue.path.map(String);
  const at = `'${member.charAt(0).toLowerCase()}${member.slice(1)}${index === undefined ? '' : `.${Number(index) + 1}.member`}'`;
  if (issue.code === 'invalid_type' && (value === undefined || value === null)) {
    return `Value null at ${at} failed to satisfy constraint: Member must not be null`;
  }
  // A wrong type is a SerializationException in AWS too.
  if (issue.code === 'invalid_type') throw serialization(`The member ${member} has the wrong type.`);
  // AWS shows no bytes either.
  const shown = member === 'CiphertextBlob' ? 'Value' : `Value '${String(value).slice(0, VALUE_CHARS_SHOWN)}'`;
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
      return `Member must satisfy regular expression pattern: ${(issue.pattern ?? '').replace(/^\/|\/[a-z]*$/g, '')}`;
    default:
      return issue.message;
  }
}

const measured = (origin: string): string => (origin === 'number' || origin === 'int' ? 'value' : 'length');
