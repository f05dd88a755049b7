/**
 * The commands there are, in the order of the help. A command's file is loaded when it is needed: a start is mostly loading, and most
 * runs need one of them.
 */
import type { Command } from 'commander';
import { type KmsFlags, kmsChoice, type Session } from './options.js';

interface Entry {
  load(session: Session): Promise<Command>;
  /** Whether it works in the pool: the threads then start while the rest of it loads. */
  readonly usesPool: boolean;
}

const COMMANDS: Readonly<Record<string, Entry>> = {
  encrypt: { usesPool: true, load: async (session) => (await import('./commands/encrypt.js')).encryptCommand(session) },
  decrypt: { usesPool: true, load: async (session) => (await import('./commands/decrypt.js')).decryptCommand(session) },
  create: { usesPool: true, load: async (session) => (await import('./commands/create.js')).createCommand(session) },
  info: { usesPool: false, load: async (session) => (await import('./commands/info.js')).infoCommand(session) },
  verify: { usesPool: true, load: async (session) => (await import('./commands/verify.js')).verifyCommand(session) },
  densify: { usesPool: true, load: async (session) => (await import('./commands/densify.js')).densifyCommand(session) },
  rewrap: { usesPool: true, load: async (session) => (await import('./commands/rewrap.js')).rewrapCommand(session) },
  read: { usesPool: true, load: async (session) => (await import('./commands/read.js')).readCommand(session) },
  write: { usesPool: true, load: async (session) => (await import('./commands/write.js')).writeCommand(session) },
  kernels: { usesPool: false, load: async (session) => (await import('./commands/kernels.js')).kernelsCommand(session) },
  bench: { usesPool: false, load: async (session) => (await import('./commands/bench.js')).benchCommand(session) },
  workspace: { usesPool: false, load: async (session) => (await import('./commands/workspace.js')).workspaceCommand(session) },
  policy: { usesPool: false, load: async (session) => (await import('./commands/policy.js')).policyCommand(session) },
  audit: { usesPool: false, load: async (session) => (await import('./commands/audit.js')).auditCommand(session) },
  kms: { usesPool: false, load: async (session) => (await import('./commands/kms.js')).kmsCommand(session) },
};

/** The command that `word` names, or all of them where it names none: for help, and for advice on a word that is nearly right. */
export function loadCommands(word: string | undefined, session: Session): Promise<Command[]> {
  const named = word !== undefined && Object.hasOwn(COMMANDS, word) ? [COMMANDS[word]!] : Object.values(COMMANDS);
  return Promise.all(named.map((entry) => entry.load(session)));
}

/**
 * Starts the pool where `command` will need it, and its first thread loads what KMS needs while the rest of the command loads. The threads
 * end with the process: this share in the pool is not given back, so that the command need not wait for their end.
 */
export async function startThreads(command: Command): Promise<void> {
  if (!COMMANDS[command.name()]?.usesPool) return;
  const [{ leasePool }, { parseKmsUri }] = await Promise.all([import('../workers/pool.js'), import('../kms/shared/endpoint.js')]);
  const { kms } = kmsChoice(command.opts<KmsFlags>());
  // A header may name another KMS: then that one is loaded once the header is read.
  leasePool().expectKms(kms === undefined ? 'embedded' : parseKmsUri(kms).kind);
}
