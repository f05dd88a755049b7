/** What only a clone knows of a run: the commit, and the programs among the peers. */
import { execFileSync, spawnSync } from 'node:child_process';

/** The commit, with "-dirty" where the work tree has changes. */
export function commit(): string {
  try {
    return execFileSync('git', ['describe', '--always', '--dirty', '--abbrev=12'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return 'unknown: no git here';
  }
}

/** The first line each program says of its version, without those that are not installed. @param commands by name */
export function versionsOf(commands: Record<string, readonly [program: string, word: string]>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(commands).flatMap(([name, [program, word]]) => {
      const { error, stdout } = spawnSync(program, [word], { encoding: 'utf8' });
      return error === undefined ? [[name, stdout.split('\n')[0]!]] : [];
    }),
  );
}
