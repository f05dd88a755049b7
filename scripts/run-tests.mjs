// Runs the compiled tests with Node's own runner: `node scripts/run-tests.mjs [FILTER]...` (a filter is part of a path).
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';

const filters = process.argv.slice(2);
const files = readdirSync('dist/test', { recursive: true })
  .filter((name) => name.endsWith('.test.js') && (filters.length === 0 || filters.some((filter) => name.includes(filter))))
  .map((name) => `dist/test/${name}`)
  .sort();
if (files.length === 0) {
  console.error(`run-tests: no test under dist/test matches ${filters.join(' ')}`);
  process.exit(1);
}
const { status } = spawnSync(process.execPath, ['--enable-source-maps', '--test', '--test-reporter=spec', ...files], {
  stdio: 'inherit',
  // The SDK's advice on Node's version belongs to its users, not into the tests' output.
  env: { ...process.env, AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: 'true' },
});
process.exit(status ?? 1);
