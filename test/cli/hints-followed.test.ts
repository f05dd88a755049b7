/**
 * Hints with commands in them, done exactly as they stand: what was wrong is right afterwards, and nothing is lost.
 *
 * Each such hint is in one of the three lists here: a scenario follows it, another file does, or there is a reason why
 * none can.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'vitest';
import { ROOT } from '../built.js';
import { interrupted, SLOW_IMAGE_BYTES, startSlowly, untilThere } from '../faults/interrupted.js';
import { freePort } from '../free-port.js';
import { skipWithout } from '../interop/tools.js';
import { describeUnless } from '../requirements.js';
import { hintTexts, VALUE } from './hint-texts.js';
import { ended, failureOf, firstLine, type Lab, lab, type Outcome, type RunOptions, unprivileged } from './program.js';

/** A hint that somebody could do: it names a command or an option. */
const EXECUTABLE =
  /\b(volseal \w|mv|rm|dd|cryptsetup \w|qemu-img|simg2img|aws|redis-cli|npm|fuser|blockdev|ls -ld|sync\(1\)|ulimit|cd)\b|--[a-z]/;

const MIB = 1024 * 1024;

/** What a scenario can do with hints. */
interface Reader {
  readonly at: Lab;
  /** The hints that were given. */
  readonly met: string[];
  /** Runs a command that must fail. @returns its hint */
  hintOf(args: string[], code: string, options?: RunOptions): string;
  /** Runs a shell command that must succeed: what `pattern` finds in the hint, its placeholders replaced. */
  follow(hint: string, pattern: RegExp, placeholders?: Record<string, string>): Outcome;
}

interface Scenario {
  /** How the texts begin that it follows. */
  readonly texts: readonly string[];
  readonly run: (reader: Reader) => void | Promise<void>;
}

const isVolumeOf = (at: Lab, image: string, more: string[] = []): void => void at.ok(['verify', 'a.vol', '--against', image, ...more]);

/** Puts other bytes into the token, as somebody without the key could. */
function changeToken({ shell, path }: Lab, change: (json: string) => string): void {
  assert.equal(shell('cryptsetup token export --token-id 0 a.vol > token').status, 0);
  const before = readFileSync(path('token'), 'utf8');
  const after = change(before);
  assert.notEqual(after, before);
  writeFileSync(path('token'), after);
  assert.equal(shell('cryptsetup token remove --token-id 0 a.vol && cryptsetup token import --token-id 0 a.vol < token').status, 0);
}

/** A volume `a.vol` of `a.raw`, and a backup of its header. */
function backedUp(at: Lab, ...more: string[]): void {
  at.image('a.raw', MIB);
  at.ok(['encrypt', 'a.raw', 'a.vol', ...more]);
  at.ok(['header', 'backup', 'a.vol', 'backup']);
}

const KEEP = /dd if=VOLUME of=COPY [^)]*/;
const KEPT = { VOLUME: 'a.vol', COPY: 'kept' };

const WITH_CRYPTSETUP: Scenario[] = [
  {
    texts: ['Keep a copy of the header as it is', 'The header was changed after volseal wrote it'],
    run({ at, hintOf, follow }) {
      backedUp(at);
      changeToken(at, (json) => json.replace(/"volseal-created":"\d/, '"volseal-created":"1'));
      const hint = hintOf(['verify', 'a.vol'], 'ERR_HEADER_MAC');
      follow(hint, KEEP, KEPT);
      // A second time it destroys no copy.
      assert.notEqual(at.shell(KEEP.exec(hint)![0].replace('VOLUME', 'a.vol').replace('COPY', 'kept')).status, 0);
      assert.match(hint, /restore the header from a backup/);
      at.ok(['header', 'restore', 'a.vol', 'backup']);
      isVolumeOf(at, 'a.raw');
      assert.ok(at.contents('kept').length >= MIB);
    },
  },
  {
    texts: ['KMS did not wrap this data key under this context'],
    run({ at, hintOf, follow }) {
      backedUp(at, '--context', 'user=alice');
      changeToken(at, (json) => json.replace('alice', 'bob'));
      const hint = hintOf(['decrypt', 'a.vol', 'b.raw'], 'ERR_CONTEXT_MISMATCH');
      follow(hint, KEEP, KEPT);
      at.ok(['header', 'restore', 'a.vol', 'backup']);
      isVolumeOf(at, 'a.raw', ['--context', 'user=alice']);
    },
  },
  {
    texts: [`${VALUE} Then restore the header from a backup of this very volume, made after its last re-encryption`],
    run({ at, hintOf, follow }) {
      backedUp(at);
      at.ok(['create', 'other.vol', '--size', '1M']);
      at.shell('cryptsetup token export --token-id 0 other.vol > other');
      changeToken(at, () => at.contents('other').toString());
      const hint = hintOf(['decrypt', 'a.vol', 'b.raw'], 'ERR_KEY_DIGEST');
      follow(hint, KEEP, KEPT);
      at.ok(['header', 'restore', 'a.vol', 'backup']);
      isVolumeOf(at, 'a.raw');
    },
  },
  {
    texts: ['The volume has passphrases: it was perhaps re-encrypted with cryptsetup'],
    run({ at, hintOf, follow }) {
      backedUp(at);
      writeFileSync(at.path('pass'), 'a passphrase of ours');
      at.ok(['recovery', 'add', 'a.vol', '--passphrase-file', 'pass']);
      const before = at.contents('a.vol');
      const reencrypt =
        'cryptsetup reencrypt -q --force-offline-reencrypt --key-file pass --pbkdf pbkdf2 --pbkdf-force-iterations 1000 a.vol';
      assert.equal(at.shell(reencrypt).status, 0);
      assert.ok(!at.contents('a.vol').equals(before));
      const hint = hintOf(['decrypt', 'a.vol', 'b.raw'], 'ERR_KEY_DIGEST');
      // Without the kernel's device, which a container lacks.
      follow(hint, /cryptsetup open VOLUME NAME/, { VOLUME: '--test-passphrase --key-file pass a.vol', NAME: '' });
      // What it warns of is refused as well.
      assert.equal(failureOf(at.run(['header', 'restore', 'a.vol', 'backup', '--json'])).code, 'ERR_HEADER_BACKUP');
    },
  },
  {
    texts: [`cryptsetup luksDump ${VALUE} shows the keyslots`, 'Name the key of this very volume, or one of its passphrases'],
    run({ at, hintOf, follow }) {
      writeFileSync(at.path('pass'), 'a passphrase of ours');
      writeFileSync(at.path('other'), 'another one');
      writeFileSync(at.path('key'), Buffer.alloc(64, 1));
      const format = 'luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 a.luks pass';
      assert.equal(at.shell(`truncate -s 20M a.luks && cryptsetup ${format}`).status, 0);
      follow(hintOf(['adopt', 'a.luks', '--passphrase-file', 'other'], 'ERR_KEYSLOT'), /cryptsetup luksDump a\.luks/);
      const hint = hintOf(['adopt', 'a.luks', '--volume-key-file', 'key'], 'ERR_KEY_DIGEST');
      assert.match(hint, /--passphrase-file FILE$/);
      at.ok(['adopt', 'a.luks', '--passphrase-file', 'pass']);
    },
  },
  {
    texts: [
      'With a copy of its header, cryptsetup converts it',
      'cryptsetup luksHeaderBackup',
      'cryptsetup convert --type luks2',
      `volseal adopt ${VALUE} --passphrase-file FILE`,
    ],
    run({ at, hintOf, follow }) {
      writeFileSync(at.path('pass'), 'a passphrase of ours');
      assert.equal(
        at.shell('truncate -s 4M old.img && cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 old.img pass').status,
        0,
      );
      const hint = hintOf(['verify', 'old.img'], 'ERR_NOT_A_VOLUME');
      follow(hint, /\n([\s\S]*)$/, { convert: 'convert -q', FILE: 'pass' });
      at.ok(['verify', 'old.img']);
      assert.equal(at.shell('cryptsetup isLuks --type luks1 old.img.luks1').status, 0);
    },
  },
  {
    texts: ['volseal did not make this LUKS2 volume'],
    run({ at, hintOf, follow }) {
      backedUp(at);
      assert.equal(at.shell('cryptsetup token export --token-id 0 a.vol > token && cryptsetup token remove --token-id 0 a.vol').status, 0);
      const hint = hintOf(['verify', 'a.vol'], 'ERR_HEADER_TOKEN');
      follow(hint, /cryptsetup token import/, { import: 'import a.vol < token' });
      isVolumeOf(at, 'a.raw');
    },
  },
  {
    texts: [
      ' If you know who added the others: --any-keyslot',
      `volseal recovery list ${VALUE} shows the keyslots`,
      ' With KMS the volume opens',
    ],
    run({ at, hintOf, follow }) {
      backedUp(at);
      writeFileSync(at.path('pass'), 'a passphrase of ours');
      const withoutKeyslot = hintOf(['decrypt', 'a.vol', 'b.raw', '--passphrase-file', 'pass'], 'ERR_KEYSLOT');
      assert.match(withoutKeyslot, / With KMS the volume opens without a recovery key\.$/);
      at.ok(['decrypt', 'a.vol', 'c.raw']);
      const add = 'volseal volume-key a.vol --to-fd 1 | cryptsetup luksAddKey -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000';
      assert.equal(at.shell(`${add} --volume-key-file /dev/stdin --key-size 512 a.vol pass`).status, 0);
      const hint = hintOf(['decrypt', 'a.vol', 'b.raw', '--passphrase-file', 'pass'], 'ERR_KEYSLOT');
      assert.match(follow(hint, /^volseal recovery list a\.vol/).text, /foreign|not added/);
      at.ok([
        'decrypt',
        'a.vol',
        'b.raw',
        '--passphrase-file',
        'pass',
        follow(hint, /--any-keyslot/, { '--any-keyslot': 'printf %s --any-keyslot' }).text,
      ]);
      assert.ok(at.contents('b.raw').equals(at.contents('a.raw')));
    },
  },
];

const ANYWHERE: Scenario[] = [
  {
    texts: ['Keep a copy of the file as it is, then restore the header from a backup'],
    run({ at, hintOf, follow }) {
      backedUp(at);
      const damaged = at.contents('a.vol');
      for (const offset of [300, 16384 + 300]) damaged[offset]! ^= 1;
      writeFileSync(at.path('a.vol'), damaged);
      follow(hintOf(['verify', 'a.vol'], 'ERR_HEADER_DAMAGED'), /volseal header restore a\.vol BACKUP/, { BACKUP: 'backup' });
      isVolumeOf(at, 'a.raw');
    },
  },
  {
    texts: ['Attaching for writing repairs it from the other copy'],
    run({ at, hintOf, follow }) {
      backedUp(at);
      const damaged = at.contents('a.vol');
      damaged[20_000]! ^= 1;
      writeFileSync(at.path('a.vol'), damaged);
      follow(hintOf(['verify', 'a.vol'], 'ERR_HEADER_DAMAGED'), /volseal write a\.vol < \/dev\/null/);
      isVolumeOf(at, 'a.raw');
      // The same where the header is detached.
      at.ok(['encrypt', 'a.raw', 'd.vol', '--header', 'd.header']);
      const header = at.contents('d.header');
      header[300]! ^= 1;
      writeFileSync(at.path('d.header'), header);
      const verify = ['verify', 'd.vol', '--header', 'd.header'];
      follow(hintOf(verify, 'ERR_HEADER_DAMAGED'), /volseal write d\.vol --header d\.header < \/dev\/null/);
      at.ok([...verify, '--against', 'a.raw']);
    },
  },
  {
    texts: ['To see whether the backup fits, without a change'],
    run({ at, hintOf, follow }) {
      backedUp(at);
      writeFileSync(at.path('a.vol'), Buffer.concat([Buffer.alloc(MIB), at.contents('a.vol').subarray(MIB)]));
      const restore = ['header', 'restore', 'a.vol', 'backup'];
      const hint = hintOf(restore, 'ERR_NOT_A_VOLUME');
      follow(hint, /volseal decrypt a\.vol copy\.raw --header backup/);
      assert.ok(at.contents('copy.raw').equals(at.contents('a.raw')));
      assert.match(hint, /restore it with --force/);
      at.ok([...restore, '--force']);
      isVolumeOf(at, 'a.raw');
    },
  },
  {
    texts: ['To look at the data with the backup and change nothing'],
    run({ at, hintOf }) {
      backedUp(at);
      at.ok(['encrypt', 'a.raw', 'b.vol']);
      const before = at.contents('b.vol');
      const hint = hintOf(['header', 'restore', 'b.vol', 'backup'], 'ERR_HEADER_BACKUP');
      // It is another volume's, so the look is refused too: nothing else happens.
      const [command] = /volseal decrypt b\.vol copy\.raw --header backup/.exec(hint) ?? [];
      assert.ok(command, hint);
      assert.notEqual(at.shell(command).status, 0);
      assert.ok(at.contents('b.vol').equals(before));
      assert.ok(!existsSync(at.path('copy.raw')));
    },
  },
  {
    texts: ['If its header is detached, name the header'],
    run({ at, hintOf, follow }) {
      at.image('a.raw', MIB);
      at.ok(['encrypt', 'a.raw', 'd.vol', '--header', 'd.header']);
      assert.match(hintOf(['verify', 'd.vol'], 'ERR_NOT_A_VOLUME'), /--header FILE/);
      at.ok(['verify', 'd.vol', '--header', 'd.header']);
      follow(hintOf(['verify', 'a.raw'], 'ERR_NOT_A_VOLUME'), /volseal encrypt a\.raw VOLUME/, { VOLUME: 'a.vol' });
      isVolumeOf(at, 'a.raw');
    },
  },
  {
    texts: ['Name the header of this data, or the data of this header'],
    run({ at, hintOf }) {
      for (const name of ['a', 'b']) {
        at.image(`${name}.raw`, MIB);
        at.ok(['encrypt', `${name}.raw`, `${name}.vol`, '--header', `${name}.header`]);
      }
      const mixed = ['verify', 'a.vol', '--header', 'b.header'];
      const hint = hintOf(mixed, 'ERR_DATA_MISMATCH');
      assert.match(hint, /Keep b\.header: .*--any-data$/);
      at.ok(['verify', 'a.vol', '--header', 'a.header', '--against', 'a.raw']);
      at.ok(['verify', 'b.vol', '--header', 'b.header', '--against', 'b.raw']);
    },
  },
  {
    texts: ['Name another file for the new one. To use this name all the same'],
    run({ at, hintOf, follow }) {
      for (const name of ['a', 'b', 'c']) at.image(`${name}.raw`, MIB);
      const into = (name: string): string[] => ['encrypt', `${name}.raw`, `${name}.vol`, '--header', 'disk.header', '--force'];
      at.ok(into('a'));
      follow(hintOf(into('b'), 'ERR_TARGET_EXISTS'), /mv -n \S+ \S+\.old/);
      at.ok(into('b'));
      // Done again, it does not put one old header over the other.
      follow(hintOf(into('c'), 'ERR_TARGET_EXISTS'), /mv -n \S+ \S+\.old/);
      at.ok(['verify', 'a.vol', '--header', 'disk.header.old', '--against', 'a.raw']);
      at.ok(['verify', 'b.vol', '--header', 'disk.header', '--against', 'b.raw']);
      // Whoever does not need the volume any more removes its header.
      follow(hintOf(into('c'), 'ERR_TARGET_EXISTS'), /rm disk\.header/);
      at.ok(into('c'));
      at.ok(['verify', 'c.vol', '--header', 'disk.header', '--against', 'c.raw']);
    },
  },
  {
    texts: ['Choose another target, or replace this one with --force'],
    run({ at, hintOf }) {
      backedUp(at);
      at.image('b.raw', MIB);
      hintOf(['encrypt', 'b.raw', 'a.vol'], 'ERR_TARGET_EXISTS');
      isVolumeOf(at, 'a.raw');
      at.ok(['encrypt', 'b.raw', 'a.vol', '--force']);
      isVolumeOf(at, 'b.raw');
    },
  },
  {
    texts: [
      `${VALUE} If volseal attached lists the volume: volseal detach`,
      'Wait until the other process is done; fuser -v',
      'volseal attached lists what is attached',
    ],
    run({ at, hintOf, follow }) {
      backedUp(at);
      at.ok(['attach', 'a.vol']);
      const hint = hintOf(['write', 'a.vol'], 'ERR_STATE_BUSY');
      assert.match(follow(hint, /volseal attached/).text, /a\.vol/);
      follow(hint, /volseal detach a\.vol/);
      at.ok(['write', 'a.vol']);
      isVolumeOf(at, 'a.raw');
      assert.equal(follow(hintOf(['detach', 'a.vol'], 'ERR_STATE_DETACHED'), /^volseal attached/).status, 0);
    },
  },
  {
    texts: ['volseal audit verify shows what is wrong'],
    run({ at, hintOf, follow }) {
      backedUp(at);
      const log = at.path('home/audit/embedded/audit.jsonl');
      const text = readFileSync(log, 'utf8');
      writeFileSync(log, text.replace(/"eventName":"[A-Z]/, '"eventName":"X'));
      const hint = hintOf(['audit', 'verify'], 'ERR_AUDIT');
      assert.notEqual(at.shell(/volseal audit verify/.exec(hint)![0]).status, 0);
      assert.equal(at.shell('cp -a home/audit evidence').status, 0);
      follow(hint, /volseal audit restart/);
      at.ok(['audit', 'verify']);
      isVolumeOf(at, 'a.raw');
      assert.equal(at.ok(['audit', 'verify']).status, 0);
      assert.ok(readFileSync(at.path('evidence/embedded/audit.jsonl'), 'utf8').length >= text.length);
    },
  },
  {
    texts: ['The root key of an existing store cannot be changed'],
    run({ at, hintOf, follow }) {
      backedUp(at);
      writeFileSync(at.path('key'), 'a passphrase of ours', { mode: 0o600 });
      const hint = hintOf(['kms', 'init', '--passphrase-file', 'key'], 'ERR_KMS_STORE');
      follow(hint, /VOLSEAL_HOME=DIRECTORY volseal kms init \.\.\./, { DIRECTORY: 'another', '...': '--passphrase-file key' });
      isVolumeOf(at, 'a.raw');
    },
  },
  {
    texts: [`volseal info ${VALUE} shows the context of the volume`],
    run({ at, hintOf, follow }) {
      backedUp(at, '--context', 'user=alice');
      const hint = hintOf(['decrypt', 'a.vol', 'b.raw', '--context', 'user=bob'], 'ERR_CONTEXT_MISMATCH');
      assert.match(follow(hint, /^volseal info a\.vol/).text, /alice/);
    },
  },
  {
    texts: ['Find out who made it before you use it: volseal info'],
    run({ at, hintOf, follow }) {
      backedUp(at);
      const other = at.ok(['kms', 'create-key']).text.trim();
      const hint = hintOf(['decrypt', 'a.vol', 'b.raw', '--expect-key', other], 'ERR_KMS_KEY_MISMATCH');
      assert.match(follow(hint, /volseal info a\.vol/).text, /kms key +arn:/);
    },
  },
  {
    texts: ['Give it a file or a pipe: volseal write VOLUME < FILE'],
    run({ at, follow }) {
      backedUp(at);
      at.image('b.raw', MIB);
      const outcome = at.shell('volseal write a.vol --json < .');
      follow(failureOf(outcome).hint!, /volseal write VOLUME < FILE/, { VOLUME: 'a.vol', FILE: 'b.raw' });
      isVolumeOf(at, 'b.raw');
    },
  },
  {
    texts: [`volseal ${VALUE}--help shows what it takes`],
    run({ hintOf, follow }) {
      assert.match(follow(hintOf(['encrypt', 'a.raw'], 'ERR_ARGUMENT'), /^volseal encrypt --help/).text, /Example/);
      assert.match(follow(hintOf(['ecnrypt'], 'ERR_ARGUMENT'), /^volseal --help/).text, /encrypt/);
    },
  },
  {
    texts: ['A pipe gets the image from standard output', 'An image comes through a pipe as standard input'],
    run({ at, hintOf, follow }) {
      backedUp(at);
      assert.equal(at.shell('mkfifo pipe').status, 0);
      const hint = hintOf(['decrypt', 'a.vol', 'pipe', '--force'], 'ERR_ARGUMENT');
      follow(hint, /volseal decrypt VOLUME - > PIPE/, { VOLUME: 'a.vol', PIPE: 'pipe & cat pipe > b.raw; wait' });
      assert.ok(at.contents('b.raw').equals(at.contents('a.raw')));
      const other = hintOf(['encrypt', 'pipe', 'b.vol'], 'ERR_ARGUMENT');
      follow(other, /\.\.\. \| volseal encrypt - VOLUME --size 10G/, { '...': 'cat a.raw', VOLUME: 'b.vol', '10G': '1M' });
      at.ok(['verify', 'b.vol', '--against', 'a.raw']);
    },
  },
  {
    texts: ['Name an image that is not empty', 'With --pad the last sector is filled'],
    run({ at, hintOf, follow }) {
      writeFileSync(at.path('empty'), '');
      const hint = hintOf(['encrypt', 'empty', 'a.vol'], 'ERR_IMAGE_SIZE');
      follow(hint, /volseal create VOLUME --size 64M/, { VOLUME: 'new.vol' });
      at.image('a.raw', 1000);
      hintOf(['encrypt', 'a.raw', 'a.vol'], 'ERR_IMAGE_SIZE');
      at.ok(['encrypt', 'a.raw', 'a.vol', '--pad']);
      at.ok(['decrypt', 'a.vol', 'b.raw']);
      assert.ok(at.contents('b.raw').equals(at.contents('a.raw')));
    },
  },
  {
    texts: ['Give the exact size of the uncompressed', 'Give the size of the whole image with --size'],
    run({ at, met }) {
      at.image('a.raw', MIB);
      for (const size of ['2M', '512K']) {
        const outcome = at.shell(`cat a.raw | volseal encrypt - a.vol --size ${size} --json`);
        met.push(failureOf(outcome).hint!);
        assert.match(met.at(-1)!, /--size/);
      }
      assert.equal(at.shell('cat a.raw | volseal encrypt - a.vol --size 1M').status, 0);
      isVolumeOf(at, 'a.raw');
    },
  },
  {
    texts: ['It is encrypted already: volseal info', 'If it is what you want to encrypt, as it is: --raw'],
    run({ at, hintOf, follow }) {
      backedUp(at);
      const hint = hintOf(['encrypt', 'a.vol', 'b.vol'], 'ERR_ARGUMENT');
      assert.match(follow(hint, /volseal info a\.vol/).text, /volume id/);
      at.ok(['encrypt', 'a.vol', 'b.vol', '--raw']);
      at.ok(['verify', 'b.vol', '--against', 'a.vol']);
    },
  },
  {
    texts: ['volseal kms list-keys and volseal kms list-aliases show the keys'],
    run({ at, hintOf, follow }) {
      at.image('a.raw', MIB);
      at.ok(['kms', 'create-key']);
      const hint = hintOf(['encrypt', 'a.raw', 'a.vol', '--key', 'alias/none'], 'ERR_KMS_NOT_FOUND');
      follow(hint, /volseal kms list-keys/);
      follow(hint, /volseal kms list-aliases/);
      at.ok(['encrypt', 'a.raw', 'a.vol', '--key', follow(hint, /volseal kms create-key/).text.trim()]);
      const taken = at.ok(['kms', 'create-key']).text.trim();
      at.ok(['kms', 'create-alias', 'alias/taken', taken]);
      assert.match(
        follow(hintOf(['kms', 'create-alias', 'alias/taken', taken], 'ERR_KMS_REQUEST'), /volseal kms list-aliases/).text,
        /alias\/taken/,
      );
    },
  },
  {
    texts: ['Choose another name; volseal kms list-aliases'],
    run({ at, hintOf, follow }) {
      const key = at.ok(['kms', 'create-key']).text.trim();
      at.ok(['kms', 'create-alias', 'alias/taken', key]);
      const hint = hintOf(['kms', 'create-alias', 'alias/taken', key], 'ERR_KMS_REQUEST');
      assert.match(follow(hint, /volseal kms list-aliases/).text, /alias\/taken/);
    },
  },
  {
    texts: ['Convert it first: qemu-img convert'],
    run({ at, hintOf, follow }) {
      at.image('a.raw', MIB);
      assert.equal(at.shell('qemu-img convert -O qcow2 a.raw a.qcow2').status, 0);
      const hint = hintOf(['encrypt', 'a.qcow2', 'a.vol'], 'ERR_ARGUMENT');
      follow(hint, /qemu-img convert -p -O raw a\.qcow2 RAW/, { RAW: 'b.raw' });
      at.ok(['encrypt', 'b.raw', 'a.vol']);
      isVolumeOf(at, 'a.raw');
    },
  },
  {
    texts: ['volseal kms create-key makes one there'],
    run({ at, hintOf, follow }) {
      const hint = hintOf(['kms', 'list-keys'], 'ERR_KMS_NOT_FOUND');
      follow(hint, /^volseal kms create-key/);
      at.ok(['kms', 'list-keys']);
    },
  },
  {
    texts: ['VOLSEAL_HOME=HOME, or --kms embedded:HOME'],
    run({ at, hintOf }) {
      backedUp(at);
      at.ok(['kms', 'create-key'], { env: { VOLSEAL_HOME: at.path('other') } });
      const hint = hintOf(['decrypt', 'a.vol', 'b.raw'], 'ERR_KMS_DENIED', { env: { VOLSEAL_HOME: at.path('other') } });
      assert.match(hint, /Name the home in which the volume was made: VOLSEAL_HOME=HOME, or --kms embedded:HOME/);
      const home = at.path('home');
      at.ok(['decrypt', 'a.vol', 'b.raw'], { env: { VOLSEAL_HOME: home } });
      at.ok(['decrypt', 'a.vol', 'c.raw', '--kms', `embedded:${home}`], { env: { VOLSEAL_HOME: at.path('other') } });
    },
  },
  {
    texts: [
      'Check which credentials are in use',
      'If that is your KMS, name it: volseal',
      'Check that the server runs, that the network',
      ' The embedded KMS (--kms embedded)',
    ],
    async run({ at, hintOf, follow }) {
      at.image('a.raw', MIB);
      const url = `http://127.0.0.1:${await freePort()}`;
      const encrypt = ['encrypt', 'a.raw', 'a.vol', '--kms', url];
      assert.match(hintOf(encrypt, 'ERR_KMS_UNREACHABLE'), /the server runs/);
      at.ok(['encrypt', 'a.raw', 'embedded.vol', '--kms', 'embedded']);
      const server = at.start(['kms', 'serve', '--listen', url.slice('http://'.length)]);
      await firstLine(server, 'stdout');
      const made = follow(hintOf(encrypt, 'ERR_KMS_DENIED'), /volseal kms create-access-key root/).text;
      for (const [, name, value] of made.matchAll(/export (\w+)='?([^'\n]+)'?/g)) at.env[name!] = value!;
      at.ok(encrypt);
      const hint = hintOf(['decrypt', 'a.vol', 'b.raw'], 'ERR_ARGUMENT');
      follow(hint, /volseal decrypt --kms \S+ \.\.\./, { '...': 'a.vol b.raw' });
      assert.ok(at.contents('b.raw').equals(at.contents('a.raw')));
      server.kill('SIGTERM');
      await ended(server);
    },
  },
  {
    texts: ['Keys are kept in locked memory only. Raise the limit'],
    run({ at, hintOf }) {
      const limited = (...first: string[]): RunOptions => ({
        through: [...unprivileged, 'sh', '-c', [...first, 'exec "$@"'].join('; '), 'sh'],
      });
      const create = ['create', 'a.vol', '--size', '1M'];
      const [, raise] = /`(ulimit -l \d+)`/.exec(hintOf(create, 'ERR_MEMORY_LOCK', limited('ulimit -S -l 0')))!;
      at.ok(create, limited('ulimit -S -l 0', raise!));
    },
  },
  {
    texts: [`Check who may do that: ls -ld`],
    run({ at, hintOf, follow }) {
      at.image('a.raw', MIB);
      assert.equal(at.shell('chmod 0 a.raw').status, 0);
      const hint = hintOf(['encrypt', 'a.raw', 'a.vol'], 'ERR_IO', { through: unprivileged });
      assert.match(follow(hint, /ls -ld \S+/).text, /^---------- /);
    },
  },
  {
    texts: [
      'volseal workspace list shows the WorkSpaces',
      'A user has one WorkSpace in a directory: volseal workspace info',
      `volseal workspace attach ${VALUE} attaches it`,
    ],
    run({ at, hintOf, follow }) {
      at.ok(['kms', 'create-key']);
      const desk = [
        'workspace',
        'create',
        '--sid',
        'S-1-5-21-1-2-3-1001',
        '--directory',
        'd-9067000000',
        '--folder',
        'desks',
        '--kms',
        'embedded',
      ];
      at.ok([...desk, '--root-size', '1M', '--user-size', '1M']);
      follow(hintOf(['workspace', 'info', 'ws-000000000'], 'ERR_WORKSPACE_NOT_FOUND'), /^volseal workspace list/);
      const hint = hintOf([...desk, '--root-size', '2M', '--user-size', '1M'], 'ERR_WORKSPACE_STATE');
      const [, id] = /volseal workspace info (ws-\w+)/.exec(hint)!;
      assert.match(follow(hint, /volseal workspace info ws-\w+/).text, /S-1-5-21-1-2-3-1001/);
      follow(hintOf(['workspace', 'detach', id!], 'ERR_STATE_DETACHED'), /^volseal workspace attach ws-\w+/);
      at.ok(['workspace', 'detach', id!]);
    },
  },
];

const SLOW: Scenario[] = [
  {
    texts: ['With the same source, target and options as before the job continues. To begin anew: rm'],
    async run({ at, hintOf, follow }) {
      at.image('a.raw', SLOW_IMAGE_BYTES);
      at.ok(['create', 'b.vol', '--size', '1M']);
      const others = at.contents('b.vol');
      const resume = ['encrypt', 'a.raw', 'a.vol', '--resume'];
      await interrupted(at, resume, '.a.vol.resume.json');
      const hint = hintOf([...resume, '--sector-size', '4096'], 'ERR_RESUME');
      follow(hint, /rm .*$/);
      assert.deepEqual(at.names(), ['a.raw', 'b.vol']);
      at.ok([...resume, '--sector-size', '4096']);
      isVolumeOf(at, 'a.raw');
      assert.ok(at.contents('b.vol').equals(others));
    },
  },
  {
    texts: ['Stop the program that writes to it (fuser -v', 'remove the partial file (rm'],
    async run({ at, follow }) {
      at.image('a.raw', SLOW_IMAGE_BYTES);
      const child = startSlowly(at, ['encrypt', 'a.raw', 'a.vol', '--resume', '--json']);
      const end = ended(child);
      await untilThere(child, at.path('.a.vol.resume.json'));
      const image = at.contents('a.raw');
      image.fill(1, 0, 512);
      writeFileSync(at.path('a.raw'), image);
      const { stderr } = await end;
      const { code, hint } = failureOf({ stderr } as Outcome);
      assert.equal(code, 'ERR_SOURCE_CHANGED');
      follow(hint!, /\((rm [^)]*)\)/);
      at.ok(['encrypt', 'a.raw', 'a.vol', '--resume']);
      isVolumeOf(at, 'a.raw');
    },
  },
];

/** Followed by another file's tests. */
const ELSEWHERE: Record<string, string> = {
  'To finish it: volseal encrypt ebs:': 'test/stores/update.test.ts',
  'To complete the replacement: mv': 'test/faults/pairs.test.ts',
  'To roll back to what was there before: mv': 'test/faults/pairs.test.ts',
  'To roll back to what was there before: rm': 'test/faults/pairs.test.ts',
  'The header of the old volume is no longer beside it. To roll back': 'test/faults/pairs.test.ts',
  [`Run ${VALUE}: it goes on where it was stopped`]: 'test/faults/in-place.test.ts',
  'VOLSEAL_KERNEL= volseal kernels shows': 'test/cli/kernels.test.ts',
  'Copy the volume to a file system with locks and work there': 'test/faults/no-locks.test.ts',
  'Run it without --resume': 'test/faults/no-locks.test.ts',
  'Disconnect them first (shut the virtual machine down': 'test/attached/attach.test.ts',
  'To detach it: volseal workspace detach': 'test/attached/workspace.test.ts',
  'The same command as before completes it. To undo it instead': 'test/workspaces/killed.test.ts',
  'To complete it: volseal workspace rebuild': 'test/workspaces/killed.test.ts',
  'To complete it: volseal workspace terminate': 'test/workspaces/killed.test.ts',
};

/** Not followed, and why. */
const NOT: Record<string, string> = {
  'Nothing was changed. To make a new volume of all of it': 'needs a store: test/stores/update.test.ts',
  'Name one version of it (s3://': 'needs a store that keeps versions',
  'The server that answered is not a KMS that can be trusted': 'only its user knows which KMS is right',
  'What is in it can be encrypted anew, as root': 'opening needs the kernel: test/interop/kernel.test.ts',
  'volseal reads LUKS2 with aes-xts-plain64': 'opening needs the kernel: test/interop/kernel.test.ts',
  'Check that the server runs, and --queue': 'as for KMS, but for a queue',
  'Check user, password and database in --queue': 'only the owner of the server can',
  'Set it on the server: redis-cli CONFIG SET': 'changes a server of the user: test/fleet/queue.test.ts has such a server',
  'No data was touched. Build volseal again': 'would compile this clone again under the other tests',
  'Convert it first: simg2img': 'Debian has no simg2img by default; the other program of this kind is followed',
  'Choose another key, or replace this object with --force': 'needs a store: test/stores/s3.test.ts replaces objects',
  'Give the size of the image: --size 10G': 'needs a store, and only its user knows the size',
  'Give the size of the image with --size: then': 'needs an image of more than 156 GiB',
  'If nothing on it is needed any more: --force': 'needs a device: test/output/device-targets.test.ts does it',
  'Run sync(1), and check the disk': 'would flush every disk of the machine',
  'Go to a directory that exists (cd)': 'test/cli/failures.test.ts has the way back in it',
  [`blockdev --getro ${VALUE} prints 1`]: 'needs a device that is read-only',
  'The file system, or `ulimit -f`, does not allow': 'another target is for the user to choose',
  'A sandbox (seccomp) forbids': "the sandbox is its user's: test/faults/seccomp.test.ts",
  'The volume needs the key': 'only its user knows which KMS has it',
  'To see what is missing: volseal policy check': 'needs a second principal: test/kms/client/permissions.test.ts',
  'Name the data of this header; nothing was changed': 'test/interop/adopt.test.ts refuses such data, and insists',
  'Unpack it on the way': 'test/cli/streams.test.ts unpacks on the way',
  'Choose another name: names that begin with alias/aws/': 'another name is for the user to choose',
  'Free some space on that disk, then run the same command again; or with --undo': 'needs a full disk: test/faults/in-place.test.ts',
  'Nothing was changed. Free some space, or put the journal on another disk': 'needs a full disk: test/faults/full-disk.test.ts',
  'Enable the key': 'the first of the lines of one hint: see the next',
  'volseal kms serve --listen 127.0.0.1:4599 &': 'takes a port that may be in use on this machine',
  ' --endpoint-url http://127.0.0.1:4599': 'as the line before',
  'Ask whoever administers': 'only another person can do it',
  'Set AWS_PROFILE, or AWS_ACCESS_KEY_ID': 'needs an account of AWS',
  'Set AWS_REGION to the region of the bucket': 'needs an account of AWS',
  'Check --endpoint-url': 'only its user knows the server',
  'Wait until pending snapshots are complete': 'needs an account of AWS',
  'Only a snapshot that is complete can be read': 'needs an account of AWS',
  'Both must be snapshots of one volume': 'needs a store: test/stores/ebs.test.ts',
  'aws ec2 describe-snapshots --owner-ids self lists': 'needs an account of AWS',
  'aws s3 ls s3://BUCKET/ lists': 'needs an account of AWS',
  'Check the network, and --endpoint-url': 'only its user knows the network',
  'aws s3api list-multipart-uploads': 'needs an account of AWS',
  'aws s3 rm': 'needs an account of AWS',
  'aws ec2 delete-snapshot': 'needs an account of AWS',
  'To begin anew: rm': 'needs a store: test/stores/ebs.test.ts',
  'aws kms enable-key --key-id': 'the four lines of one hint: test/interop/aws-cli.test.ts',
};

const escaped = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
const patternOf = (text: string): RegExp => new RegExp(text.split(VALUE).map(escaped).join('[\\s\\S]*'));
const executable = hintTexts().filter((text) => EXECUTABLE.test(text));

/** The one text that begins so. */
function textThatBegins(start: string): string {
  const found = [...new Set(hintTexts().filter((text) => text.startsWith(start)))];
  assert.equal(found.length, 1, `${found.length} texts begin with: ${start}`);
  return found[0]!;
}

async function walk({ texts, run }: Scenario): Promise<void> {
  const at = lab();
  const met: string[] = [];
  await run({
    at,
    met,
    hintOf(args, code, options) {
      const outcome = at.run([...args, '--json'], options);
      assert.notEqual(outcome.status, 0);
      const failure = failureOf(outcome);
      assert.equal(failure.code, code, failure.message);
      met.push(failure.hint ?? '');
      return failure.hint ?? '';
    },
    follow(hint, pattern, placeholders = {}) {
      met.push(hint);
      const [whole, inner] = pattern.exec(hint) ?? [];
      assert.ok(whole, `${pattern} in: ${hint}`);
      const line = Object.entries(placeholders).reduce((text, [name, value]) => text.replace(name, () => value), inner ?? whole);
      const outcome = at.shell(line);
      assert.equal(outcome.status, 0, `${line}\n${outcome.stderr}`);
      return outcome;
    },
  });
  for (const text of texts)
    assert.ok(
      met.some((hint) => patternOf(textThatBegins(text)).test(hint)),
      `never given: ${text}`,
    );
}

const walkAll = (scenarios: readonly Scenario[]): void => {
  for (const scenario of scenarios) test(scenario.texts[0]!.trim(), () => walk(scenario));
};

describe('hints, followed', () => walkAll(ANYWHERE));
describeUnless(skipWithout('cryptsetup'))('hints about what cryptsetup did, followed', () => walkAll(WITH_CRYPTSETUP));
describeUnless(skipWithout('strace'))('hints about jobs that were stopped, followed', () => walkAll(SLOW));

test('every hint with a command in it is followed, or there is a reason', () => {
  const followed = [...ANYWHERE, ...WITH_CRYPTSETUP, ...SLOW].flatMap(({ texts }) => texts);
  const known = [...followed, ...Object.keys(ELSEWHERE), ...Object.keys(NOT)];
  assert.deepEqual(
    executable.filter((text) => !known.some((start) => text.startsWith(start))),
    [],
    'in no list',
  );
  assert.deepEqual(
    known.filter((start) => !hintTexts().some((text) => text.startsWith(start))),
    [],
    'no such hint any more',
  );
  for (const file of Object.values(ELSEWHERE)) assert.ok(existsSync(join(ROOT, file)), file);
});
