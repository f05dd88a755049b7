/** What `force` keeps of the file that it replaces, and what it says where it cannot. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, linkSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { test } from 'vitest';
import { decryptImage, encryptImage } from '../../src/index.js';
import { lab } from '../cli/program.js';
import { skipWithout, tryTool } from '../interop/tools.js';
import { testUnless } from '../requirements.js';
import { type Sandbox, sandbox } from '../volume/sandbox.js';

const OTHER_USER = 4242;
const OTHER_GROUP = 4343;
const skipWithoutRoot = process.getuid?.() === 0 ? false : 'needs root: chown';

/** A volume at `a.vol`, and an encryption that replaces it. @returns its warnings */
async function replaced(prepare: (box: Sandbox) => void, resume = false): Promise<{ box: Sandbox; warnings: string[] }> {
  const box = sandbox();
  box.image('a.raw', 4096);
  await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms });
  prepare(box);
  const warnings: string[] = [];
  const onWarning = (warning: string) => void warnings.push(warning);
  await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms, force: true, resume, onWarning });
  return { box, warnings };
}

const modeOf = (path: string): string => (statSync(path).mode & 0o7777).toString(8);

for (const [mode, resume] of [
  [0o600, false],
  [0o640, false],
  [0o664, false],
  [0o664, true],
  [0o444, false],
  [0o755, false],
] as const)
  test(`keeps the mode ${mode.toString(8)}${resume ? ', with resume' : ''}`, async () => {
    const { box, warnings } = await replaced((it) => chmodSync(it.path('a.vol'), mode), resume);
    assert.equal(modeOf(box.path('a.vol')), mode.toString(8));
    assert.deepEqual(warnings, []);
  });

test('a new file is the owner’s alone', async () => {
  const box = sandbox();
  box.image('a.raw', 4096);
  await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms, force: true });
  await decryptImage(box.path('a.vol'), box.path('b.raw'), { kms: box.kms, force: true });
  for (const name of ['a.vol', 'b.raw']) assert.equal(modeOf(box.path(name)), '600');
});

testUnless(skipWithoutRoot)('keeps owner and group', async () => {
  const { box, warnings } = await replaced((it) => {
    chownSync(it.path('a.vol'), OTHER_USER, OTHER_GROUP);
    chmodSync(it.path('a.vol'), 0o660);
  });
  const { uid, gid } = statSync(box.path('a.vol'));
  assert.deepEqual([uid, gid, modeOf(box.path('a.vol')), warnings], [OTHER_USER, OTHER_GROUP, '660', []]);
});

testUnless(skipWithoutRoot)('gives nothing to another user who has put a file where everybody may', async () => {
  const { box, warnings } = await replaced((it) => {
    chmodSync(it.path('.'), 0o1777);
    chownSync(it.path('a.vol'), OTHER_USER, OTHER_GROUP);
    chmodSync(it.path('a.vol'), 0o666);
  });
  const { uid } = statSync(box.path('a.vol'));
  assert.deepEqual([uid, modeOf(box.path('a.vol'))], [0, '600']);
  assert.match(warnings.join(), /a\.vol: .*another user \(uid 4242\).*were not kept/);
});

testUnless(skipWithoutRoot || skipWithout('setpriv'))(
  'says what may not be kept, and gives the rights of the group to no other one',
  () => {
    const at = lab();
    at.image('a.raw', 4096);
    mkdirSync(at.path('theirs'));
    // With a home of root's own: one in another user's directory is refused.
    at.ok(['encrypt', 'a.raw', 'theirs/a.vol']);
    for (const name of ['', 'theirs']) chownSync(at.path(name), OTHER_USER, OTHER_USER);
    chownSync(at.path('theirs/a.vol'), OTHER_USER + 1, OTHER_GROUP);
    chmodSync(at.path('theirs/a.vol'), 0o664);
    const through = ['setpriv', `--reuid=${OTHER_USER}`, `--regid=${OTHER_USER}`, '--clear-groups'];
    const env = { VOLSEAL_HOME: at.path('theirs/home') };
    const outcome = at.run(['encrypt', 'a.raw', 'theirs/a.vol', '--force'], { through, env });
    assert.equal(outcome.status, 0, outcome.stderr);
    assert.match(outcome.stderr, /could not keep of the file that is replaced: group, owner/);
    const { uid, gid } = statSync(at.path('theirs/a.vol'));
    assert.deepEqual([uid, gid, modeOf(at.path('theirs/a.vol'))], [OTHER_USER, OTHER_USER, '604']);
  },
);

test('other names of the file still lead to the old one, and that is said', async () => {
  let before = Buffer.alloc(0);
  const { box, warnings } = await replaced((it) => {
    linkSync(it.path('a.vol'), it.path('other name'));
    before = readFileSync(it.path('a.vol'));
  });
  assert.deepEqual(box.contents('other name'), before);
  assert.match(warnings.join(), /a\.vol: the file that is replaced has other names \(hard links\)/);
});

test('the name for the way back, while a header and its volume are replaced together, is none of them', async () => {
  const box = sandbox();
  box.image('a.raw', 64 * 1024);
  const warnings: string[] = [];
  const options = { kms: box.kms, header: box.path('a.header'), onWarning: (warning: string) => warnings.push(warning) };
  for (const force of [false, true]) await encryptImage(box.path('a.raw'), box.path('a.vol'), { ...options, force });
  assert.deepEqual(warnings, []);
  linkSync(box.path('a.header'), box.path('other name'));
  await encryptImage(box.path('a.raw'), box.path('a.vol'), { ...options, force: true });
  assert.match(warnings.join(), /a\.header: the file that is replaced has other names/);
});

/** Why extended attributes cannot be tried here. */
function skipAttributes(): string | false {
  const missing = skipWithout('setfattr', 'getfattr', 'setfacl', 'getfacl');
  if (missing !== false) return missing;
  return spawnSync('sh', ['-c', 'f=$(mktemp) && setfattr -n user.a -v 1 "$f"; s=$?; rm "$f"; exit $s']).status === 0
    ? false
    : 'the temporary directory has no extended attributes';
}

testUnless(skipAttributes())('keeps extended attributes and the access control list, and takes none from the directory', async () => {
  const { box, warnings } = await replaced((it) => {
    const volume = it.path('a.vol');
    for (const words of [
      ['setfattr', '-n', 'user.backup.policy', '-v', 'daily', volume],
      ['setfacl', '-m', `u:${OTHER_USER}:r`, volume],
    ] as const)
      assert.equal(tryTool(words[0], words.slice(1)).status, 0);
  });
  assert.match(tryTool('getfattr', ['-n', 'user.backup.policy', '--only-values', box.path('a.vol')]).stdout, /^daily/);
  assert.match(tryTool('getfacl', ['-n', box.path('a.vol')]).stdout, new RegExp(`user:${OTHER_USER}:r--`));
  assert.deepEqual(warnings, []);

  assert.equal(tryTool('setfacl', ['-d', '-m', `u:${OTHER_USER}:rw`, box.directory]).status, 0);
  assert.equal(tryTool('setfacl', ['-b', box.path('a.vol')]).status, 0);
  await encryptImage(box.path('a.raw'), box.path('a.vol'), { kms: box.kms, force: true });
  assert.doesNotMatch(tryTool('getfacl', ['-n', box.path('a.vol')]).stdout, new RegExp(`user:${OTHER_USER}`));
});
