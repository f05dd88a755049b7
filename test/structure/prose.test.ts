import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { deadPaths, decisionNumbers, dialect, longComments, longProse } from './prose-rules.js';
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

describe('comments have at most 120 characters a line', () => {
  test('holds', () => assert.deepEqual(longComments(files), []));
  test('would be noticed', () => {
    const texts = [`/** ${long} */`, `/**\n * ${long}\n */`, `// ${long}`, `${'a();'.repeat(30)} // b`];
    for (const text of texts) assert.equal(longComments([file('src/a.ts', text)]).length, 1, text);
    for (const path of ['native/a.cc', 'native/a.h', 'test/a.mts']) assert.equal(longComments([file(path, `// ${long}`)]).length, 1, path);
    for (const path of ['scripts/a.sh', 'test/CMakeLists.txt', '.ci/run'])
      assert.equal(longComments([file(path, `# ${long}`)]).length, 1, path);
  });
  test('has no false alarm', () => {
    const code = `const a = '${long}';`;
    const texts = [code, `// ${'x'.repeat(130)}`, `a = \`${long} // ${long}\`;`, `// biome-ignore lint/a: ${long}`, `/** b */\n${code}`];
    assert.deepEqual(
      texts.flatMap((text) => longComments([file('src/a.ts', text)])),
      [],
    );
    assert.deepEqual(longComments([file('docs/A.md', `# ${long}`), file('a.json', `"// ${long}"`)]), []);
  });
});

describe('a path that a document or a comment names exists', () => {
  test('holds', () => assert.deepEqual(deadPaths(files), []));
  test('would be noticed', () => {
    assert.equal(deadPaths([file('docs/A.md', 'see `src/no/such.ts` and [B](B.md)')]).length, 2);
    assert.equal(deadPaths([file('src/a.ts', "import 'src/no/b.ts';\n// not code, but src/no/such.ts")]).length, 1);
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
