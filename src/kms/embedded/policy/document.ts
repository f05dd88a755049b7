/**
 * Policy documents: their grammar, checked. (IAM User Guide, "Grammar of the IAM JSON policy language".)
 *
 * Whatever would change the meaning of a policy if it were ignored is refused: NotPrincipal, unknown members, unknown
 * operators, condition keys that this KMS does not supply, policy variables.
 */
import * as z from 'zod';
import { parseStrictJson } from '../../../strict-json.js';
import { looksLikeArn, parseKmsArn } from '../../shared/arn.js';
import { KmsFault } from '../faults.js';
import { isPrincipal } from './caller.js';
import { COMPARES_EACH, type Condition, readCondition } from './conditions.js';
import { matches } from './patterns.js';

export interface PolicyStatement {
  readonly effect: 'Allow' | 'Deny';
  /** The principals it names: `*`, ARNs, service names; undefined in identity policies. */
  readonly principals: readonly string[] | undefined;
  /** Patterns with `*` and `?`; with `not`, everything that they do not match. */
  readonly actions: Patterns;
  readonly resources: Patterns;
  /** All of them must hold. */
  readonly conditions: readonly Condition[];
}

export interface Patterns {
  readonly not: boolean;
  readonly patterns: readonly string[];
}

export type PolicyDocument = readonly PolicyStatement[];

const texts = z.union([
  z
    .string()
    .min(1)
    .transform((text) => [text]),
  z.array(z.string().min(1)).min(1),
]);
const values = z.union([
  z.union([z.string(), z.boolean(), z.number()]).transform((value) => [String(value)]),
  z.array(z.union([z.string(), z.boolean(), z.number()]).transform(String)),
]);
const principals = z.union([
  z.literal('*').transform(() => ['*']),
  z.strictObject({ AWS: texts.optional(), Service: texts.optional() }).transform(({ AWS = [], Service = [] }) => [...AWS, ...Service]),
]);
const statement = z.strictObject({
  Sid: z.string().optional(),
  Effect: z.enum(['Allow', 'Deny']),
  Principal: principals.optional(),
  Action: texts.optional(),
  NotAction: texts.optional(),
  Resource: texts.optional(),
  NotResource: texts.optional(),
  Condition: z.record(z.string(), z.record(z.string(), values)).optional(),
});
const document = z.strictObject({
  Version: z.enum(['2012-10-17', '2008-10-17']).optional(),
  Id: z.string().optional(),
  Statement: z.preprocess((value) => (Array.isArray(value) ? value : [value]), z.array(statement).min(1)),
});

/** Problems that one error names. */
const ISSUES_SHOWN = 5;
/** A request may have thousands of values (the keys of its context), and each is compared with each of these. */
const COMPARISONS_MAX = 500;

/**
 * Reads the JSON text of a policy.
 * @param kind Statements of a `key` policy name principals; those of an `identity` policy belong to a principal and
 * name none.
 * @throws {KmsFault} MalformedPolicyDocumentException that says what is wrong
 */
export function parsePolicy(text: string, kind: 'key' | 'identity'): PolicyDocument {
  const result = document.safeParse(parseJson(text));
  if (!result.success) {
    const issues = result.error.issues.slice(0, ISSUES_SHOWN);
    throw malformed(issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; '));
  }
  const { Statement } = result.data;
  const comparisons = Statement.flatMap(({ Condition = {} }) => Object.entries(Condition))
    .filter(([operator]) => COMPARES_EACH.test(operator))
    .reduce((sum, [, keys]) => sum + Object.values(keys).reduce((count, wanted) => count + wanted.length, 0), 0);
  if (comparisons > COMPARISONS_MAX) {
    throw malformed(`its conditions have ${comparisons} patterns, numbers, dates and ARNs; at most ${COMPARISONS_MAX} are evaluated`);
  }
  return Statement.map((one, index) => readStatement(one, `Statement.${index}`, kind));
}

function parseJson(text: string): unknown {
  try {
    return parseStrictJson(text);
  } catch (error) {
    throw malformed(`it ${(error as SyntaxError).message}`);
  }
}

function readStatement(one: z.infer<typeof statement>, at: string, kind: 'key' | 'identity'): PolicyStatement {
  if ((one.Principal !== undefined) !== (kind === 'key')) {
    throw malformed(`${at}: ${kind === 'key' ? 'a key policy needs a Principal' : 'an identity policy has no Principal'}`);
  }
  const principals = one.Principal?.map((name) => {
    if (name === '*') return name;
    const arn = /^\d{12}$/.test(name) ? `arn:aws:iam::${name}:root` : name;
    if (!isPrincipal(arn)) throw malformed(`${at}.Principal: ${JSON.stringify(name)} is no principal`);
    return arn;
  });
  const conditions = Object.entries(one.Condition ?? {}).flatMap(([operator, keys]) =>
    Object.entries(keys).map(([key, wanted]) => readCondition(one.Effect, operator, key, wanted, `${at}.Condition`)),
  );
  const resources = patternsOf(one.Resource, one.NotResource, `${at}: Resource`);
  for (const resource of one.Resource ?? []) checkResource(resource, one.Action ?? [], `${at}.Resource`);
  return {
    effect: one.Effect,
    principals,
    actions: patternsOf(one.Action, one.NotAction, `${at}: Action`),
    resources,
    conditions,
  };
}

const ALIAS_ACTIONS = ['kms:createalias', 'kms:updatealias', 'kms:deletealias'];

/** Refuses a resource that no request can have. (IAM User Guide, "Resource": an ARN or `*`.) */
function checkResource(resource: string, actions: readonly string[], at: string): void {
  if (!looksLikeArn(resource) && !/^[*?]/.test(resource)) {
    throw malformed(`${at}: ${JSON.stringify(resource)} must be an ARN or "*"`);
  }
  const isOfAlias = parseKmsArn(resource)?.resource.startsWith('alias/') === true;
  if (!isOfAlias || ALIAS_ACTIONS.some((name) => actions.some((action) => matches(action.toLowerCase(), name)))) return;
  throw malformed(
    `${at}: ${JSON.stringify(resource)} names an alias: only the operations on the alias itself match it; name the key's ARN`,
  );
}

function patternsOf(are: string[] | undefined, areNot: string[] | undefined, what: string): Patterns {
  if ((are === undefined) === (areNot === undefined)) throw malformed(`${what} or its opposite is needed, and not both`);
  const patterns = are ?? areNot!;
  const variable = patterns.find((pattern) => pattern.includes('${'));
  if (variable !== undefined) throw malformed(`${what}: policy variables are not supported: ${variable}`);
  return { not: are === undefined, patterns };
}

const malformed = (problem: string): KmsFault =>
  new KmsFault('MalformedPolicyDocumentException', `The policy document is malformed: ${problem}`);
