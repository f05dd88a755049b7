// What npm runs in a clone after installation: builds dist/. Where the tools for that are left out
// (`npm ci --omit=dev`), a dist/ that was built before stays as it is (install.mjs has refused a clone that has none).
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';

const DEVELOPMENT_TOOLS = ['esbuild', 'typescript'];

const require = createRequire(import.meta.url);

function isInstalled(name) {
  try {
    return require.resolve(`${name}/package.json`) !== '';
  } catch {
    return false;
  }
}

if (DEVELOPMENT_TOOLS.every(isInstalled)) {
  process.exitCode = spawnSync('npm', ['run', '--silent', 'build'], { stdio: 'inherit' }).status ?? 1;
} else {
  process.stderr.write('volseal: dist/ stays as it was built before: the packages that build it are not installed\n');
}
