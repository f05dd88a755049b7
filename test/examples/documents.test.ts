/** Every code block of README and docs: run in order, or marked with the reason why not. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { MAIN, ROOT } from '../built.js';
import { lab } from '../cli/program.js';
import { freePort } from '../free-port.js';
import { skipWithout } from '../interop/tools.js';
import { lacksNode, nodeExecutable } from '../other-nodes.js';
import { testUnless } from '../requirements.js';
import { codeBlocks, consoleOf, isRun, LANGUAGES, scriptOf, withoutIds } from './code-blocks.js';

const documents = ['.', 'docs', 'docs/decisions'].flatMap((directory) =>
  readdirSync(join(ROOT, directory))
    .filter((name) => name.endsWith('.md'))
    .map((name) => join(directory, name)),
);

/** Programs that the blocks use, besides volseal's own needs. */
const TOOLS = ['bash', 'mkfs.ext4', 'zstd', 'xxd', 'aws', 'jq', 'cryptsetup', 'nbdinfo', 'nbdcopy', 'qemu-img', 'fio', 'redis-server'];

/** The port that all documents name; the test uses a free one instead. */
const PORT = '4599';

/** The oldest Node that volseal runs on, if the tests have it; otherwise the Node of the tests. */
const node = lacksNode('node-20') ? process.execPath : nodeExecutable('node-20');

/** A directory in which `volseal` is a command and a package, and what a login shell has. */
async function readersDirectory() {
  const { directory, env } = lab();
  mkdirSync(join(directory, 'node_modules'));
  symlinkSync(ROOT, join(directory, 'node_modules', 'volseal'));
  // What a program that embeds volseal has besides.
  for (const name of ['@aws-sdk', 'pino']) symlinkSync(join(ROOT, 'node_modules', name), join(directory, 'node_modules', name));
  const { VOLSEAL_HOME: _, ...rest } = env;
  const bin = join(directory, '.bin');
  mkdirSync(bin);
  symlinkSync(node, join(bin, 'node'));
  writeFileSync(join(bin, 'volseal'), `#!/bin/sh\nexec '${node}' '${MAIN}' "$@"\n`, { mode: 0o755 });
  const port = await freePort();
  // The system's own programs come first: another `aws` in a user's directory may be another program.
  const path = [bin, '/usr/sbin', '/usr/bin', '/sbin', '/bin', env.PATH].join(':');
  const run = (script: string): Promise<{ status: number | null; stdout: string; stderr: string }> =>
    new Promise((resolve) => {
      const child = spawn('bash', ['-c', script.replaceAll(PORT, String(port))], {
        cwd: directory,
        env: { ...rest, PATH: path, NODE_NO_WARNINGS: '1' },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      let [stdout, stderr] = ['', ''];
      child.stdout.on('data', (chunk) => {
        stdout += chunk;
      });
      child.stderr.on('data', (chunk) => {
        stderr += chunk;
      });
      child.on('close', (status) => resolve({ status, stdout, stderr }));
    });
  return run;
}

describe('code blocks', () => {
  for (const path of documents) {
    const blocks = codeBlocks(readFileSync(join(ROOT, path), 'utf8'));
    if (blocks.length === 0) continue;

    test(`${path}: each has a language that this test knows`, () => {
      expect(blocks.filter(({ language }) => !LANGUAGES.includes(language)).map(({ line }) => `${path}:${line}`)).toEqual([]);
    });

    for (const { text, line } of blocks.filter(({ language }) => language === 'json')) {
      test(`${path}:${line} is JSON`, () => void JSON.parse(text));
    }

    if (!blocks.some((block) => isRun(block))) continue;
    testUnless(skipWithout(...TOOLS))(`${path}: they run in order`, async () => {
      const run = await readersDirectory();
      const { status, stderr } = await run(scriptOf(blocks));
      assert.equal(status, 0, stderr);
      for (const block of blocks.filter(({ language, notRun }) => language === 'console' && notRun === undefined)) {
        const { command, output } = consoleOf(block);
        const shown = await run(command);
        expect(withoutIds(shown.stdout), `${path}:${block.line} ${shown.stderr}`).toBe(withoutIds(output));
      }
    });
  }
});

describe('the script of a document', () => {
  const document = (...lines: string[]): string => `# Title\n\n${lines.join('\n')}\n`;

  test('ends at the first command that fails, and names its block', async () => {
    const run = await readersDirectory();
    const blocks = codeBlocks(document('```sh', 'echo one', '```', '', '```sh', 'false', 'echo two', '```'));
    const { status, stdout, stderr } = await run(scriptOf(blocks));
    expect({ status, stdout }).toEqual({ status: 1, stdout: 'one\n' });
    expect(stderr).toMatch(/--- the block at line 7\n$/);
  });

  test('knows the exit status that a comment names, and refuses another', async () => {
    const run = await readersDirectory();
    const of = (line: string): string => scriptOf(codeBlocks(document('```sh', line, '```')));
    expect((await run(of('(exit 6)   # exits 6: so it is'))).status).toBe(0);
    expect((await run(of('(exit 5)   # exits 6: so it is'))).status).toBe(1);
    expect((await run(of('true       # exits 6: so it is'))).status).toBe(1);
  });

  test('leaves out a block that says why it is not run', () => {
    const blocks = codeBlocks(document('<!-- not run: needs an account -->', '```sh', 'false', '```', '```text', 'x', '```'));
    expect(blocks.map(({ notRun }) => notRun)).toEqual(['needs an account', undefined]);
    expect(blocks.some((block) => isRun(block))).toBe(false);
  });
});
