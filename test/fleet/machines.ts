/** How a worker of a campaign reaches the server of its queue, and how that way is cut. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import { rootRefused } from '../cli/program.js';
import { requireTool, runTool, skipFor, tryTool } from '../interop/tools.js';
import { type QueueServer, startRelay } from './servers.js';

/** Where a worker runs. */
export interface Machine {
  /** The queue, as the worker reaches it. */
  readonly url: string;
  /** What a command of this machine begins with. */
  readonly through: readonly string[];
  /** Nothing goes to the server or comes from it for so long; connections stay. */
  cutOff(milliseconds: number): Promise<void>;
}

/** This machine, behind a relay that can stop. */
export async function behindRelay(server: QueueServer): Promise<Machine> {
  const relay = await startRelay(server.port);
  return {
    url: server.url(relay.port),
    through: [],
    async cutOff(milliseconds) {
      relay.pause();
      await sleep(milliseconds);
      relay.resume();
    },
  };
}

/** Why no network namespace can be made; false where one can. @throws {Error} as `skipFor` */
export function skipWithoutNamespaces(): string | false {
  const refused = rootRefused();
  if (refused !== false) return skipFor(refused);
  const { status, stderr } = tryTool('unshare', ['--net', 'ip', 'link', 'add', 'vol0', 'type', 'veth', 'peer', 'name', 'vol1']);
  return status !== 0 && skipFor(`no network namespace with a link can be made: ${stderr.trim()}`);
}

/** A network of its own (a namespace), with one link to the server's, which can go down. */
export async function inNamespace(server: QueueServer, index: number): Promise<Machine> {
  const name = `volseal-${randomBytes(4).toString('hex')}`;
  // Names of links have at most 15 characters; 198.18.0.0/15 is for tests (RFC 2544).
  const [outside, inside] = ['o', 'i'].map((end) => `v${name.slice(8)}${end}`) as [string, string];
  const subnet = `198.18.${randomBytes(1)[0]}`;
  const [ours, theirs] = [`${subnet}.${4 * index + 1}`, `${subnet}.${4 * index + 2}`];
  const ip = (...args: string[]): string => runTool('ip', args);
  ip('netns', 'add', name);
  onTestFinished(() => {
    tryTool('ip', ['netns', 'del', name]);
    tryTool('ip', ['link', 'del', outside]);
  });
  ip('link', 'add', outside, 'type', 'veth', 'peer', 'name', inside, 'netns', name);
  ip('addr', 'add', `${ours}/30`, 'dev', outside);
  ip('link', 'set', outside, 'up');
  for (const command of [`addr add ${theirs}/30 dev ${inside}`, `link set ${inside} up`, 'link set lo up'])
    ip('-n', name, ...command.split(' '));
  const relay = await startRelay(server.port, ours);
  return {
    url: server.url(relay.port).replace('127.0.0.1', ours),
    through: [requireTool('ip'), 'netns', 'exec', name],
    async cutOff(milliseconds) {
      ip('-n', name, 'link', 'set', inside, 'down');
      await sleep(milliseconds);
      ip('-n', name, 'link', 'set', inside, 'up');
    },
  };
}
