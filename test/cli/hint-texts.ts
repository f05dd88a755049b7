/** The texts of all hints, from the source that has them: so that a test notices a new one. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../built.js';

/** Files with hints, and nothing but hints in their longer texts. */
const FILES = ['src/cli/hints/headers.ts', 'src/cli/hints/hints.ts', 'src/cli/hints/in-place.ts', 'src/cli/hints/stores.ts'];

/** What a template holds in place of a value. */
export const VALUE = '…';

/** Each string and template of three words and more. What a template inserts stands as `VALUE`, and is its own text. */
export function hintTexts(): string[] {
  return FILES.flatMap((file) => textsIn(readFileSync(join(ROOT, file), 'utf8'))).filter((text) => /\S\s+\S+\s+\S/.test(text));
}

function textsIn(source: string): string[] {
  const found: string[] = [];
  let at = 0;
  const readTo = (end: string): void => {
    while (at < source.length && !source.startsWith(end, at)) readOne();
    at += end.length;
  };
  const readOne = (): void => {
    const here = source[at]!;
    if (source.startsWith('//', at)) at = (source.indexOf('\n', at) + source.length + 1) % (source.length + 1);
    else if (source.startsWith('/*', at)) at = source.indexOf('*/', at) + 2;
    else if (here === '/' && /[(,=:[!&|?{}\n]\s*$/.test(source.slice(Math.max(0, at - 20), at)))
      at += /^\/(?:\\.|\[(?:\\.|[^\]])*\]|[^/\\])+\//.exec(source.slice(at))![0].length;
    else if (here === "'" || here === '`') readText(here);
    else if (here === '{') {
      at += 1;
      readTo('}');
    } else at += 1;
  };
  const readText = (quote: string): void => {
    let text = '';
    for (at += 1; source[at] !== quote; ) {
      if (source[at] === '\\') {
        text += source[at + 1];
        at += 2;
      } else if (quote === '`' && source.startsWith('${', at)) {
        text += VALUE;
        at += 2;
        readTo('}');
      } else {
        text += source[at];
        at += 1;
      }
    }
    at += 1;
    found.push(text);
  };
  readTo('\0');
  return found;
}
