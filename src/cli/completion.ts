/**
 * Scripts that complete the command line in a shell. They are made from the commands themselves, as the help is, and
 * are complete texts: nothing that was typed is evaluated or handed to a program, whatever it contains.
 */
import type { Command, Option } from 'commander';
import { quoted } from './terminal/text.js';

/** Shells that there is a script for. */
export const SHELLS = ['bash', 'zsh', 'fish'] as const;

/** One of `SHELLS`. */
export type Shell = (typeof SHELLS)[number];

/** A command, by the words that name it: none for the program itself. */
interface CommandWords {
  readonly words: readonly string[];
  readonly command: Command;
}

/** The script for `shell`. @param program with all of its commands */
export function completionScript(shell: Shell, program: Command): string {
  const all = commandsOf(program, []);
  if (shell === 'fish') return fishScript(all);
  // zsh runs such functions of bash.
  return shell === 'bash' ? bashScript(all) : `autoload -U +X bashcompinit && bashcompinit\n${bashScript(all)}`;
}

function commandsOf(command: Command, words: readonly string[]): CommandWords[] {
  return [{ words, command }, ...command.commands.flatMap((inner) => commandsOf(inner, [...words, inner.name()]))];
}

const optionsOf = (command: Command): readonly Option[] => command.createHelp().visibleOptions(command);

const flagsOf = (command: Command): string[] => optionsOf(command).flatMap(({ short, long }) => [short, long].filter(isGiven));

const isGiven = (text: string | null | undefined): text is string => typeof text === 'string';

function bashScript(all: readonly CommandWords[]): string {
  const inner = all.filter(({ words }) => words.length > 0).map(({ words }) => quoted(words.join(' ')));
  const choices = all.flatMap(({ words, command }) =>
    optionsOf(command)
      .filter(({ argChoices, long }) => argChoices !== undefined && isGiven(long))
      .map(({ argChoices, long }) => `    ${quoted(`${words.join(' ')}:${long}`)}) offered=${quoted(argChoices!.join(' '))} ;;`),
  );
  const offers = all.map(({ words, command }) => {
    const names = command.commands.map((subcommand) => subcommand.name());
    return `    ${quoted(words.join(' '))}) names=${quoted(names.join(' '))} flags=${quoted(flagsOf(command).join(' '))} ;;`;
  });
  return `# Completes the command line of volseal: eval "$(volseal completion bash)"
_volseal() {
  local current=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD-1]} command='' word names='' flags='' offered=''
  for word in "\${COMP_WORDS[@]:1:$((COMP_CWORD - 1))}"; do
    case "\${command:+$command }$word" in
    ${inner.join('|')}) command="\${command:+$command }$word" ;;
    esac
  done
  case "$command:$before" in
${choices.join('\n')}
  esac
  case "$command" in
${offers.join('\n')}
  esac
  if [[ -z $offered ]]; then
    [[ $current == -* ]] && offered=$flags || offered=$names
  fi
  COMPREPLY=()
  while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -W "$offered" -- "$current")
}
complete -o default -F _volseal volseal
`;
}

function fishScript(all: readonly CommandWords[]): string {
  const groups = all.filter(({ words, command }) => words.length === 1 && command.commands.length > 0).map(({ words }) => words[0]!);
  const seen = (names: readonly string[]): string => `__fish_seen_subcommand_from ${names.join(' ')}`;
  const within = ({ words: [word, inner] }: CommandWords): string => {
    if (word === undefined) return '__fish_use_subcommand';
    if (inner !== undefined) return `${seen([word])}; and ${seen([inner])}`;
    // A command of a group may have the name of a command of the program.
    const others = groups.filter((group) => group !== word);
    return others.length === 0 ? seen([word]) : `${seen([word])}; and not ${seen(others)}`;
  };
  const lines = all.flatMap((one) => {
    const { command } = one;
    const condition = quoted(within(one));
    const names = command.commands.map((inner) => inner.name());
    const beforeName = names.length === 0 || one.words.length === 0 ? condition : quoted(`${within(one)}; and not ${seen(names)}`);
    return [
      ...command.commands.map(
        (inner) => `complete -c volseal -f -n ${beforeName} -a ${quoted(inner.name())} -d ${quoted(inner.description())}`,
      ),
      ...optionsOf(command).map((option) => {
        const names = [option.short ? `-s ${option.short.slice(1)}` : '', option.long ? `-l ${option.long.slice(2)}` : ''];
        const value = option.argChoices ? `-xa ${quoted(option.argChoices.join(' '))}` : option.required ? '-r' : '';
        return ['complete -c volseal', `-n ${condition}`, ...names, value, `-d ${quoted(option.description)}`].filter(Boolean).join(' ');
      }),
    ];
  });
  return `# Completes the command line of volseal: volseal completion fish | source\n${lines.join('\n')}\n`;
}
