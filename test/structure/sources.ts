/** The project's own files, as the structure tests read them. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../built.js';

export interface SourceFile {
  /** Relative to the project's root, with forward slashes. */
  path: string;
  text: string;
}

/** Every text file that git knows or would add, so that build output and dependencies are left out. */
export function projectFiles(): SourceFile[] {
  const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: ROOT, encoding: 'utf8' });
  const paths = new Set(listed.split('\0').filter((path) => path !== ''));
  return [...paths].sort().flatMap((path) => {
    try {
      const text = readFileSync(join(ROOT, path), 'utf8');
      return text.includes('\0') ? [] : [{ path, text }];
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []; // deleted and not yet committed
      throw error;
    }
  });
}

/** TypeScript or C++ without its comments and the insides of its strings; every line stays where it is. */
export function codeOnly(text: string): string {
  // A string, a template without nesting, a comment: whichever begins first.
  return text.replace(/\/\/[^\n]*|\/\*[\s\S]*?\*\/|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`/g, (match) =>
    match.startsWith('/') ? match.replace(/[^\n]/g, ' ') : match[0]! + match.slice(1, -1).replace(/[^\n]/g, ' ') + match[0]!,
  );
}

/** Lines that are comments or end with one, each with its number. Of C++, JavaScript and TypeScript, or after a `#`. */
export function commentLines({ path, text }: SourceFile): (readonly [number: number, line: string])[] {
  const lines = text.split('\n');
  if (!/\.(m?ts|mjs|cc|h)$/.test(path)) {
    return lines.flatMap((line, index) => (/^\s*#/.test(line) ? [[index + 1, line] as const] : []));
  }
  const code = codeOnly(text).split('\n');
  let inBlock = false;
  return lines.flatMap((line, index) => {
    const begins = /^\s*\/\*/.test(line);
    // With spaces around it, because regular expressions have slashes. `code` is shorter by a comment, not by a string.
    const endsWithOne = /\s\/\/ /.test(line) && code[index]!.trimEnd().length < line.trimEnd().length;
    const isComment = inBlock || begins || endsWithOne || /^\s*\/\//.test(line);
    inBlock = (inBlock || begins) && !line.includes('*/');
    return isComment ? [[index + 1, line] as const] : [];
  });
}

/** "path:line: what" for each line of `text` that matches. */
export function linesWith(file: SourceFile, pattern: RegExp, what: string, text = file.text): string[] {
  return text.split('\n').flatMap((line, index) => (pattern.test(line) ? [`${file.path}:${index + 1}: ${what}: ${line.trim()}`] : []));
}
