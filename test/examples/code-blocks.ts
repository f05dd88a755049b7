/** The code blocks of a Markdown document, and a shell script that runs them in their order, as a reader would. */

/** What each language of a block means for the test. Every block must have one of them. */
export const LANGUAGES = ['sh', 'js', 'console', 'json', 'text', 'mermaid'];

export interface CodeBlock {
  /** Line of the opening fence, from 1. */
  line: number;
  language: string;
  /** Why it is not run; undefined where it is. */
  notRun: string | undefined;
  text: string;
}

/** `<!-- not run: REASON -->` on the line above a block. */
const NOT_RUN = /^<!-- not run: (\S.*) -->$/;

/** All fenced blocks. @throws {Error} where one does not end */
export function codeBlocks(document: string): CodeBlock[] {
  const lines = document.split('\n');
  const blocks: CodeBlock[] = [];
  for (let at = 0; at < lines.length; at += 1) {
    const [, language] = /^\s*```(\S*)/.exec(lines[at]!) ?? [];
    if (language === undefined) continue;
    const end = lines.findIndex((line, index) => index > at && line.trim() === '```');
    if (end === -1) throw new Error(`line ${at + 1}: this block does not end`);
    const text = `${lines.slice(at + 1, end).join('\n')}\n`;
    blocks.push({ line: at + 1, language, notRun: NOT_RUN.exec(lines[at - 1] ?? '')?.[1], text });
    at = end;
  }
  return blocks;
}

/** A command that a comment says exits with a status other than 0: `volseal ...  # exits 6: reason`. */
const EXITS = /^(.*\S)\s+# exits (\d+)\b.*$/gm;
/** A server in the background: the next line needs it, so the script waits until it listens or has ended. */
const SERVER = /^(.*kms serve --listen (\S+):(\d+).*) &.*$/gm;

const asShell = ({ language, line, text }: CodeBlock): string => {
  if (language === 'js') return `cat > block-${line}.mjs <<'END-OF-BLOCK'\n${text}END-OF-BLOCK\nnode block-${line}.mjs\n`;
  return text
    .replace(EXITS, (_, command, status) => `status=0; { ${command}; } || status=$?; test "$status" -eq ${status}`)
    .replace(
      SERVER,
      (_, command, host, port) => `${command} &\nuntil (: < /dev/tcp/${host}/${port}) 2> /dev/null; do kill -0 $!; sleep 0.1; done`,
    );
};

/**
 * A bash script that runs the `sh` and `js` blocks in one directory, in order, and ends at the first command that
 * fails. Before each block it names the block's line on standard error; at its end it stops what it started in the
 * background.
 */
export const scriptOf = (blocks: readonly CodeBlock[]): string =>
  [
    'set -euo pipefail',
    `trap 'kill $(jobs -p) 2> /dev/null || true' EXIT`,
    ...blocks.filter((block) => isRun(block)).map((block) => `echo "--- the block at line ${block.line}" >&2\n${asShell(block)}`),
  ].join('\n');

/** Whether the script has this block. */
export const isRun = ({ language, notRun }: CodeBlock): boolean => notRun === undefined && (language === 'sh' || language === 'js');

/** The command and the output of a `console` block. */
export function consoleOf({ text }: CodeBlock): { command: string; output: string } {
  const [, command = '', output = ''] = /^\$ (.*)\n([\s\S]*)$/.exec(text) ?? [];
  return { command, output };
}

/** Output without what differs between two runs: ids, times, encrypted keys, sizes on disk. */
export const withoutIds = (output: string): string =>
  output
    .replaceAll(/vol-[0-9a-f]{17}/g, 'VOLUME-ID')
    .replaceAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'UUID')
    .replaceAll(/[0-9A-Za-z+/]{40,}(=*|\.\.\.)$/gm, 'BASE64')
    .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
    .replaceAll(/\d+ bytes \([^)]*\) on disk/g, 'ALLOCATED');
