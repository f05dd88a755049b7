// Makes dist/man: the manual pages, from the commands themselves (src/cli/man-page.ts). Run after tsc. The date in them
// is that of $SOURCE_DATE_EPOCH, else today's.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const TARGET = fileURLToPath(new URL('../dist/man', import.meta.url));

/** The commands load the addon, which `npm run build` need not find: an installation without scripts has none. */
async function program() {
  try {
    const [{ buildProgram, packageVersion }, { manPages }] = await Promise.all([
      import('../dist/src/cli/main.js'),
      import('../dist/src/cli/man-page.js'),
    ]);
    const seconds = process.env.SOURCE_DATE_EPOCH;
    const date = (seconds ? new Date(Number(seconds) * 1000) : new Date()).toISOString().slice(0, 10);
    const session = { output: { text() {} }, signal: new AbortController().signal };
    return manPages(await buildProgram(undefined, session), { version: packageVersion(), date });
  } catch (error) {
    if (error.code !== 'ERR_ADDON') throw error;
    process.stderr.write('volseal: no manual pages: they are made once the addon is compiled\n');
    return new Map();
  }
}

const pages = await program();
rmSync(TARGET, { recursive: true, force: true });
mkdirSync(TARGET, { recursive: true });
for (const [name, text] of pages) writeFileSync(`${TARGET}/${name}`, text);
// Node would wait for the threads of the pool, if a command had started it.
process.exit(0);
