/** Tells the user of a root key that a command has made: without it, every volume of its KMS is lost. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { chooseKms, type KmsChoice } from '../kms/shared/endpoint.js';
import { defaultHome } from '../kms/shared/environment.js';
import type { Output } from './terminal/output.js';
import { quoted } from './terminal/text.js';

/** Watches the homes in which a command may make a root key. */
export class RootKeyWatch {
  readonly #output: Output;
  /** Homes whose embedded KMS had no key file when the command began. */
  readonly #without = new Set<string>();

  constructor(output: Output) {
    this.#output = output;
  }

  /** Before the command does anything. */
  begin(choice: KmsChoice): void {
    for (const home of homesOf(choice)) if (!existsSync(keyFile(home))) this.#without.add(home);
  }

  /** Says what was made since `begin`, once; also where the command has failed after that. */
  report(): void {
    for (const home of this.#without) {
      if (!existsSync(keyFile(home))) continue;
      this.#without.delete(home);
      const variable = home === defaultHome() ? '' : `VOLSEAL_HOME=${quoted(home)} `;
      this.#output.warning(
        `made a new root key, ${keyFile(home)}; without this file, every volume that this KMS has keys for is lost. ` +
          `To back it up: ${variable}volseal kms backup DIRECTORY --with-root-key`,
      );
    }
  }
}

const keyFile = (home: string): string => join(home, 'kms', 'root.key');

/** The home of commands that take none, and the one that `--kms` or `$VOLSEAL_KMS` names. */
function homesOf(choice: KmsChoice): string[] {
  try {
    const endpoint = chooseKms(choice);
    return endpoint.kind === 'embedded' ? [defaultHome(), endpoint.home] : [defaultHome()];
  } catch {
    // The command itself refuses what names no KMS.
    return [defaultHome()];
  }
}
