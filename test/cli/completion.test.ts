/** Completion as the shells themselves do it: their own functions are asked what they offer. */
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { describe, test } from 'vitest';
import { skipWithout } from '../interop/tools.js';
import { testUnless } from '../requirements.js';
import { lab } from './program.js';

/** What is typed, and what must be, and must not be, among the offers. */
const CASES = [
  { typed: ['enc'], offers: ['encrypt'], leavesOut: ['decrypt'] },
  { typed: ['kms', 'create-p'], offers: ['create-principal'], leavesOut: ['create-key'] },
  { typed: ['encrypt', '--sec'], offers: ['--sector-size'], leavesOut: ['--sparse'] },
  { typed: ['encrypt', '--sector-size', ''], offers: ['512', '4096'], leavesOut: ['encrypt'] },
  { typed: ['workspace', 'create', '--roo'], offers: ['--root-size'], leavesOut: ['--user-size'] },
  { typed: ['--json', 'kms', 'ser'], offers: ['serve'], leavesOut: ['encrypt'] },
] as const;

const quoted = (word: string): string => `'${word}'`;

/** Starts a shell that loads the script and prints what it offers for `typed`, one a line. */
const ASK = {
  bash: (words: readonly string[]): string =>
    `source ./script; COMP_WORDS=(volseal ${words.map(quoted).join(' ')}); COMP_CWORD=${words.length}; _volseal; printf '%s\\n' "\${COMPREPLY[@]}"`,
  // What bashcompinit does for a function of bash; zsh itself drops the offers that do not begin as the word does.
  zsh: (words: readonly string[]): string =>
    `autoload -U +X compinit && compinit -D; source ./script; local -a COMP_WORDS COMPREPLY; COMP_CWORD=${words.length}; ` +
    `COMP_WORDS=(volseal ${words.map(quoted).join(' ')}); emulate ksh -c _volseal; print -l -- \${(M)COMPREPLY:#${words.at(-1)}*}`,
  fish: (words: readonly string[]): string => `source ./script; complete -C 'volseal ${words.join(' ')}' | cut -f1`,
} as const;

describe('completion', () => {
  for (const shell of ['bash', 'zsh', 'fish'] as const) {
    testUnless(skipWithout(shell))(`${shell} offers commands, options and their values`, () => {
      const at = lab();
      writeFileSync(at.path('script'), at.ok(['completion', shell]).text);
      for (const { typed, offers, leavesOut } of CASES) {
        writeFileSync(at.path('ask'), ASK[shell](typed));
        const { text, stderr, status } = at.shell(`${shell} ask`);
        assert.equal(status, 0, stderr);
        const offered = text.split('\n');
        for (const word of offers) assert.ok(offered.includes(word), `${shell}: ${typed.join(' ')} offers ${offered.join(', ')}`);
        for (const word of leavesOut) assert.ok(!offered.includes(word), `${shell}: ${typed.join(' ')} offers ${word}`);
      }
    });

    testUnless(skipWithout(shell))(`${shell} evaluates nothing of what was typed`, () => {
      const at = lab();
      writeFileSync(at.path('script'), at.ok(['completion', shell]).text);
      writeFileSync(at.path('ask'), ASK[shell](['info', '$(touch evaluated)', '--js']));
      at.shell(`${shell} ask`);
      assert.equal(existsSync(at.path('evaluated')), false);
    });
  }

  test('another shell is refused by name', () => {
    const { status, stderr } = lab().run(['completion', 'tcsh']);
    assert.equal(status, 1);
    assert.match(stderr, /tcsh.*bash, zsh, fish/);
  });
});
