/** Files of another user, or that others may write to, decide nothing: they are refused by name. */
import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  mkdirSync,
  renameSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'vitest';
import { VolsealError } from '../../../src/errors.js';
import { EmbeddedKms } from '../../../src/kms/embedded/service.js';
import { openWorkspaces } from '../../../src/workspaces/state.js';
import { rootRefused } from '../../cli/program.js';
import { describeUnless } from '../../requirements.js';
import { ask, temporaryHome } from '../harness.js';

const STRANGER = 12_345;

async function usedHome(): Promise<string> {
  const home = temporaryHome();
  await used(home);
  return home;
}

async function used(home: string): Promise<void> {
  const kms = EmbeddedKms.open(home);
  try {
    assert.equal(ask(kms, 'CreateKey').status, 200);
  } finally {
    await kms.close();
  }
}

const refuses = (path: string) => (error: unknown) => {
  assert.ok(error instanceof VolsealError, String(error));
  assert.ok(error.message.startsWith(`${path}: `), error.message);
  return error.code === 'ERR_IO';
};

const FILES = ['.', 'kms', 'kms/store.mdb', 'kms/root.key', 'audit', 'audit/embedded', 'audit/embedded/audit.jsonl'];

describeUnless(rootRefused())('what belongs to another user is refused', () => {
  for (const name of FILES) {
    test(name === '.' ? 'the home' : name, async () => {
      const home = await usedHome();
      const path = join(home, name);
      chownSync(path, STRANGER, 0);
      await assert.rejects(used(home), refuses(path));
    });
  }

  test('a root-key.json, whose command would be run', async () => {
    const home = temporaryHome();
    mkdirSync(join(home, 'kms'), { mode: 0o700 });
    const path = join(home, 'kms', 'root-key.json');
    const proof = join(home, 'was run');
    writeFileSync(path, JSON.stringify({ source: 'command', command: ['touch', proof] }));
    chownSync(path, STRANGER, STRANGER);
    await assert.rejects(used(home), refuses(path));
    assert.equal(existsSync(proof), false);
  });

  test('a link to a directory of the caller; the mode of the directory stays', async () => {
    const home = await usedHome();
    const elsewhere = temporaryHome();
    const target = join(elsewhere, 'kms');
    renameSync(join(home, 'kms'), target);
    chmodSync(target, 0o755);
    const path = join(home, 'kms');
    symlinkSync(target, path);
    await used(home);
    assert.equal(statSync(target).mode & 0o777, 0o755);
    lchownSync(path, STRANGER, STRANGER);
    await assert.rejects(used(home), refuses(path));
  });

  test('the store of WorkSpaces', async () => {
    const home = temporaryHome();
    await openWorkspaces(home, 'create').close();
    chownSync(join(home, 'workspaces'), STRANGER, 0);
    assert.throws(() => openWorkspaces(home, 'create'), refuses(join(home, 'workspaces')));
  });
});

/** A directory with a used home in it. */
async function homeBelow(): Promise<{ parent: string; home: string }> {
  const parent = temporaryHome();
  const home = join(parent, 'home');
  await used(home);
  return { parent, home };
}

describeUnless(rootRefused())('a home that another user could exchange is refused', () => {
  test('below a directory of another user', async () => {
    const { parent, home } = await homeBelow();
    chownSync(parent, STRANGER, 0);
    await assert.rejects(used(home), refuses(parent));
    assert.throws(() => openWorkspaces(home, 'create'), refuses(parent));
  });

  test('behind a link of another user, wherever on the way it is', async () => {
    const { parent } = await homeBelow();
    const way = join(temporaryHome(), 'way');
    symlinkSync(parent, way);
    await used(join(way, 'home'));
    lchownSync(way, STRANGER, STRANGER);
    await assert.rejects(used(join(way, 'home')), refuses(way));
  });

  test('a home that is not there yet, too', async () => {
    const { parent } = await homeBelow();
    chownSync(parent, STRANGER, 0);
    await assert.rejects(used(join(parent, 'a', 'b')), refuses(parent));
    assert.equal(existsSync(join(parent, 'a')), false);
  });
});

test('a home below a directory in which everybody may exchange names is refused, one in a sticky directory is not', async () => {
  const { parent, home } = await homeBelow();
  chmodSync(parent, 0o777);
  await assert.rejects(used(home), refuses(parent));
  chmodSync(parent, 0o1777);
  await used(home);
});

describe('what others may write to is refused', () => {
  for (const name of ['.', 'kms/store.mdb', 'audit/embedded/audit.jsonl']) {
    test(name === '.' ? 'the home' : name, async () => {
      const home = await usedHome();
      const path = join(home, name);
      chmodSync(path, name === '.' ? 0o702 : 0o602);
      await assert.rejects(used(home), refuses(path));
    });
  }

  test('and a link in place of a file, a pipe, a root-key.json without an end', async () => {
    const home = await usedHome();
    const log = join(home, 'audit/embedded/audit.jsonl');
    renameSync(log, `${log}.away`);
    symlinkSync(`${log}.away`, log);
    await assert.rejects(used(home), (error) => error instanceof VolsealError && error.message.startsWith(`${log}: `));
    const path = join(home, 'kms', 'root-key.json');
    writeFileSync(path, '');
    truncateSync(path, 2 ** 40);
    await assert.rejects(used(home), refuses(path));
  });
});
