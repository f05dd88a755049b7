/**
 * All commands, in the order of the help. Only the file of the command in use is loaded, because a start is mostly
 * loading.
 */
import type { Command } from 'commander';
import type { KmsFlags, Session } from './options.js';

interface Entry {
  load(session: Session): Promise<Command>;
  /** Not in the help: a command that volseal gives itself. */
  readonly isHidden?: boolean;
  /** Whether it uses the pool: the threads then start while the rest of the command loads. */
  readonly usesPool: boolean;
}

const COMMANDS: Readonly<Record<string, Entry>> = {
  encrypt: { usesPool: true, load: async (session) => (await import('./commands/encrypt.js')).encryptCommand(session) },
  decrypt: { usesPool: true, load: async (session) => (await import('./commands/decrypt.js')).decryptCommand(session) },
  create: { usesPool: true, load: async (session) => (await import('./commands/create.js')).createCommand(session) },
  info: { usesPool: false, load: async (session) => (await import('./commands/info.js')).infoCommand(session) },
  list: { usesPool: false, load: async (session) => (await import('./commands/list.js')).listCommand(session) },
  verify: { usesPool: true, load: async (session) => (await import('./commands/verify.js')).verifyCommand(session) },
  densify: { usesPool: true, load: async (session) => (await import('./commands/densify.js')).densifyCommand(session) },
  rewrap: { usesPool: true, load: async (session) => (await import('./commands/rewrap.js')).rewrapCommand(session) },
  reencrypt: { usesPool: true, load: async (session) => (await import('./commands/reencrypt.js')).reencryptCommand(session) },
  adopt: { usesPool: true, load: async (session) => (await import('./commands/adopt.js')).adoptCommand(session) },
  header: { usesPool: false, load: async (session) => (await import('./commands/header.js')).headerCommand(session) },
  recovery: { usesPool: false, load: async (session) => (await import('./commands/recovery.js')).recoveryCommand(session) },
  'volume-key': { usesPool: true, load: async (session) => (await import('./commands/volume-key.js')).volumeKeyCommand(session) },
  read: { usesPool: true, load: async (session) => (await import('./commands/read.js')).readCommand(session) },
  write: { usesPool: true, load: async (session) => (await import('./commands/write.js')).writeCommand(session) },
  attach: { usesPool: false, load: async (session) => (await import('./commands/attach.js')).attachCommand(session) },
  attached: { usesPool: false, load: async (session) => (await import('./commands/attached.js')).attachedCommand(session) },
  detach: { usesPool: false, load: async (session) => (await import('./commands/detach.js')).detachCommand(session) },
  serve: { usesPool: true, load: async (session) => (await import('./commands/serve.js')).serveCommand(session) },
  'attach-process': {
    isHidden: true,
    usesPool: true,
    load: async (session) => (await import('./commands/attach-process.js')).attachProcessCommand(session),
  },
  jobs: { usesPool: true, load: async (session) => (await import('./commands/jobs.js')).jobsCommand(session) },
  // `job run` reads better where there is one.
  job: { isHidden: true, usesPool: true, load: async (session) => (await import('./commands/jobs.js')).jobsCommand(session, 'job') },
  kernels: { usesPool: false, load: async (session) => (await import('./commands/kernels.js')).kernelsCommand(session) },
  bench: { usesPool: false, load: async (session) => (await import('./commands/bench.js')).benchCommand(session) },
  workspace: { usesPool: false, load: async (session) => (await import('./commands/workspace.js')).workspaceCommand(session) },
  policy: { usesPool: false, load: async (session) => (await import('./commands/policy.js')).policyCommand(session) },
  audit: { usesPool: false, load: async (session) => (await import('./commands/audit.js')).auditCommand(session) },
  kms: { usesPool: false, load: async (session) => (await import('./commands/kms.js')).kmsCommand(session) },
  completion: {
    usesPool: false,
    load: async (session) => (await import('./commands/completion.js')).completionCommand(session, () => loadCommands(undefined, session)),
  },
};

/** The command that `word` names. If it names none, all of them: for help, and to suggest a similar word. */
export function loadCommands(word: string | undefined, session: Session): Promise<Command[]> {
  const named =
    word !== undefined && Object.hasOwn(COMMANDS, word) ? [COMMANDS[word]!] : Object.values(COMMANDS).filter(({ isHidden }) => !isHidden);
  return Promise.all(named.map((entry) => entry.load(session)));
}

/**
 * Starts the pool if `command` needs it. Its first thread loads the code for KMS while the rest of the command loads.
 * The lease is not released: the threads end with the process, so that the command need not wait for their end.
 */
export async function startThreads(command: Command): Promise<void> {
  if (!COMMANDS[command.name()]?.usesPool) return;
  const [{ leasePool }, { chooseKms }] = await Promise.all([import('../workers/pool.js'), import('../kms/shared/endpoint.js')]);
  // A header may name another KMS, which is then loaded after the header was read.
  leasePool().expectKms(chooseKms(command.opts<KmsFlags>()).kind);
}
