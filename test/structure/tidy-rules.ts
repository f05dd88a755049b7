/** House style that no linter knows, as functions from files to complaints. */
import { codeOnly, linesWith, type SourceFile } from './sources.js';

const LINES_MAX = 420;

const isCode = ({ path }: SourceFile): boolean => /^(src|native|test|bench|examples)\/.*\.(ts|cc|h|mjs)$/.test(path);
const isShipped = ({ path }: SourceFile): boolean => /^(src|native)\//.test(path);
/** These files speak of what they forbid. */
const isRule = ({ path }: SourceFile): boolean => path.startsWith('test/structure/');

/** Files of src/ and native/ too long for one concept. */
export function tooLong(files: SourceFile[]): string[] {
  return files
    .filter(isShipped)
    .map(({ path, text }) => ({ path, lines: text.split('\n').length - 1 }))
    .filter(({ lines }) => lines > LINES_MAX)
    .map(({ path, lines }) => `${path}: ${lines} lines, at most ${LINES_MAX}`);
}

/** Notes to oneself. */
export function leftovers(files: SourceFile[]): string[] {
  return files.filter((file) => isCode(file) && !isRule(file)).flatMap((file) => linesWith(file, /\b(TODO|FIXME|HACK|XXX)\b/, 'left over'));
}

/**
 * Tests that run alone or do not run. `{ skip: ... }` for a program that a laptop lacks is another thing: CI has them
 * all.
 */
export function mutedTests(files: SourceFile[]): string[] {
  const pattern = /\b(test|it|describe|suite|t)\.(only|skip|todo)\b|\b(only|todo|skip): *true\b/;
  return files
    .filter((file) => file.path.startsWith('test/') && isCode(file) && !isRule(file))
    .flatMap((file) => linesWith(file, pattern, 'muted test', codeOnly(file.text)));
}

/** Tests of another runner than vitest, which the reports and totals would miss. */
export function otherRunners(files: SourceFile[]): string[] {
  const pattern = /(?:from|import\s*\(|require\s*\()\s*['"](?:node:)?test(?:\/[^'"]*)?['"]/;
  return files.filter((file) => isCode(file) && !isRule(file)).flatMap((file) => linesWith(file, pattern, 'use vitest'));
}

/**
 * Sleeps and random numbers that `node:timers/promises` and `node:crypto` have: a sleep by hand takes no signal,
 * Math.random is no secret.
 */
export function handWritten(files: SourceFile[]): string[] {
  const pattern = /new Promise\b.*\bsetTimeout\(|\bMath\.random\(/;
  return files
    .filter((file) => isCode(file) && !isRule(file))
    .flatMap((file) => linesWith(file, pattern, 'use timers/promises or crypto.randomInt', codeOnly(file.text)));
}

/** Exported functions and classes of src/ without a docstring above them. */
export function undocumented(files: SourceFile[]): string[] {
  return files
    .filter(({ path }) => path.startsWith('src/') && path.endsWith('.ts'))
    .flatMap(({ path, text }) => {
      const lines = text.split('\n');
      return lines.flatMap((line, index) => {
        const name = /^export (?:async )?(?:function\*?|const|class|abstract class) (\w+)/.exec(line)?.[1];
        if (name === undefined || lines[index - 1]?.trimEnd().endsWith('*/')) return [];
        // A const is a function where an arrow follows; a class that is the file's one concept may have its words in
        // the file's head.
        const arrow =
          /^export const \w+(: [^=]+)? = (async )?(\(|\w+ =>)/.test(line) && /=>/.test(lines.slice(index, index + 8).join('\n'));
        const needsWords = /function/.test(line) ? !isOverloadTail(lines, index, name) : arrow;
        return needsWords ? [`${path}:${index + 1}: ${name} has no docstring`] : [];
      });
    });
}

/** The second and later signatures of an overloaded function share the first one's words. */
const isOverloadTail = (lines: string[], index: number, name: string): boolean =>
  lines.slice(Math.max(0, index - 3), index).some((line) => new RegExp(`^export (async )?function ${name}\\b.*;$`).test(line));

/** kebab-case for TypeScript, snake_case for C++. */
export function badNames(files: SourceFile[]): string[] {
  return files.flatMap(({ path }) => {
    const name = path.split('/').at(-1)!;
    if (/\.(ts|mjs)$/.test(name) && !/^[a-z0-9]+(-[a-z0-9]+)*(\.test|\.d|\.config)?\.(ts|mjs)$/.test(name))
      return [`${path}: not kebab-case`];
    if (/\.(cc|h)$/.test(name) && !/^[a-z0-9]+(_[a-z0-9]+)*\.(cc|h)$/.test(name)) return [`${path}: not snake_case`];
    return [];
  });
}

/** Directories of somebody's machine. */
export function machinePaths(files: SourceFile[]): string[] {
  return files
    .filter((file) => !isRule(file))
    .flatMap((file) => linesWith(file, /(^|[\s'"`(=:])\/(work|home|root|Users)\//, 'a path of one machine'));
}

/**
 * Where the packages of the lock file were once fetched from: npm finds them by name and checks them by `integrity`.
 */
export function registryAddresses(files: SourceFile[]): string[] {
  return files
    .filter(({ path }) => path.endsWith('package-lock.json'))
    .flatMap((file) => linesWith(file, /"resolved":/, "a registry's address"));
}

/**
 * Platform packages that a package of the lock file names and the lock file lacks: `npm ci` refuses such a file. They
 * get lost where the registry at hand does not carry every platform's package.
 */
export function lockFileGaps(files: SourceFile[]): string[] {
  return files
    .filter(({ path }) => path === 'package-lock.json')
    .flatMap(({ text }) => {
      const { packages } = JSON.parse(text) as { packages: Record<string, { optionalDependencies?: Record<string, string> }> };
      const wanted = Object.values(packages).flatMap(({ optionalDependencies }) => Object.entries(optionalDependencies ?? {}));
      return wanted
        .filter(([name]) => !Object.keys(packages).some((place) => place.endsWith(`node_modules/${name}`)))
        .map(([name, version]) => `package-lock.json: ${name}@${version} is missing: npm ci fails`);
    });
}
