import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseStrictJson } from '../src/strict-json.js';

describe('strict JSON', () => {
  const refused: [what: string, text: string, problem: string][] = [
    ['not JSON', '{', 'is not JSON'],
    ['nothing', '', 'is not JSON'],
    ['two values', '{}{}', 'is not JSON'],
    ['a comment', '{}//', 'is not JSON'],
    ['two members with one name', '{"a":1,"a":1}', 'has two members named "a" in one object'],
    ['two members with one name, one of them escaped', '{"a":1,"\\u0061":2}', 'has two members named "a" in one object'],
    ['two members with one name, in an inner object', '[{"x":{"b":1,"c":[],"b":2}}]', 'has two members named "b" in one object'],
    ['two members with an empty name', '{"":1,"":2}', 'has two members named "" in one object'],
    ['__proto__', '{"__proto__":1}', 'has a member named __proto__'],
    ['__proto__, escaped', '{"\\u005f_proto__":1}', 'has a member named __proto__'],
    ['__proto__, escaped otherwise', '{"a":{"__prot\\u006f__" : {}}}', 'has a member named __proto__'],
    ['arrays nested 65 deep', '['.repeat(65) + ']'.repeat(65), 'is nested deeper than 64 levels'],
    ['objects nested 120,000 deep', `${'{"a":'.repeat(120_000)}1${'}'.repeat(120_000)}`, 'is nested deeper than 64 levels'],
  ];
  test.each(refused)('refuses %s', (_, text, problem) => {
    expect(() => parseStrictJson(text)).toThrow(new SyntaxError(problem));
  });

  test('names in different objects, and strings that look like names, are no duplicates', () => {
    const value = { a: { a: ['a', 'a', '"a":', '__proto__', '{'] }, b: [{ a: 1 }, { a: 2 }], c: '\\"a":"\u2028' };
    expect(parseStrictJson(JSON.stringify(value, undefined, 1))).toEqual(value);
  });

  test('reads whatever JSON.stringify writes', () => {
    fc.assert(
      fc.property(
        fc.json({ maxDepth: 6 }).filter((text) => !text.includes('__proto__')),
        (text) => {
          expect(parseStrictJson(text)).toEqual(JSON.parse(text));
        },
      ),
    );
  });

  test('a long string with escapes is one token', () => {
    expect(parseStrictJson(JSON.stringify({ a: '\\"'.repeat(500_000) }))).toEqual({ a: '\\"'.repeat(500_000) });
  });
});
