/** `attach --mount` and `--device`: an attached volume through the kernel, and what is said where that cannot be. */
import assert from 'node:assert/strict';
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';

import { test } from 'vitest';
import { failureOf, parsed } from '../cli/program.js';
import { runTool, skipWithout } from '../interop/tools.js';
import { skipWithoutMount } from '../mount.js';
import { describeUnless } from '../requirements.js';
import { until } from '../until.js';
import { labWithVolume } from './volumes.js';

describeUnless(skipWithout('nbdfuse', 'fusermount3') || skipWithoutMount())('attach --mount', () => {
  test('shows the volume as a file; detach is refused while it is open, and then unmounts', () => {
    const { ok, run, path, contents, listed } = labWithVolume();
    mkdirSync(path('mounted here'));
    const [uri, file] = ok(['attach', 'disk.vol', '--mount', 'mounted here']).text.trim().split('\n');
    assert.equal(file, path('mounted here/disk.raw'));
    assert.deepEqual(readFileSync(file!), contents('disk.raw'));
    assert.equal(listed()[0]!.mountedFile, file);
    assert.equal(listed()[0]!.uri, uri);
    const open = openSync(file!, 'r');
    assert.equal(failureOf(run(['detach', 'disk.vol', '--json'])).code, 'ERR_STATE_BUSY');
    closeSync(open);
    ok(['detach', 'disk.vol']);
    assert.deepEqual(readdirSync(path('mounted here')), []);
  });

  test('what is written to the file is in the volume', () => {
    const { ok, path, image, contents } = labWithVolume();
    mkdirSync(path('m'));
    ok(['attach', 'disk.vol', '--mount', 'm']);
    image('new.raw', 1024 * 1024);
    runTool('dd', [`if=${path('new.raw')}`, `of=${path('m/disk.raw')}`, 'bs=64K', 'conv=notrunc,fsync']);
    ok(['detach', 'disk.vol']);
    ok(['decrypt', 'disk.vol', 'decrypted.raw']);
    assert.deepEqual(contents('decrypted.raw'), contents('new.raw'));
  });

  test('somebody else unmounts it: the volume stays attached, and detach needs no force', async () => {
    const { ok, path, listed } = labWithVolume();
    mkdirSync(path('m'));
    ok(['attach', 'disk.vol', '--mount', 'm']);
    runTool('fusermount3', ['-u', path('m')]);
    await until(() => listed()[0]!.mountedFile === null && listed()[0]!.status!.clients === 0);
    ok(['detach', 'disk.vol']);
  });

  test('after kill -9 of the serving process the next attach to the same directory works', async () => {
    const { ok, path, listed, contents } = labWithVolume();
    mkdirSync(path('m'));
    ok(['attach', 'disk.vol', '--mount', 'm']);
    process.kill(listed()[0]!.pid, 'SIGKILL');
    await until(() => listed().length === 0);
    ok(['attach', 'disk.vol', '--mount', 'm']);
    assert.deepEqual(readFileSync(path('m/disk.raw')), contents('disk.raw'));
    ok(['detach', 'disk.vol']);
  });

  test('a directory with contents is refused before KMS is asked', () => {
    const { run, path, ok } = labWithVolume();
    mkdirSync(path('m'));
    writeFileSync(path('m/file'), '');
    const { code, details } = failureOf(run(['attach', 'disk.vol', '--mount', 'm', '--json']));
    assert.deepEqual([code, details.path], ['ERR_ARGUMENT', path('m')]);
    ok(['verify', 'disk.vol']);
  });
});

describeUnless(skipWithout('nbd-client'))('attach --device', () => {
  const withoutModule = existsSync('/sys/module/nbd') ? 'this kernel has nbd' : false;
  describeUnless(withoutModule)('without the kernel module', () => {
    test('says that it is missing, and how to load it; nothing is attached', () => {
      const { run, ok } = labWithVolume();
      const outcome = run(['attach', 'disk.vol', '--device', '--json']);
      assert.equal(outcome.status, 4);
      const { code, message, details } = failureOf(outcome);
      assert.deepEqual([code, details], ['ERR_REQUIREMENT', { missing: 'nbd' }]);
      assert.match(message, /modprobe nbd/);
      assert.deepEqual(parsed(ok(['attached', '--json']).text).attached, []);
    });
  });
});
