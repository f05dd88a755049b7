/** Targets behind symbolic links: the link stays, what it leads to is replaced whole or stays as it was. */
import assert from 'node:assert/strict';
import { lstatSync, mkdirSync, readdirSync, readlinkSync, renameSync, symlinkSync, unlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { describe, test } from 'vitest';
import { attach, createVolume, decryptImage, describeVolume, encryptImage } from '../../src/index.js';
import { type Sandbox, sandbox } from '../volume/sandbox.js';

interface Linked {
  box: Sandbox;
  image: Buffer;
  /** Where the link leads. */
  real: string;
  link: string;
}

/** a.raw, and a link to a file in another directory. */
function linked(): Linked {
  const box = sandbox();
  const image = box.image('a.raw', 64 * 1024);
  mkdirSync(box.path('elsewhere'));
  writeFileSync(box.path('elsewhere/real.vol'), 'precious');
  symlinkSync('elsewhere/real.vol', box.path('link.vol'));
  return { box, image, real: box.path('elsewhere/real.vol'), link: box.path('link.vol') };
}

const isStillLink = ({ link }: Linked): boolean => lstatSync(link).isSymbolicLink() && readlinkSync(link) === 'elsewhere/real.vol';

describe('a target that is a symbolic link', () => {
  test('with force: what it leads to is replaced, from a temporary file beside it', async () => {
    const it = linked();
    const { box, image, real, link } = it;
    const beside = new Set<string>();
    const onProgress = (): void => {
      for (const name of readdirSync(dirname(real))) beside.add(name);
    };
    await encryptImage(box.path('a.raw'), link, { kms: box.kms, force: true, onProgress });
    assert.ok(isStillLink(it));
    assert.ok([...beside].some((name) => /^\.real\.vol\.[0-9a-f]{12}\.partial$/.test(name)));
    assert.deepEqual(readdirSync(dirname(real)), ['real.vol']);
    assert.deepEqual(readdirSync(box.directory).sort(), ['a.raw', 'elsewhere', 'home', 'link.vol']);

    // And back, through a chain of links.
    symlinkSync('link.vol', box.path('chain'));
    await decryptImage(box.path('chain'), box.path('chain'), { kms: box.kms, force: true });
    assert.ok(isStillLink(it) && lstatSync(box.path('chain')).isSymbolicLink());
    assert.ok(box.contents('elsewhere/real.vol').equals(image));
  });

  test('without force: refused, as any target that exists', async () => {
    const it = linked();
    const { box, link } = it;
    await assert.rejects(encryptImage(box.path('a.raw'), link, { kms: box.kms }), { code: 'ERR_TARGET_EXISTS', details: { path: link } });
    assert.ok(isStillLink(it));
    assert.equal(box.contents('link.vol').toString(), 'precious');
  });

  test('to nothing: refused before any work, with force and without', async () => {
    const it = linked();
    const { box, real, link } = it;
    unlinkSync(real);
    for (const force of [false, true]) {
      const failure = { code: 'ERR_ARGUMENT', message: /link\.vol: is a symbolic link to elsewhere\/real\.vol, where nothing is/ };
      await assert.rejects(encryptImage(box.path('a.raw'), link, { kms: box.kms, force }), failure);
      await assert.rejects(createVolume(box.path('b.vol'), { kms: box.kms, force, sizeBytes: 512, header: link }), failure);
    }
    assert.ok(isStillLink(it));
    assert.deepEqual(readdirSync(dirname(real)), []);
    assert.deepEqual(readdirSync(box.directory).sort(), ['a.raw', 'elsewhere', 'link.vol']);
  });

  test('to itself, or to a directory', async () => {
    const { box } = linked();
    symlinkSync('circle.vol', box.path('circle.vol'));
    symlinkSync('elsewhere', box.path('directory.vol'));
    const encrypt = (name: string) => encryptImage(box.path('a.raw'), box.path(name), { kms: box.kms, force: true });
    await assert.rejects(encrypt('circle.vol'), { code: 'ERR_IO', message: /circle\.vol: .*ELOOP/ });
    await assert.rejects(encrypt('directory.vol'), { code: 'ERR_ARGUMENT', message: /directory\.vol: is a directory/ });
  });

  test('that is changed meanwhile: the file that was checked is replaced, and no other', async () => {
    const { box, real, link } = linked();
    box.image('other.vol', 100);
    const other = box.contents('other.vol');
    const turn = (): void => {
      symlinkSync('other.vol', box.path('turned'));
      renameSync(box.path('turned'), link);
    };
    const { dataSeconds: _, ...made } = await encryptImage(box.path('a.raw'), link, { kms: box.kms, force: true, onProgress: turn });
    assert.ok(box.contents('other.vol').equals(other));
    // It tells of the volume that it made, by the name it was given.
    assert.equal(made.path, link);
    assert.deepEqual({ ...made, path: real }, await describeVolume(real));
    await (await attach(real, { kms: box.kms })).detach();
  });

  test('its header too: described as it was made', async () => {
    const { box, real } = linked();
    const header = box.path('link.header');
    writeFileSync(box.path('elsewhere/real.header'), 'old');
    symlinkSync('elsewhere/real.header', header);
    const turn = (): void => {
      symlinkSync('nowhere', box.path('turned'));
      renameSync(box.path('turned'), header);
    };
    const made = await createVolume(real, { kms: box.kms, force: true, header, sizeBytes: 512, onProgress: turn });
    assert.equal(made.header, header);
    assert.deepEqual(
      { ...made, header: null },
      { ...(await describeVolume(real, { header: box.path('elsewhere/real.header') })), header: null },
    );
  });

  test('a job that fails leaves the link and what it leads to', async () => {
    const it = linked();
    const { box, real, link } = it;
    const controller = new AbortController();
    const options = { kms: box.kms, force: true, signal: controller.signal, onProgress: () => controller.abort() };
    await assert.rejects(encryptImage(box.path('a.raw'), link, options), { code: 'ERR_ABORTED' });
    assert.ok(isStillLink(it));
    assert.equal(box.contents('link.vol').toString(), 'precious');
    assert.deepEqual(readdirSync(dirname(real)), ['real.vol']);
  });

  test('what a killed run left beside the file is removed', async () => {
    const { box, real, link } = linked();
    const leftover = `${dirname(real)}/.real.vol.0123456789ab.partial`;
    writeFileSync(leftover, 'left');
    utimesSync(leftover, 0, 0);
    await encryptImage(box.path('a.raw'), link, { kms: box.kms, force: true });
    assert.deepEqual(readdirSync(dirname(real)), ['real.vol']);
  });

  test('to an attached volume: busy', async () => {
    const { box, real, link } = linked();
    await createVolume(real, { kms: box.kms, sizeBytes: 512, force: true });
    await using _writer = await attach(real, { kms: box.kms });
    const failure = { code: 'ERR_STATE_BUSY', details: { path: link } };
    await assert.rejects(encryptImage(box.path('a.raw'), link, { kms: box.kms, force: true }), failure);
  });

  test('header and volume behind links are replaced both', async () => {
    const it = linked();
    const { box, image, link } = it;
    writeFileSync(box.path('elsewhere/real.header'), 'old');
    symlinkSync('elsewhere/real.header', box.path('link.header'));
    const header = box.path('link.header');
    await encryptImage(box.path('a.raw'), link, { kms: box.kms, force: true, header });
    assert.ok(isStillLink(it) && lstatSync(header).isSymbolicLink());
    assert.deepEqual(readdirSync(box.path('elsewhere')).sort(), ['real.header', 'real.vol']);
    await decryptImage(link, box.path('b.raw'), { kms: box.kms, header });
    assert.ok(box.contents('b.raw').equals(image));
  });

  test('header and volume that are one file by a link or a linked directory', async () => {
    const { box, real, link } = linked();
    symlinkSync('elsewhere', box.path('same'));
    for (const [volume, header] of [
      [real, link],
      [link, real],
      [box.path('same/new.vol'), box.path('elsewhere/new.vol')],
    ] as const) {
      const failure = { code: 'ERR_ARGUMENT', message: /a detached header needs a file of its own/ };
      await assert.rejects(encryptImage(box.path('a.raw'), volume, { kms: box.kms, force: true, header }), failure);
    }
    assert.equal(box.contents('link.vol').toString(), 'precious');
  });
});
