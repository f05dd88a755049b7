// Runs the compiled tests with Node's own runner: `node scripts/run-tests.mjs [FILTER]...` (a filter is part of a path).
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const filters = process.argv.slice(2);
const files = readdirSync('dist/test', { recursive: true })
  .filter((name) => name.endsWith('.test.js') && (filters.length === 0 || filters.some((filter) => name.includes(filter))))
  .map((name) => `dist/test/${name}`)
  .sort();
if (files.length === 0) {
  console.error(`run-tests: no test under dist/test matches ${filters.join(' ')}`);
  process.exit(1);
}
// Nothing of a test may end up among the user's own keys and records.
const dataHome = mkdtempSync(join(tmpdir(), 'volseal-data-'));
const { status } = spawnSync(process.execPath, ['--enable-source-maps', '--test', '--test-reporter=spec', ...files], {
  stdio: 'inherit',
  // The SDK's advice on Node's version belongs to its users, not into the tests' output.
  env: { ...process.env, AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: 'true', XDG_DATA_HOME: dataHome },
});
rmSync(dataHome, { recursive: true, force: true });
process.exit(status ?? 1);
