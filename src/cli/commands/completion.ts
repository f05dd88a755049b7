/** `volseal completion`: a script that completes the command line in a shell. */
import { Argument, Command } from 'commander';
import { completionScript, SHELLS, type Shell } from '../completion.js';
import type { Session } from '../options.js';
import { withExamples } from '../terminal/output.js';

/**
 * The command; `session` is what it runs with.
 * @param loadAll makes all commands of the program
 */
export function completionCommand({ output }: Session, loadAll: () => Promise<Command[]>): Command {
  const command = new Command('completion')
    .description('print a script that completes commands and options in a shell')
    .addArgument(new Argument('<shell>', 'the shell').choices(SHELLS));
  withExamples(
    command,
    ['volseal completion bash > volseal.bash'],
    [
      [
        'To have it in each new shell:',
        '  bash: volseal completion bash > ~/.local/share/bash-completion/completions/volseal',
        '  zsh:  volseal completion zsh >> ~/.zshrc (below compinit)',
        '  fish: volseal completion fish > ~/.config/fish/completions/volseal.fish',
      ].join('\n'),
    ],
  );
  return command.action(async (shell: Shell) => {
    const program = new Command('volseal');
    for (const inner of await loadAll()) program.addCommand(inner);
    output.text(completionScript(shell, program));
  });
}
