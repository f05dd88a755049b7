/** `kms backup` into a directory where another user exchanges names all the time: nothing is written elsewhere. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, lstatSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { VolsealError } from '../../../src/errors.js';
import { administerKms } from '../../../src/kms/embedded/administration.js';
import { rootRefused } from '../../cli/program.js';
import { skipWithout } from '../../interop/tools.js';
import { testUnless } from '../../requirements.js';
import { until } from '../../until.js';
import { temporaryHome } from '../harness.js';

const MALLORY = 12_345;
/** Puts a link to another directory in the place of each copy that is being made. */
const SCRIPT = `cd "$1" && : >ready && while :; do for copy in .copy.partial-*; do
  [ -d "$copy" ] && [ ! -L "$copy" ] && mv -T "$copy" "stolen-$copy" && ln -s "$2" "$copy"
done; done 2>/dev/null`;

testUnless(rootRefused() || skipWithout('setpriv'))('the copy is made whole under its name, or not at all', async () => {
  const home = temporaryHome();
  const kms = administerKms(home);
  onTestFinished(() => kms.close());
  // Outside the directory that only its maker may enter.
  const shared = join(temporaryHome(), 'shared');
  chmodSync(join(shared, '..'), 0o755);
  mkdirSync(shared);
  chmodSync(shared, 0o777);
  const precious = join(temporaryHome(), 'precious');
  mkdirSync(precious);
  const ids = ['--reuid', `${MALLORY}`, '--regid', `${MALLORY}`, '--clear-groups'];
  const racer = spawn('setpriv', [...ids, 'sh', '-c', SCRIPT, 'race', shared, precious], { stdio: 'ignore' });
  onTestFinished(() => void racer.kill('SIGKILL'));
  await until(() => readdirSync(shared).includes('ready'));
  let refused = 0;
  for (let round = 0; round < 10; round++) {
    const target = join(shared, 'copy');
    try {
      await kms.backUp(target, true);
      assert.ok(lstatSync(target).isDirectory(), 'the copy has its name');
    } catch (error) {
      assert.ok(error instanceof VolsealError && error.code === 'ERR_IO', String(error));
      refused++;
    }
    assert.deepEqual(readdirSync(precious), [], `round ${round}`);
    rmSync(target, { recursive: true, force: true });
  }
  assert.ok(refused > 0, 'nothing was exchanged');
});
