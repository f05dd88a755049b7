/**
 * JSON from outside, read so that the text has one meaning. `JSON.parse` keeps the last of two members with one name,
 * and a member named `__proto__` is dropped by code that copies objects: a check of the value then sees another
 * document than its author wrote.
 */

/** Deeper than any document that volseal reads: code that walks the value recursively must not exhaust the stack. */
const DEPTH_MAX = 64;

/**
 * Parses `text` as RFC 8259 defines it, and refuses what a reader could misread.
 * @throws {SyntaxError} The text is not JSON, names a member twice in one object, has a member named `__proto__`
 * (however escaped), or is nested deeper than 64 levels. The message is a predicate ("is not JSON") and quotes no value
 * of the text.
 */
export function parseStrictJson(text: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The message of V8 quotes the text, which may hold what no log should repeat.
    throw new SyntaxError('is not JSON');
  }
  checkMembers(text);
  return value;
}

/** @param text Valid JSON: then a string is the name of a member exactly where a colon follows it. */
function checkMembers(text: string): void {
  const open: Set<string>[] = [];
  let string = '';
  for (let at = 0; at < text.length; at++) {
    switch (text[at]) {
      case '"': {
        const start = at++;
        while (text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
        string = text.slice(start, at + 1);
        break;
      }
      case '{':
      case '[':
        if (open.push(new Set()) > DEPTH_MAX) throw new SyntaxError(`is nested deeper than ${DEPTH_MAX} levels`);
        break;
      case '}':
      case ']':
        open.pop();
        break;
      case ':':
        addName(open.at(-1)!, string.includes('\\') ? (JSON.parse(string) as string) : string.slice(1, -1));
        break;
    }
  }
}

function addName(names: Set<string>, name: string): void {
  if (name === '__proto__') throw new SyntaxError('has a member named __proto__');
  if (names.has(name)) throw new SyntaxError(`has two members named ${JSON.stringify(name.slice(0, 64))} in one object`);
  names.add(name);
}
