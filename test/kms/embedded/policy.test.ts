import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import { KmsFault } from '../../../src/kms/embedded/faults.js';
import { parsePolicy } from '../../../src/kms/embedded/policy/document.js';
import { evaluatePolicy, type PolicyRequest } from '../../../src/kms/embedded/policy/evaluation.js';
import { matches } from '../../../src/kms/embedded/policy/patterns.js';

const ACCOUNT = 'arn:aws:iam::000000000000:';
const ROOT = `${ACCOUNT}root`;
const ANNA = `${ACCOUNT}user/anna`;
const KEY = 'arn:aws:kms:local:000000000000:key/00000000-0000-4000-8000-000000000000';

const request = (changes: Partial<Omit<PolicyRequest, 'conditions'>> & { conditions?: Record<string, string[]> } = {}): PolicyRequest => ({
  principal: ANNA,
  root: ROOT,
  action: 'kms:Decrypt',
  resourceArn: KEY,
  ...changes,
  conditions: new Map(Object.entries(changes.conditions ?? {}).map(([key, values]) => [key.toLowerCase(), values])),
});
const statement = (changes: object = {}) => ({
  Effect: 'Allow',
  Principal: { AWS: ANNA },
  Action: 'kms:Decrypt',
  Resource: '*',
  ...changes,
});
const policy = (...statements: object[]): string => JSON.stringify({ Version: '2012-10-17', Statement: statements });
const decide = (text: string, asked: PolicyRequest = request()) => evaluatePolicy(parsePolicy(text, 'key'), asked);
const decision = (text: string, asked?: PolicyRequest) => decide(text, asked).decision;

function malformed(text: string, message: RegExp, kind: 'key' | 'identity' = 'key'): void {
  assert.throws(
    () => parsePolicy(text, kind),
    (error) => error instanceof KmsFault && error.name === 'MalformedPolicyDocumentException' && message.test(error.message),
    text,
  );
}

describe('documents', () => {
  test('are refused where they do not say what they mean', () => {
    malformed('{', /not JSON/);
    malformed('[]', /expected object/);
    malformed('{}', /Statement/);
    malformed(JSON.stringify({ Statement: [] }), /Statement/);
    malformed(policy(statement({ Effect: 'Maybe' })), /Statement\.0\.Effect/);
    malformed(policy(statement({ Action: undefined })), /Action/);
    malformed(policy(statement({ NotAction: 'kms:*' })), /Action/);
    malformed(policy(statement({ Resource: undefined })), /Resource/);
    malformed(policy(statement({ Principal: undefined })), /Principal/);
    malformed(policy(statement({ Principal: undefined, NotPrincipal: { AWS: ANNA } })), /NotPrincipal/);
    malformed(policy(statement({ Principal: { AWS: 'anna' } })), /no principal/);
    malformed(policy(statement({ Principal: { Federated: 'x' } })), /Principal/);
    malformed(policy(statement({ Condition: { Fits: { a: 'b' } } })), /no condition operator "Fits"/);
    malformed(policy(statement({ Condition: { constructor: { a: 'b' } } })), /no condition operator/);
    malformed(policy(statement({ Condition: { IpAddress: { 'aws:SourceIp': '10.0.0.0/33' } } })), /does not fit/);
    malformed(policy(statement({ Condition: { NumericEquals: { 'kms:EncryptionContext:a': 'many' } } })), /does not fit/);
    // biome-ignore lint/suspicious/noTemplateCurlyInString: a policy variable looks like this
    malformed(policy(statement({ Resource: '${aws:username}' })), /variables/);
    malformed(
      `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*","Condition":{"__proto__":{"a":"b"}}}]}`,
      /__proto__/,
    );
    const allow = '"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"';
    malformed(`{"Statement":[{${allow},"Condition":{"\\u005f_proto__":{"a":"b"}}}]}`, /member named __proto__/);
    malformed(`{"Statement":[{${allow},"Condition":{"StringEquals":{"__prot\\u006f__":"b"}}}]}`, /member named __proto__/);
    malformed(`{"Statement":[{${allow},"Effect":"Deny"}]}`, /two members named "Effect"/);
    malformed(`{"Statement":[{${allow},"Condition":{},"Condition":{}}]}`, /two members named "Condition"/);
    malformed(policy(statement({ Resource: 'alias/new' })), /"alias\/new" must be an ARN or "\*"/);
    malformed(policy(statement({ Condition: { StringEquals: { 'kms:SomeKey': 'b' } } })), /the condition key "kms:SomeKey" is not one/);
    const many = Array.from({ length: 501 }, (_, index) => `a${index}*`);
    malformed(policy(statement({ Condition: { StringLike: { 'kms:EncryptionContext:a': many } } })), /501 patterns.*at most 500/);
    malformed(policy(statement()), /no Principal/, 'identity');
  });

  test('one statement, an account by its number, values that are no strings', () => {
    const text = JSON.stringify({
      Statement: statement({ Principal: { AWS: '000000000000' }, Condition: { Bool: { 'kms:EncryptionContext:a': true } } }),
    });
    assert.equal(decision(text, request({ principal: ROOT, conditions: { 'kms:EncryptionContext:a': ['true'] } })), 'allow');
    assert.equal(decision(text, request({ principal: ROOT, conditions: { 'kms:EncryptionContext:a': ['false'] } })), 'none');
  });

  test('whatever the text, the answer is a document or MalformedPolicyDocumentException', () => {
    const scrap = fc.oneof(
      fc.string(),
      fc.json(),
      fc.object().map((value) => JSON.stringify({ Statement: value })),
    );
    fc.assert(
      fc.property(scrap, fc.constantFrom('key' as const, 'identity' as const), (text, kind) => {
        try {
          assert.ok(parsePolicy(text, kind).length > 0);
        } catch (error) {
          assert.ok(error instanceof KmsFault && error.name === 'MalformedPolicyDocumentException', String(error));
        }
      }),
    );
  });
});

describe('who and what', () => {
  const session = 'arn:aws:sts::000000000000:assumed-role/backup/nightly';
  const cases: [string, object, Partial<PolicyRequest>, 'allow' | 'deny' | 'none', boolean?][] = [
    ['the one named', {}, {}, 'allow'],
    ['somebody else', {}, { principal: `${ACCOUNT}user/bert` }, 'none'],
    ['everybody', { Principal: '*' }, {}, 'allow'],
    ['the account: root alone, the others are left to it', { Principal: { AWS: ROOT } }, {}, 'none', true],
    ['the account, asked by root', { Principal: { AWS: ROOT } }, { principal: ROOT }, 'allow', true],
    ['the account, asked by another account', { Principal: { AWS: ROOT } }, { principal: 'arn:aws:iam::111111111111:user/x' }, 'none'],
    ['a deny of the account concerns everybody in it', { Effect: 'Deny', Principal: { AWS: ROOT } }, {}, 'deny'],
    ['a role, by its session', { Principal: { AWS: `${ACCOUNT}role/backup` } }, { principal: session }, 'allow'],
    ['one session', { Principal: { AWS: session } }, { principal: session }, 'allow'],
    ['a service', { Principal: { Service: 'ebs.amazonaws.com' } }, { principal: 'ebs.amazonaws.com' }, 'allow'],
    ['actions in any case', { Action: 'KMS:decrypt' }, {}, 'allow'],
    ['actions by pattern', { Action: ['kms:Gen*', 'kms:D?crypt'] }, {}, 'allow'],
    ['another action', { Action: 'kms:Decrypt2' }, {}, 'none'],
    ['all but an action', { Action: undefined, NotAction: 'kms:Decrypt' }, {}, 'none'],
    ['this key', { Resource: KEY }, {}, 'allow'],
    ['another key', { Resource: `${KEY}0` }, {}, 'none'],
    ['all but this key', { Resource: undefined, NotResource: KEY }, {}, 'none'],
  ];
  for (const [name, changes, asked, expected, delegated = false] of cases) {
    test(name, () => assert.deepEqual(decide(policy(statement(changes)), request(asked as object)), { decision: expected, delegated }));
  }
});

describe('conditions', () => {
  // Operator, wanted, given (undefined: the key is absent), whether it holds.
  const cases: [string, unknown, string[] | undefined, boolean][] = [
    ['StringEquals', 'a', ['a'], true],
    ['StringEquals', 'a', ['A'], false],
    ['StringEquals', ['b', 'a'], ['a'], true],
    ['StringEquals', 'a', undefined, false],
    ['StringEqualsIfExists', 'a', undefined, true],
    ['StringEqualsIfExists', 'a', ['b'], false],
    ['StringNotEquals', 'a', ['b'], true],
    ['StringNotEquals', ['a', 'b'], ['b'], false],
    ['StringNotEquals', 'a', undefined, true],
    ['StringEqualsIgnoreCase', 'a', ['A'], true],
    ['StringNotEqualsIgnoreCase', 'a', ['A'], false],
    ['StringLike', 'vol-*', ['vol-1'], true],
    ['StringLike', 'vol-?', ['vol-12'], false],
    ['StringNotLike', 'vol-*', ['snap-1'], true],
    ['NumericLessThanEquals', '30', ['30'], true],
    ['NumericLessThan', '30', ['30'], false],
    ['NumericGreaterThan', 7, ['8'], true],
    ['NumericEquals', '7', ['seven'], false],
    ['NumericNotEquals', '7', ['8'], true],
    ['DateLessThan', '2026-01-01T00:00:00Z', ['2025-12-31T23:59:59Z'], true],
    ['DateGreaterThanEquals', '1767225600', ['2026-01-01T00:00:00Z'], true],
    ['DateGreaterThan', '2026-01-01T00:00:00Z', ['2025-12-31T23:59:59Z'], false],
    ['Bool', 'true', ['TRUE'], true],
    ['Bool', 'false', ['true'], false],
    ['Null', 'true', undefined, true],
    ['Null', 'false', undefined, false],
    ['Null', 'false', ['x'], true],
    ['IpAddress', '10.0.0.0/8', ['10.1.2.3'], true],
    ['IpAddress', '10.0.0.0/8', ['11.1.2.3'], false],
    ['IpAddress', '::1', ['::1'], true],
    ['NotIpAddress', ['10.0.0.0/8', 'fe80::/10'], ['fe80::1'], false],
    ['NotIpAddress', '10.0.0.0/8', ['11.1.2.3'], true],
    ['ArnLike', 'arn:aws:iam::000000000000:role/*', ['arn:aws:iam::000000000000:role/a/b'], true],
    ['ArnLike', 'arn:aws:*:x:000000000000:role/a', ['arn:aws:iam::000000000000:role/a'], false],
    ['ArnNotEquals', 'arn:aws:iam::000000000000:role/a', ['arn:aws:iam::000000000000:role/b'], true],
    ['ForAllValues:StringEquals', ['a', 'b'], ['a', 'b', 'a'], true],
    ['ForAllValues:StringEquals', ['a', 'b'], ['a', 'c'], false],
    ['ForAllValues:StringEquals', ['a'], undefined, true],
    ['ForAnyValue:StringEquals', ['a'], ['c', 'a'], true],
    ['ForAnyValue:StringEquals', ['a'], ['c'], false],
    ['ForAnyValue:StringEquals', ['a'], undefined, false],
    ['ForAnyValue:StringNotEquals', ['a'], ['a', 'c'], true],
    ['ForAllValues:StringNotEquals', ['a'], ['a', 'c'], false],
  ];
  for (const [operator, wanted, given, holds] of cases) {
    test(`${operator} ${JSON.stringify(wanted)} of ${JSON.stringify(given)}`, () => {
      const text = policy(statement({ Condition: { [operator]: { 'kms:EncryptionContext:Some': wanted } } }));
      const conditions = given === undefined ? {} : { 'kms:encryptioncontext:some': given };
      assert.equal(decision(text, request({ conditions })), holds ? 'allow' : 'none');
    });
  }

  test('all keys of all operators must hold', () => {
    const given = { 'kms:EncryptionContext:a': ['1'], 'kms:EncryptionContext:b': ['2'], 'kms:EncryptionContext:c': ['true'] };
    const text = policy(
      statement({
        Condition: {
          StringEquals: { 'kms:EncryptionContext:a': '1', 'kms:EncryptionContext:b': '2' },
          Bool: { 'kms:EncryptionContext:c': 'true' },
        },
      }),
    );
    assert.equal(decision(text, request({ conditions: given })), 'allow');
    for (const missing of Object.keys(given)) {
      const conditions = Object.fromEntries(Object.entries(given).filter(([key]) => key !== missing));
      assert.equal(decision(text, request({ conditions })), 'none');
    }
  });
});

describe('as a whole', () => {
  const effect = fc.constantFrom('Allow', 'Deny');
  const principal = fc.constantFrom<unknown>('*', { AWS: ANNA }, { AWS: ROOT }, { AWS: `${ACCOUNT}user/bert` });
  const action = fc.constantFrom('kms:*', 'kms:Decrypt', 'kms:Encrypt', 'kms:De*');
  const condition = fc.constantFrom<unknown>(
    undefined,
    { StringEquals: { 'kms:EncryptionContext:a': '1' } },
    { StringNotEquals: { 'kms:EncryptionContext:a': '1' } },
  );
  const some = fc
    .record({ Effect: effect, Principal: principal, Action: action, Condition: condition })
    .map((one) => ({ Resource: '*', ...one }));
  const asked = fc.constantFrom(request(), request({ conditions: { 'kms:EncryptionContext:a': ['1'] } }), request({ principal: ROOT }));

  test('a deny that applies always wins, and without allows nothing is allowed', () => {
    fc.assert(
      fc.property(fc.array(some, { minLength: 1, maxLength: 6 }), asked, fc.nat(6), (statements, question, at) => {
        const denying = [...statements];
        denying.splice(at, 0, { Effect: 'Deny', Principal: '*', Action: 'kms:*', Resource: '*', Condition: undefined });
        assert.equal(decision(policy(...denying), question), 'deny');
        const denials = statements.filter(({ Effect }) => Effect === 'Deny');
        if (denials.length > 0) assert.notEqual(decision(policy(...denials), question), 'allow');
      }),
    );
  });

  test('the order of statements says nothing, and one allow less never allows more', () => {
    fc.assert(
      fc.property(fc.array(some, { minLength: 2, maxLength: 6 }), asked, fc.nat(5), (statements, question, index) => {
        const whole = decide(policy(...statements), question);
        assert.deepEqual(decide(policy(...[...statements].reverse()), question), whole);
        const at = index % statements.length;
        if (statements[at]!.Effect === 'Deny') return;
        const less = decide(policy(...statements.filter((_, position) => position !== at)), question);
        if (less.decision === 'allow') assert.equal(whole.decision, 'allow');
        if (less.delegated) assert.ok(whole.delegated);
      }),
    );
  });
});

test('a key with several values, by the stricter reading', () => {
  const condition = (operator: string, effect: string) =>
    policy(statement({ Effect: effect, Condition: { [operator]: { 'kms:EncryptionContext:a': '1' } } }));
  const asked = request({ conditions: { 'kms:EncryptionContext:a': ['1', '2'] } });
  assert.equal(decision(condition('StringEquals', 'Allow'), asked), 'none');
  assert.equal(decision(condition('StringEquals', 'Deny'), asked), 'deny');
  assert.equal(decision(condition('StringNotEquals', 'Allow'), asked), 'none');
  assert.equal(decision(condition('StringNotEquals', 'Deny'), asked), 'deny');
});

test('patterns match as regular expressions would, also where parts are long', () => {
  const piece = fc.constantFrom('a', 'b', 'ab', '*', '?', 'ab'.repeat(40), `${'a'.repeat(33)}?`, 'a'.repeat(20));
  const text = fc.array(piece, { maxLength: 5 }).map((pieces) => pieces.join(''));
  fc.assert(
    fc.property(text, text, text, (pattern, before, after) => {
      const expression = new RegExp(`^${pattern.replaceAll('?', '[^]').replaceAll('*', '[^]*')}$`);
      for (const asked of [before, before + pattern + after, pattern.replaceAll('*', after).replaceAll('?', 'b')]) {
        assert.equal(matches(pattern, asked), expression.test(asked), `${pattern} ${asked}`);
      }
    }),
  );
});

test('patterns match as regular expressions would, and in good time', () => {
  const letters = fc.string({ unit: fc.constantFrom('a', 'b', '*', '?', '.'), maxLength: 12 });
  fc.assert(
    fc.property(letters, letters, (pattern, text) => {
      const expression = pattern.replaceAll('.', '\\.').replaceAll('?', '[^]').replaceAll('*', '[^]*');
      assert.equal(matches(pattern, text), new RegExp(`^${expression}$`).test(text), `${pattern} ${text}`);
    }),
  );
  assert.equal(matches(`${'*a'.repeat(2000)}b`, 'a'.repeat(4000)), false);
});
