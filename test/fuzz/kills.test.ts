/**
 * The kill campaign: commands that change things are killed at random moments. Afterwards every key that was
 * acknowledged is there, a file is its old or its new self, and the same command succeeds.
 */
import assert from 'node:assert/strict';
import { truncateSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'vitest';
import { ended, type Lab, lab, parsed } from '../cli/program.js';
import { type Draw, forEachSlowCase } from './cases.js';

const MIB = 1024 * 1024;
const IMAGE_BYTES = 4 * MIB;

interface Command {
  args: string[];
  input?: Buffer;
  /** Checks what is there, whether the command was killed or not. */
  check(at: Lab): void;
}

/**
 * Two images that end with a hole; a volume `a.vol` of the image `a.raw`, a sparse one of it, an image of it, and a
 * second KMS key.
 */
function begun(): Lab {
  const at = lab();
  for (const name of ['a.raw', 'b.raw']) {
    at.image(name, MIB);
    truncateSync(at.path(name), IMAGE_BYTES);
  }
  at.ok(['encrypt', 'a.raw', 'a.vol']);
  at.ok(['encrypt', 'a.raw', 'sparse.vol', '--sparse']);
  at.ok(['decrypt', 'a.vol', 'out.raw']);
  at.ok(['kms', 'create-key']);
  return at;
}

const keysOf = (at: Lab): string => at.ok(['kms', 'list-keys', '--json']).text;

/** The volume's data are those of a.raw, or those of b.raw. */
function isEither(at: Lab, volume: string): void {
  const outcomes = ['a.raw', 'b.raw'].map((image) => at.run(['verify', volume, '--against', image]));
  assert.ok(
    outcomes.some(({ status }) => status === 0),
    outcomes.map(({ stderr }) => stderr).join(''),
  );
}

const COMMANDS: Record<string, (draw: Draw, at: Lab) => Command> = {
  'encrypt --force': (draw) => ({
    args: ['encrypt', draw.oneOf(['a.raw', 'b.raw']), 'a.vol', '--force'],
    check: (at) => isEither(at, 'a.vol'),
  }),
  'encrypt --resume': (draw) => ({
    args: ['encrypt', draw.oneOf(['a.raw', 'b.raw']), 'a.vol', '--force', '--resume'],
    check: (at) => isEither(at, 'a.vol'),
  }),
  'decrypt --force': () => ({
    args: ['decrypt', 'sparse.vol', 'out.raw', '--force'],
    check: (at) => assert.ok(['a.raw', 'b.raw'].some((image) => at.contents('out.raw').equals(at.contents(image)))),
  }),
  densify: (_, at) => {
    at.ok(['encrypt', 'a.raw', 'sparse.vol', '--sparse', '--force']);
    return { args: ['densify', 'sparse.vol'], check: (at) => isEither(at, 'sparse.vol') };
  },
  rewrap: (draw, at) => {
    const { keys } = parsed(keysOf(at)) as { keys: { keyArn: string }[] };
    return { args: ['rewrap', 'a.vol', '--key', draw.oneOf(keys).keyArn], check: (at) => isEither(at, 'a.vol') };
  },
  write: (draw, at) => {
    const offset = draw.below(IMAGE_BYTES - MIB);
    const input = draw.bytes(1 + draw.below(MIB));
    const before = at.ok(['read', 'sparse.vol']).stdout;
    // What was there is written back in the end, so that other commands find their image.
    const whole = (bytes: Buffer): Buffer => Buffer.concat([before.subarray(0, offset), bytes, before.subarray(offset + bytes.length)]);
    return {
      args: ['write', 'sparse.vol', '--offset', String(offset)],
      input,
      check: (at) => {
        const after = at.ok(['read', 'sparse.vol']).stdout;
        const written = whole(input);
        for (let sector = 0; sector < IMAGE_BYTES; sector += 512) {
          const now = after.subarray(sector, sector + 512);
          const isOld = now.equals(before.subarray(sector, sector + 512));
          assert.ok(isOld || now.equals(written.subarray(sector, sector + 512)), `sector at ${sector} is neither old nor new`);
        }
        at.ok(['write', 'sparse.vol'], { input: before });
      },
    };
  },
};

/** Starts a command and kills it after `delayMs`. @returns whether it had ended before */
async function killed(at: Lab, { args, input }: Command, delayMs: number): Promise<boolean> {
  const child = at.start(args);
  const end = ended(child);
  child.stdin!.on('error', () => {});
  child.stdin!.end(input);
  await Promise.race([end, sleep(delayMs)]);
  child.kill('SIGKILL');
  return (await end).signal === null;
}

test('kill -9 at any moment: nothing acknowledged is lost, nothing is half done', async () => {
  const at = begun();
  let known = keysOf(at);
  const kills: Record<string, number> = {};
  await forEachSlowCase(8, async (draw) => {
    const name = draw.oneOf(Object.keys(COMMANDS));
    const command = COMMANDS[name]!(draw, at);
    // How long it takes here and now, so that the kill falls into it on any machine.
    const began = performance.now();
    at.run(['info', 'a.vol']);
    const delayMs = ((performance.now() - began) * 3 * draw.below(1000)) / 1000;
    if (!(await killed(at, command, delayMs))) kills[name] = (kills[name] ?? 0) + 1;
    command.check(at);
    at.ok(command.args, command.input === undefined ? {} : { input: command.input });
    command.check(at);
    const { keys } = parsed(keysOf(at)) as { keys: unknown[] };
    for (const key of (parsed(known) as { keys: unknown[] }).keys) {
      assert.ok(
        keys.some((other) => JSON.stringify(other) === JSON.stringify(key)),
        `lost: ${JSON.stringify(key)}`,
      );
    }
    const made = at.start(['kms', 'create-key']);
    const end = ended(made);
    let said = '';
    made.stdout!.on('data', (text) => {
      said += text;
    });
    await Promise.race([end, sleep(delayMs)]);
    made.kill('SIGKILL');
    await end;
    known = keysOf(at);
    // What it printed is acknowledged.
    const arn = /arn:\S+/.exec(said)?.[0];
    if (arn !== undefined) assert.ok(known.includes(arn), `lost: ${arn}`);
  });
  console.info(`killed: ${JSON.stringify(kills)}`);
});
