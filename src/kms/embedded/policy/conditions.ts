/**
 * Conditions of policy statements. (IAM User Guide, "IAM JSON policy elements: Condition operators", "Conditions with multiple context
 * keys or values", "Multivalued context keys".)
 */

import { BlockList, isIP } from 'node:net';
import { arnParts } from '../../shared/arn.js';
import { KmsFault } from '../faults.js';
import { matches } from './patterns.js';

/** What the request says of itself: values by condition key in lower case. A key that is absent is not in the map. */
export type ConditionValues = ReadonlyMap<string, readonly string[]>;

/** Whether the condition holds for a request. */
export type Condition = (request: ConditionValues) => boolean;

/** Whether one value of the request fits one value of the policy. */
type Comparison = (value: string, wanted: string) => boolean;

interface Operator {
  readonly compare: Comparison;
  /** What a value in a policy must look like. */
  readonly accepts: (wanted: string) => boolean;
  /** The operator holds where the comparison does with none of the wanted values. */
  readonly negated?: true;
}

const anyText = (): boolean => true;
const timeOf = (text: string): number => (/^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text));
const isNumber = (text: string): boolean => text.trim() !== '' && Number.isFinite(Number(text));
const isTime = (text: string): boolean => !Number.isNaN(timeOf(text));

const text = (compare: Comparison): Operator => ({ compare, accepts: anyText });
const numeric = (compare: (value: number, wanted: number) => boolean): Operator => ({
  compare: (value, wanted) => isNumber(value) && compare(Number(value), Number(wanted)),
  accepts: isNumber,
});
const date = (compare: (value: number, wanted: number) => boolean): Operator => ({
  compare: (value, wanted) => isTime(value) && compare(timeOf(value), timeOf(wanted)),
  accepts: isTime,
});
const not = (operator: Operator): Operator => ({ ...operator, negated: true });

const same = text((value, wanted) => value === wanted);
const sameIgnoringCase = text((value, wanted) => value.toLowerCase() === wanted.toLowerCase());
const like = text((value, wanted) => matches(wanted, value));
const arn: Operator = { compare: arnMatches, accepts: (wanted) => wanted === '*' || arnParts(wanted).length === 6 };
const ip: Operator = { compare: inRange, accepts: isRange };

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
  Bool: { compare: (value, wanted) => value.toLowerCase() === wanted.toLowerCase(), accepts: (wanted) => /^(true|false)$/i.test(wanted) },
  IpAddress: ip,
  NotIpAddress: not(ip),
  ArnEquals: arn,
  ArnLike: arn,
  ArnNotEquals: not(arn),
  ArnNotLike: not(arn),
};

/**
 * One key of one operator of a statement's `Condition`.
 * @param at Where it stands, for messages. @throws {KmsFault} MalformedPolicyDocumentException
 */
export function readCondition(operatorText: string, key: string, wanted: readonly string[], at: string): Condition {
  const [, quantifier, name = '', ifExists] = /^(ForAllValues:|ForAnyValue:)?(\w+?)(IfExists)?$/.exec(operatorText) ?? [];
  const folded = key.toLowerCase();
  const fail = (problem: string): KmsFault =>
    new KmsFault('MalformedPolicyDocumentException', `The policy document is malformed: ${at}: ${problem}`);
  const variable = wanted.find((value) => value.includes('${'));
  if (variable !== undefined) throw fail(`policy variables are not supported: ${variable}`);
  if (name === 'Null' && quantifier === undefined && ifExists === undefined) {
    if (!wanted.every((value) => /^(true|false)$/i.test(value))) throw fail('Null is true or false');
    return (request) => wanted.some((value) => (value.toLowerCase() === 'true') === !request.has(folded));
  }
  const operator = Object.hasOwn(OPERATORS, name) ? OPERATORS[name] : undefined;
  if (operator === undefined) throw fail(`there is no condition operator ${JSON.stringify(operatorText)}`);
  const misfit = wanted.find((value) => !operator.accepts(value));
  if (misfit !== undefined) throw fail(`${JSON.stringify(misfit)} does not fit ${operatorText}`);

  const { compare, negated = false } = operator;
  const fits = (value: string): boolean => wanted.some((one) => compare(value, one)) !== negated;
  return (request) => {
    const given = request.get(folded);
    // An absent key fits what is asked for all its values, what is asked if it exists, and what must not be.
    if (given === undefined) return quantifier === 'ForAllValues:' || ifExists !== undefined || (negated && quantifier === undefined);
    if (quantifier === 'ForAllValues:') return given.every(fits);
    // Without a quantifier a key has one value; where it has several, a negated operator must hold for each of them.
    return negated && quantifier === undefined ? given.every(fits) : given.some(fits);
  };
}

/** ARNs are compared part by part: a wildcard does not reach over a colon, but in the last part. */
function arnMatches(value: string, wanted: string): boolean {
  if (wanted === '*') return true;
  const given = arnParts(value);
  return arnParts(wanted).every((pattern, index) => matches(pattern, given[index] ?? ''));
}

function isRange(range: string): boolean {
  const [address = '', bits, more] = range.split('/');
  const family = isIP(address);
  return (
    family !== 0 && more === undefined && (bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128)))
  );
}

function inRange(value: string, range: string): boolean {
  const [address = '', bits] = range.split('/');
  const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
  if (isIP(value) === 0) return false;
  const list = new BlockList();
  if (bits === undefined) list.addAddress(address, family);
  else list.addSubnet(address, Number(bits), family);
  return list.check(value, isIP(value) === 6 ? 'ipv6' : 'ipv4');
}
