/**
 * The two environment variables that say where volseal keeps its own files and which KMS it asks. The command line and
 * the library read them here, so that a volume made by one opens with the other. Outside src/cli, no other module reads
 * the environment.
 */
import { resolve } from 'node:path';
import envPaths from 'env-paths';

/**
 * `$VOLSEAL_HOME`, else the user's data directory for volseal: `$XDG_DATA_HOME/volseal` or `~/.local/share/volseal`.
 * Absolute.
 */
export function defaultHome(): string {
  return resolve(process.env.VOLSEAL_HOME || envPaths('volseal', { suffix: '' }).data);
}

/** All of the environment, to tell whether it has changed. Never printed: it may hold credentials. */
export const environmentSnapshot = (): string => JSON.stringify(process.env);

/** `$VOLSEAL_KMS`; undefined where it is not set, or empty. */
export function defaultKms(): string | undefined {
  return process.env.VOLSEAL_KMS || undefined;
}
