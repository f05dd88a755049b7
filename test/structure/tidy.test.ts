import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { skipWithout } from '../interop/tools.js';
import { testUnless } from '../requirements.js';
import { projectFiles, type SourceFile } from './sources.js';
import {
  badNames,
  handWritten,
  leftovers,
  lockFileGaps,
  machinePaths,
  mutedTests,
  otherRunners,
  registryAddresses,
  tooLong,
  undocumented,
} from './tidy-rules.js';

const skip = skipWithout('git');
const files = skip === false ? projectFiles() : [];
const file = (path: string, text: string): SourceFile => ({ path, text });

interface Rule {
  name: string;
  check: (files: SourceFile[]) => string[];
  violations: SourceFile[];
  allowed: SourceFile[];
}

const rules: Rule[] = [
  {
    name: 'no file of src/ or native/ is longer than 420 lines',
    check: tooLong,
    violations: [file('src/kms/everything.ts', 'line\n'.repeat(421))],
    allowed: [file('native/vault/vault.cc', 'line\n'.repeat(420)), file('docs/FORMAT.md', 'line\n'.repeat(900))],
  },
  {
    name: 'nothing is left to do',
    check: leftovers,
    violations: [file('src/errors.ts', '// TODO: think'), file('native/vault/vault.cc', '/* FIXME */'), file('test/a.test.ts', '// HACK')],
    allowed: [file('src/errors.ts', "const todoList = 'hackney';")],
  },
  {
    name: 'every test runs',
    check: mutedTests,
    violations: [file('test/a.test.ts', "test.only('one', () => {});"), file('test/b.test.ts', "test('x', { skip: true }, () => {});")],
    allowed: [file('test/a.test.ts', "testUnless(skipGuest())('it.skip is a name', () => {});")],
  },
  {
    name: 'tests run under vitest alone',
    check: otherRunners,
    violations: [file('test/a.test.ts', "import { test } from 'node:test';"), file('bench/a.ts', "const { test } = await import('test');")],
    allowed: [file('test/a.test.ts', "import { test } from 'vitest';\nconst path = 'test';")],
  },
  {
    name: 'waiting and random numbers come from Node, not from code of our own',
    check: handWritten,
    violations: [
      file('src/a.ts', 'await new Promise((resolve) => setTimeout(resolve, 10));'),
      file('test/a.test.ts', 'const at = Math.floor(Math.random() * 10);'),
    ],
    allowed: [
      file('src/a.ts', "import { setTimeout as sleep } from 'node:timers/promises';\nconst timer = setTimeout(end, 10);"),
      file('src/b.ts', "import { randomInt } from 'node:crypto';\n// not Math.random()"),
    ],
  },
  {
    name: 'every exported function has a docstring',
    check: undocumented,
    violations: [
      file('src/a.ts', 'export function open(): void {}'),
      file('src/b.ts', 'export async function open(): Promise<void> {}'),
      file('src/c.ts', 'export const open = (path: string): string => path;'),
    ],
    allowed: [
      file(
        'src/a.ts',
        '/** Opens. */\nexport function open(): void {}\nexport const LIMIT = 5;\n/**\n * Closes.\n */\nexport const close = () => 1;',
      ),
      file('src/b.ts', '/** Reads. */\nexport function read(a: string): void;\nexport function read(a: number): void;'),
      file('test/c.ts', 'export function open(): void {}'),
    ],
  },
  {
    name: 'files are named kebab-case (TypeScript) and snake_case (C++)',
    check: badNames,
    violations: [file('src/kms/keyIntake.ts', ''), file('test/key_intake.test.ts', ''), file('native/base/secure-wipe.cc', '')],
    allowed: [file('src/kms/key-intake.ts', ''), file('binding.d.ts', ''), file('native/xts/xts_aesni.cc', ''), file('CMakeLists.txt', '')],
  },
  {
    name: 'no path of one machine',
    check: machinePaths,
    violations: [file('README.md', 'cd /work/volseal'), file('src/a.ts', "const path = '/home/me/disk.img';")],
    allowed: [file('src/a.ts', "const path = join(homedir(), 'network/home/x');")],
  },
  {
    name: "no registry's address in the lock file",
    check: registryAddresses,
    violations: [file('package-lock.json', '      "resolved": "https://registry.example/zod.tgz",')],
    allowed: [file('package-lock.json', '      "integrity": "sha512-abc",')],
  },
  {
    name: 'the lock file is whole',
    check: lockFileGaps,
    violations: [file('package-lock.json', '{"packages":{"node_modules/a":{"optionalDependencies":{"a-darwin":"1.0.0"}}}}')],
    allowed: [file('package-lock.json', '{"packages":{"node_modules/a":{"optionalDependencies":{"b":"1.0.0"}},"node_modules/b":{}}}')],
  },
];

for (const { name, check, violations, allowed } of rules) {
  describe(name, () => {
    testUnless(skip)('holds', () => {
      assert.deepEqual(check(files), []);
    });
    test('would be noticed', () => {
      for (const planted of violations) assert.equal(check([planted]).length, 1, planted.text.slice(0, 80));
    });
    test('has no false alarm', () => {
      assert.deepEqual(check(allowed), []);
    });
  });
}
