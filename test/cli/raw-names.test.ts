/** Names that are not UTF-8 are refused before anything is written: never a file under a name that nobody gave. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { test } from 'vitest';
import { lab } from './program.js';

/** Names of a directory as bytes. */
const names = (directory: string | Buffer): string[] =>
  readdirSync(directory, { encoding: 'buffer' })
    .map((name) => name.toString('latin1'))
    .sort();

test('an argument: the byte is named, and nothing is made', () => {
  const at = lab();
  at.image('a.raw', 4096);
  at.ok(['encrypt', 'a.raw', 'first.vol']);
  for (const name of ['caf\xe9', 'caf\xff']) writeFileSync(Buffer.from(`${at.directory}/${name}`, 'latin1'), 'x');
  const before = names(at.directory);
  for (const words of [
    "encrypt a.raw $'v\\xe9.vol'",
    "encrypt $'caf\\xe9' a.vol",
    "encrypt $'caf\\xff' a.vol --force",
    "create $'d\\xe9/a.vol' --size 1M",
    "encrypt a.raw a.vol --header $'h\\xe9'",
  ]) {
    const outcome = at.shell(`bash -c "exec volseal ${words.replaceAll('$', '\\$')}"`);
    assert.equal(outcome.status, 1, `${words}: ${outcome.stderr}`);
    assert.match(outcome.stderr, /argument \d is not UTF-8: ".*\\x(e9|ff).*"; rename/);
  }
  assert.deepEqual(names(at.directory), before);
});

test('a home and a working directory', () => {
  const at = lab();
  at.image('a.raw', 4096);
  mkdirSync(Buffer.from(`${at.directory}/d\xe9`, 'latin1'));
  for (const line of [
    "VOLSEAL_HOME=$'d\\xe9' volseal encrypt a.raw a.vol",
    "VOLSEAL_HOME= XDG_DATA_HOME= HOME=$'d\\xe9' volseal encrypt a.raw a.vol",
    "cd $'d\\xe9' && volseal encrypt ../a.raw a.vol",
  ]) {
    const outcome = at.shell(`bash -c "${line.replaceAll('$', '\\$')}"`);
    assert.equal(outcome.status, 1, `${line}: ${outcome.stderr}`);
    assert.match(outcome.stderr, /(VOLSEAL_HOME|HOME|the working directory) is not UTF-8: ".*d\\xe9"/);
  }
  assert.deepEqual(names(Buffer.from(`${at.directory}/d\xe9`, 'latin1')), []);
});

test('UTF-8 of any kind passes, and so does the character U+FFFD itself', () => {
  const at = lab();
  for (const name of ['café', 'ディスク', 'odd \uFFFD name']) {
    at.image(`${name}.raw`, 4096);
    at.ok(['encrypt', `${name}.raw`, `${name}.vol`]);
    at.ok(['verify', `${name}.vol`, '--against', `${name}.raw`]);
  }
});
