/** The manual pages that the build makes, judged by man itself and held against the help. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'vitest';
import { ROOT } from '../built.js';
import { lab } from '../cli/program.js';
import { skipWithout } from '../interop/tools.js';
import { describeUnless } from '../requirements.js';

const DIRECTORY = join(ROOT, 'dist/man');
const files = (): string[] => readdirSync(DIRECTORY).sort();

/** As man shows it on a terminal, without the marks for bold and underlined. */
function shown(name: string): { text: string; warnings: string } {
  const environment = { ...process.env, LC_ALL: 'C.UTF-8', MANWIDTH: '400', MAN_KEEP_FORMATTING: '', MANROFFOPT: '-c -rHY=0' };
  const words = ['--warnings', '--no-hyphenation', '--no-justification', '-E', 'ascii', '-l', join(DIRECTORY, name)];
  const { stdout, stderr, status } = spawnSync('man', words, { encoding: 'utf8', env: environment });
  assert.equal(status, 0, stderr);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what a terminal prints over
  return { text: stdout.replaceAll(/.\x08/g, ''), warnings: stderr };
}

const inOneLine = (text: string): string => text.replaceAll(/\s+/g, ' ');

describe('manual pages', () => {
  test('are those that package.json names, one for each command', () => {
    const { man } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { man: string[] };
    assert.deepEqual(
      [...man].sort(),
      files().map((name) => `dist/man/${name}`),
    );
    const commands = [
      ...lab()
        .ok(['--help'])
        .text.matchAll(/^ {2}([a-z-]+)(?= \[| <| {2,})/gm),
    ].map((match) => match[1]!);
    const withPage = commands.filter((name) => name !== 'help' && !name.startsWith('-') && !/^[A-Z]/.test(name));
    assert.deepEqual(files(), ['volseal.1', ...withPage.map((name) => `volseal-${name}.1`)].sort());
  });
});

describeUnless(skipWithout('man'))('manual pages, as man shows them', () => {
  test('man has nothing to warn of', () => {
    for (const name of files()) assert.equal(shown(name).warnings, '', name);
  });

  test('say every option and example of the help, character by character', () => {
    for (const words of [['encrypt'], ['info'], ['kms', 'create-key'], ['workspace', 'create']]) {
      const help = lab().ok([...words, '--help']).text;
      const page = inOneLine(shown(`volseal-${words[0]}.1`).text);
      const options = [...help.matchAll(/^ {2}(-.*?)(?= {2,}|$)/gm)].map((match) => match[1]!);
      const examples = help.slice(help.indexOf('\nExample:\n')).trim().split('\n').slice(1);
      assert.ok(options.length > 1 && examples.length > 0);
      for (const text of [...options, ...examples]) assert.ok(page.includes(inOneLine(text.trim())), `${words.join(' ')}: ${text}`);
    }
  });
});
