/** Rules for documents and comments, as functions from files to complaints. */
import { posix } from 'node:path';
import { commentLines, linesWith, type SourceFile } from './sources.js';

const PROSE_CHARS_MAX = 120;

const isDocument = ({ path }: SourceFile): boolean => path.endsWith('.md');
/** These files name what they forbid. */
const isRule = ({ path }: SourceFile): boolean => path.startsWith('test/structure/');

/**
 * Lines of a document without code blocks, tables, and the reports that benchmarks print (`<!-- run -->`), each with
 * its number.
 */
function proseLines(text: string): (readonly [number: number, line: string])[] {
  let [inCode, inReport] = [false, false];
  return text.split('\n').flatMap((line, index) => {
    const fence = /^\s*```/.test(line);
    if (fence) inCode = !inCode;
    if (/^<!-- (\w+ )?run -->$/.test(line)) inReport = true;
    if (/^<!-- end of (\w+ )?run -->$/.test(line)) inReport = false;
    return fence || inCode || inReport || line.startsWith('|') ? [] : [[index + 1, line] as const];
  });
}

/** Prose of documents in lines that are too long. A line that is one link or one comment cannot be broken. */
export function longProse(files: SourceFile[]): string[] {
  return files.filter(isDocument).flatMap(({ path, text }) =>
    proseLines(text)
      .filter(([, line]) => line.length > PROSE_CHARS_MAX && !/^(\S+|<!--.*-->)$/.test(line))
      .map(([number, line]) => `${path}:${number}: ${line.length} characters, at most ${PROSE_CHARS_MAX}`),
  );
}

/** What people wrote in a language with comments, and in which the tests look for them. */
const isCommented = ({ path }: SourceFile): boolean => /\.(m?ts|mjs|cc|h|sh|py)$|(^|\/)CMakeLists\.txt$|^\.ci\/run$/.test(path);

/** Comments in lines that are too long. One word cannot be broken, nor can an instruction to a tool. */
export function longComments(files: SourceFile[]): string[] {
  return files.filter(isCommented).flatMap((file) =>
    commentLines(file)
      .filter(([, line]) => line.length > PROSE_CHARS_MAX && !/^\s*(\/\/|\/?\*+|#+)\s*(\S+|biome-ignore .*)$/.test(line))
      .map(([number, line]) => `${file.path}:${number}: a comment of ${line.length} characters, at most ${PROSE_CHARS_MAX}`),
  );
}

/**
 * `src/kms/client/calls.ts`, `native/engine`: what looks like a path of this project, without a placeholder
 * (`src/<name>.ts`).
 */
const PROJECT_PATH = /(?<![\w./-])(?:src|native|test|docs|bench|examples|scripts)\/[\w./@-]*[\w-](?![\w<*/@-])/g;
const LINK = /\]\(([^)#]+)[^)]*\)/g;

const commentText = (file: SourceFile): string =>
  commentLines(file)
    .map(([, line]) => line)
    .join('\n');

/** Paths and links in documents and comments that lead nowhere. */
export function deadPaths(files: SourceFile[]): string[] {
  const known = new Set(files.flatMap(({ path }) => path.split('/').map((_, index, parts) => parts.slice(0, index + 1).join('/'))));
  return files
    .filter((file) => isDocument(file) || (isCommented(file) && !isRule(file)))
    .flatMap((file) => {
      const { path } = file;
      const text = isDocument(file) ? file.text : commentText(file);
      const linked = [...text.matchAll(LINK)]
        .map(([, target]) => target!)
        .filter((target) => !/^[a-z]+:/.test(target))
        .map((target) => posix.join(posix.dirname(path), target).replace(/\/$/, ''));
      const named = [...text.matchAll(PROJECT_PATH)].map(([name]) => name);
      return [...new Set([...linked, ...named])]
        .filter((name) => !known.has(name))
        .map((name) => `${path}: names ${name}, which does not exist`);
    });
}

/** Decisions whose number is taken twice, or whose title has another number than the file. */
export function decisionNumbers(files: SourceFile[]): string[] {
  const decisions = files.flatMap(({ path, text }) => {
    const [, number] = /^docs\/decisions\/(\d{4})-/.exec(path) ?? [];
    return number === undefined ? [] : [{ path, number, title: /^# (\d+)\. /.exec(text)?.[1] }];
  });
  return decisions.flatMap(({ path, number, title }, index) => {
    if (decisions.findIndex((other) => other.number === number) !== index)
      return [`${path}: the number ${number} is taken: use the next free one`];
    return Number(title) === Number(number) ? [] : [`${path}: its title does not begin with "# ${Number(number)}. "`];
  });
}

/** Sentences that readers stumbled over, and their kind. */
const DIALECT: readonly RegExp[] = [
  /\bmay she\?/i,
  /\bcomes to its place\b/,
  /\b[Ww]ho(ever)? has not\b/,
  /\b(of its|of volseal's) own there is not\b/,
  /\b[Tt]o who neither\b/,
  /\breplaced this header alone\b/,
  /\bthat leads back, and the one that leads on\b/,
];

/** Sentences in private English. */
export function dialect(files: SourceFile[]): string[] {
  return files
    .filter((file) => !isRule(file))
    .flatMap((file) => DIALECT.flatMap((pattern) => linesWith(file, pattern, 'write plain English')));
}
