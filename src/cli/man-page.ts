/**
 * Manual pages, in the language of man(7). They are made from the commands themselves, as the help is: one page for the
 * program, and one for each of its commands with the subcommands in it.
 */
import type { Argument, Command, Option } from 'commander';
import { helpEndOf } from './terminal/output.js';

/** What the pages say of the program that they belong to. */
export interface PageFacts {
  readonly version: string;
  /** YYYY-MM-DD. */
  readonly date: string;
}

/** The pages by the names of their files: `volseal.1`, `volseal-encrypt.1`. @param program with all of its commands */
export function manPages(program: Command, facts: PageFacts): Map<string, string> {
  const names = program.commands.map((command) => command.name());
  const title = program.name();
  const pages = program.commands.map((command): [string, string] => [
    `${title}-${command.name()}.1`,
    [...head(`${title}-${command.name()}`, command, facts), ...body(command, [title, command.name()]), ...seeAlso([title])].join('\n'),
  ]);
  const own = [
    ...head(title, program, facts),
    '.SH SYNOPSIS',
    `.B ${literal(title)}`,
    `.I command`,
    '[options]',
    '.SH COMMANDS',
    ...program.commands.flatMap((command) => ['.TP', `.B ${literal(command.name())}`, prose(command.description())]),
    ...options(program, '.SH OPTIONS'),
    ...end(program, '.SH'),
    ...seeAlso(names.map((name) => `${title}-${name}`)),
  ];
  return new Map([[`${title}.1`, own.join('\n')], ...pages]);
}

function head(name: string, command: Command, { version, date }: PageFacts): string[] {
  return [
    `.TH ${literal(name.toUpperCase())} 1 ${date} "volseal ${literal(version)}" "User Commands"`,
    '.SH NAME',
    `${literal(name)} \\- ${prose(command.description())}`,
  ];
}

/** @param words that name the command */
function body(command: Command, words: readonly string[]): string[] {
  const synopsis = (one: Command, by: readonly string[]): string[] => [
    `.B ${literal(by.join(' '))}`,
    prose(
      one
        .usage()
        .replace(/^\[options\] ?/, '')
        .concat(' [options]')
        .trim(),
    ),
  ];
  if (command.commands.length === 0) {
    return [
      '.SH SYNOPSIS',
      ...synopsis(command, words),
      ...argumentsOf(command, '.SH ARGUMENTS'),
      ...options(command, '.SH OPTIONS'),
      ...end(command, '.SH'),
    ];
  }
  const subcommands = command.commands.flatMap((inner) => [
    `.SS ${literal(inner.name())}`,
    ...synopsis(inner, [...words, inner.name()]),
    '.PP',
    prose(inner.description()),
    ...argumentsOf(inner, '.PP'),
    ...options(inner, '.PP'),
    ...end(inner, '.PP'),
  ]);
  const synopses = command.commands.flatMap((inner) => [...synopsis(inner, [...words, inner.name()]), '.br']).slice(0, -1);
  // `audit` has both: a meaning of its own, and subcommands.
  const own = hasOwnAction(command) ? [...synopsis(command, words), '.br'] : [];
  return [
    '.SH SYNOPSIS',
    ...own,
    ...synopses,
    ...argumentsOf(command, '.SH ARGUMENTS'),
    ...options(command, '.SH OPTIONS'),
    '.SH COMMANDS',
    ...subcommands,
    ...end(command, '.SH'),
  ];
}

/** Whether a command that has subcommands does something without one: then it has options besides `--help`. */
const hasOwnAction = (command: Command): boolean => command.options.length > 0;

function argumentsOf(command: Command, heading: string): string[] {
  const { registeredArguments } = command;
  if (registeredArguments.length === 0) return [];
  const item = (argument: Argument): string[] => [
    '.TP',
    `.I ${literal(argument.name())}`,
    prose(command.createHelp().argumentDescription(argument)),
  ];
  return [...underHeading(heading, 'Arguments'), ...registeredArguments.flatMap(item)];
}

function options(command: Command, heading: string): string[] {
  const help = command.createHelp();
  const item = (option: Option): string[] => ['.TP', `.B ${literal(help.optionTerm(option))}`, prose(help.optionDescription(option))];
  return [...underHeading(heading, 'Options'), ...help.visibleOptions(command).flatMap(item)];
}

/** Within a subcommand's section there are no sections: a paragraph begins. */
const underHeading = (heading: string, title: string): string[] => (heading === '.PP' ? ['.PP', `.I ${title}`] : [heading]);

/** Remarks and examples. A remark of several lines has a title, and columns that stay as they are. */
function end(command: Command, heading: '.SH' | '.PP'): string[] {
  const { examples, remarks } = helpEndOf(command);
  const asIs = (lines: readonly string[]): string[] => ['.PP', '.RS 4', '.nf', ...lines.map(literalLine), '.fi', '.RE'];
  const remark = (text: string): string[] => {
    const [title = '', ...lines] = text.split('\n');
    if (lines.length === 0) return heading === '.SH' ? ['.SH NOTES', prose(title)] : ['.PP', prose(title)];
    const name = title.replace(/:$/, '');
    const isSection = heading === '.SH' && /^[A-Z]\w*( \w+)?$/.test(name);
    const above = isSection
      ? [`.SH ${literal(name.toUpperCase())}`]
      : heading === '.SH'
        ? ['.SH NOTES', prose(title)]
        : ['.PP', prose(title)];
    return [...above, ...asIs(lines.map((line) => line.replace(/^ {2}/, '')))];
  };
  const shown = heading === '.SH' ? ['.SH EXAMPLES'] : ['.PP', '.I Example'];
  return [...mergeNotes(remarks.flatMap(remark)), ...(examples.length === 0 ? [] : [...shown, ...asIs(examples)])];
}

/** One section for all remarks. */
const mergeNotes = (lines: readonly string[]): string[] =>
  lines.map((line, index) => (line === '.SH NOTES' && lines.indexOf('.SH NOTES') < index ? '.PP' : line));

function seeAlso(names: readonly string[]): string[] {
  const last = names.length - 1;
  return ['.SH SEE ALSO', ...names.map((name, index) => `.BR ${literal(name)} (1)${index < last ? ',' : ''}`), ''];
}

/** A line of running text. */
const prose = (text: string): string =>
  guarded(text.replaceAll('\\', '\\e').replaceAll(/(?<=^|[\s("'/])--?(?=[a-z])/g, (dashes) => '\\-'.repeat(dashes.length)));

/** What people type: every character stays what it is, whatever the output device makes of quotes and dashes. */
const literal = (text: string): string => text.replaceAll(/[\\\-'`^~"]/g, (character) => LITERALS[character] ?? character);

const LITERALS: Readonly<Record<string, string>> = {
  '\\': '\\(rs',
  '-': '\\-',
  "'": '\\(aq',
  '`': '\\(ga',
  '^': '\\(ha',
  '~': '\\(ti',
  '"': '\\(dq',
};

const literalLine = (text: string): string => guarded(literal(text));

/** A line that begins with a dot or an apostrophe would be a command of roff. */
const guarded = (line: string): string => (/^[.']/.test(line) ? `\\&${line}` : line);
