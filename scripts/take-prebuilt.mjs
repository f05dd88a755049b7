// Takes the prebuilt addons out of the npm package of a release, for a clone on a machine without a compiler.
//
//   node scripts/take-prebuilt.mjs volseal-VERSION.tgz
//
// They must be made from the C++ sources that are here, and be what the package's list says.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sha256, sourcesDigest } from './native-sources.mjs';
import { prebuiltName } from './prebuilt-name.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const [file] = process.argv.slice(2);

function fail(message) {
  process.stderr.write(`setup: ${message}\n`);
  process.exit(1);
}

if (file === undefined || !existsSync(file)) fail(`${file ?? 'a file'}: is not there; name the npm package of a release`);
// Beside the place that they go to, so that one rename puts them there.
const work = mkdtempSync(join(ROOT, '.prebuilt-'));
process.on('exit', () => rmSync(work, { recursive: true, force: true }));
const { status, stderr } = spawnSync('tar', ['-xzf', resolve(file), '-C', work, 'package/prebuilds'], { encoding: 'utf8' });
if (status !== 0) fail(`${file}: has no prebuilt addons: ${stderr.trim()}`);
const taken = join(work, 'package/prebuilds');
const { sources, addons } = JSON.parse(readFileSync(join(taken, 'list.json'), 'utf8'));
if (sources !== sourcesDigest()) fail(`${file}: its addons are made from other C++ sources than these; check out the release's own commit`);
for (const { name, sha256: digest } of addons) {
  if (sha256(readFileSync(join(taken, name))) !== digest) fail(`${file}: ${name} is not what its list says`);
}
if (!addons.some(({ name }) => name === prebuiltName())) fail(`${file}: has no ${prebuiltName()}`);
rmSync(join(ROOT, 'prebuilds'), { recursive: true, force: true });
renameSync(taken, join(ROOT, 'prebuilds'));
