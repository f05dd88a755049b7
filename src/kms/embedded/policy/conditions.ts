/**
 * Conditions of policy statements. (IAM User Guide, "IAM JSON policy elements: Condition operators", "Conditions with
 * multiple context keys or values", "Multivalued context keys".)
 */

import { BlockList, isIP } from 'node:net';
import { arnParts } from '../../shared/arn.js';
import { KmsFault } from '../faults.js';
import { isConditionKey } from './condition-keys.js';
import { matcherOf } from './patterns.js';

/** The values of a request by condition key in lower case. A key that is absent is not in the map. */
export type ConditionValues = ReadonlyMap<string, readonly string[]>;

/** Operators that compare each value of a request with each value of the policy. */
export const COMPARES_EACH = /Like|Arn|Numeric|Date/;

/** Whether the condition holds for a request. */
export type Condition = (request: ConditionValues) => boolean;

interface Operator {
  /**
   * Whether a value of the request fits one of the values of the policy. What can be prepared for many values is
   * prepared once.
   */
  readonly prepare: (wanted: readonly string[]) => (value: string) => boolean;
  /** Whether a value in a policy has the form that the operator needs. */
  readonly accepts: (wanted: string) => boolean;
  /** The operator holds where the comparison holds with none of the wanted values. */
  readonly negated?: true;
}

const anyText = (): boolean => true;
const timeOf = (text: string): number => (/^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text));
const isNumber = (text: string): boolean => text.trim() !== '' && Number.isFinite(Number(text));
const isTime = (text: string): boolean => !Number.isNaN(timeOf(text));

/** Compares with one wanted value after the other; `read` prepares each of them once. */
const oneByOne =
  <Wanted>(read: (wanted: string) => Wanted, compare: (value: string, wanted: Wanted) => boolean): Operator['prepare'] =>
  (texts) => {
    const wanted = texts.map(read);
    return (value) => wanted.some((one) => compare(value, one));
  };
const numeric = (compare: (value: number, wanted: number) => boolean): Operator => ({
  prepare: oneByOne(Number, (value, wanted) => isNumber(value) && compare(Number(value), wanted)),
  accepts: isNumber,
});
const date = (compare: (value: number, wanted: number) => boolean): Operator => ({
  prepare: oneByOne(timeOf, (value, wanted) => isTime(value) && compare(timeOf(value), wanted)),
  accepts: isTime,
});
const not = (operator: Operator): Operator => ({ ...operator, negated: true });

const oneOf = (wanted: readonly string[]): ((value: string) => boolean) => {
  const values = new Set(wanted);
  return (value) => values.has(value);
};
const ignoringCase = (wanted: readonly string[]): ((value: string) => boolean) => {
  const holds = oneOf(wanted.map((one) => one.toLowerCase()));
  return (value) => holds(value.toLowerCase());
};
const same: Operator = { prepare: oneOf, accepts: anyText };
const sameIgnoringCase: Operator = { prepare: ignoringCase, accepts: anyText };
const like: Operator = { prepare: oneByOne(matcherOf, (value, matches) => matches(value)), accepts: anyText };
const arn: Operator = {
  prepare: oneByOne(arnMatcherOf, (value, matches) => matches(value)),
  accepts: (wanted) => wanted === '*' || arnParts(wanted).length === 6,
};
const ip: Operator = { prepare: inRanges, accepts: isRange };

const OPERATORS: Readonly<Record<string, Operator>> = {
  StringEquals: same,
  StringNotEquals: not(same),
  StringEqualsIgnoreCase: sameIgnoringCase,
  StringNotEqualsIgnoreCase: not(sameIgnoringCase),
  StringLike: like,
  StringNotLike: not(like),
  NumericEquals: numeric((value, wanted) => value === wanted),
  NumericNotEquals: not(numeric((value, wanted) => value === wanted)),
  NumericLessThan: numeric((value, wanted) => value < wanted),
  NumericLessThanEquals: numeric((value, wanted) => value <= wanted),
  NumericGreaterThan: numeric((value, wanted) => value > wanted),
  NumericGreaterThanEquals: numeric((value, wanted) => value >= wanted),
  DateEquals: date((value, wanted) => value === wanted),
  DateNotEquals: not(date((value, wanted) => value === wanted)),
  DateLessThan: date((value, wanted) => value < wanted),
  DateLessThanEquals: date((value, wanted) => value <= wanted),
  DateGreaterThan: date((value, wanted) => value > wanted),
  DateGreaterThanEquals: date((value, wanted) => value >= wanted),
  Bool: { prepare: ignoringCase, accepts: (wanted) => /^(true|false)$/i.test(wanted) },
  IpAddress: ip,
  NotIpAddress: not(ip),
  ArnEquals: arn,
  ArnLike: arn,
  ArnNotEquals: not(arn),
  ArnNotLike: not(arn),
};

/**
 * One key of one operator of a statement's `Condition`.
 * @param effect Of the statement. @param at Where the condition is in the policy, for messages. @throws {KmsFault}
 * MalformedPolicyDocumentException
 */
export function readCondition(
  effect: 'Allow' | 'Deny',
  operatorText: string,
  key: string,
  wanted: readonly string[],
  at: string,
): Condition {
  const [, quantifier, name = '', ifExists] = /^(ForAllValues:|ForAnyValue:)?(\w+?)(IfExists)?$/.exec(operatorText) ?? [];
  const folded = key.toLowerCase();
  const fail = (problem: string): KmsFault =>
    new KmsFault('MalformedPolicyDocumentException', `The policy document is malformed: ${at}: ${problem}`);
  const variable = wanted.find((value) => value.includes('${'));
  if (variable !== undefined) throw fail(`policy variables are not supported: ${variable}`);
  const operator = Object.hasOwn(OPERATORS, name) ? OPERATORS[name] : undefined;
  const isNull = name === 'Null' && quantifier === undefined && ifExists === undefined;
  if (operator === undefined && !isNull) throw fail(`there is no condition operator ${JSON.stringify(operatorText)}`);
  if (!isConditionKey(key)) throw fail(`the condition key ${JSON.stringify(key)} is not one that this KMS supplies`);
  if (operator === undefined) {
    if (!wanted.every((value) => /^(true|false)$/i.test(value))) throw fail('Null is true or false');
    return (request) => wanted.some((value) => (value.toLowerCase() === 'true') === !request.has(folded));
  }
  const misfit = wanted.find((value) => !operator.accepts(value));
  if (misfit !== undefined) throw fail(`${JSON.stringify(misfit)} does not fit ${operatorText}`);

  const { prepare, negated = false } = operator;
  const isWanted = prepare(wanted);
  const fits = (value: string): boolean => isWanted(value) !== negated;
  return (request) => {
    const given = request.get(folded);
    // With an absent key these hold: ForAllValues, IfExists, and a negated operator.
    if (given === undefined) return quantifier === 'ForAllValues:' || ifExists !== undefined || (negated && quantifier === undefined);
    if (quantifier === 'ForAllValues:') return given.every(fits);
    if (quantifier === 'ForAnyValue:') return given.some(fits);
    // Without a quantifier a key has one value. Where it has several, the stricter reading holds: one suffices to deny,
    // all must allow.
    return effect === 'Deny' ? given.some(fits) : given.every(fits);
  };
}

/** ARNs are compared part by part: a wildcard does not reach over a colon, except in the last part. */
function arnMatcherOf(wanted: string): (value: string) => boolean {
  if (wanted === '*') return () => true;
  const matchers = arnParts(wanted).map(matcherOf);
  return (value) => {
    const given = arnParts(value);
    return matchers.every((matches, index) => matches(given[index] ?? ''));
  };
}

function isRange(range: string): boolean {
  const [address = '', bits, more] = range.split('/');
  const family = isIP(address);
  return (
    family !== 0 && more === undefined && (bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128)))
  );
}

function inRanges(ranges: readonly string[]): (value: string) => boolean {
  const list = new BlockList();
  for (const range of ranges) {
    const [address = '', bits] = range.split('/');
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
    if (bits === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(bits), family);
  }
  return (value) => isIP(value) !== 0 && list.check(value, isIP(value) === 6 ? 'ipv6' : 'ipv4');
}
