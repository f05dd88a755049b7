import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { deadPaths, decisionNumbers, dialect, longProse } from './prose-rules.js';
import { projectFiles, type SourceFile } from './sources.js';

const files = projectFiles();
const file = (path: string, text: string): SourceFile => ({ path, text });
const long = `${'word '.repeat(24)}words`;

describe('prose of documents has at most 120 characters a line', () => {
  test('holds', () => assert.deepEqual(longProse(files), []));
  test('would be noticed', () => assert.equal(longProse([file('docs/A.md', `# A\n\n${long}\n`)]).length, 1));
  test('has no false alarm', () => {
    const text = ['```sh', long, '```', `| ${long} |`, `<!-- ${long} -->`, 'x'.repeat(121), '<!-- run -->', long, '<!-- end of run -->'];
    assert.deepEqual(longProse([file('docs/A.md', text.join('\n')), file('src/a.ts', long)]), []);
  });
});

describe('a path that a document names exists', () => {
  test('holds', () => assert.deepEqual(deadPaths(files), []));
  test('would be noticed', () => {
    assert.equal(deadPaths([file('docs/A.md', 'see `src/no/such.ts` and [B](B.md)')]).length, 2);
  });
  test('has no false alarm', () => {
    const document = file(
      'docs/A.md',
      'see `src/kms`, (src/kms/calls.ts), [C](C.md#part), [home](https://example.org/src/x) and x/src/y.ts',
    );
    assert.deepEqual(deadPaths([document, file('src/kms/calls.ts', ''), file('docs/C.md', '')]), []);
  });
});

describe('each decision has a number of its own', () => {
  test('holds', () => assert.deepEqual(decisionNumbers(files), []));
  test('would be noticed', () => {
    const one = file('docs/decisions/0001-a.md', '# 1. A');
    assert.equal(decisionNumbers([one, file('docs/decisions/0001-b.md', '# 1. B')]).length, 1);
    assert.equal(decisionNumbers([file('docs/decisions/0002-b.md', '# 1. B')]).length, 1);
  });
  test('has no false alarm', () => assert.deepEqual(decisionNumbers([file('docs/decisions/0010-a.md', '# 10. A')]), []));
});

describe('no private English', () => {
  test('holds', () => assert.deepEqual(dialect(files), []));
  test('would be noticed', () => assert.equal(dialect([file('src/a.ts', '// Whoever has not that key cannot forge it')]).length, 1));
  test('has no false alarm', () => assert.deepEqual(dialect([file('src/a.ts', '// Without the data key, nobody can forge it')]), []));
});
