/** Patterns of policies: `*` stands for any characters, `?` for one. (IAM User Guide, "Using wildcards".) */

/** Up to this length V8's own search is used: it is fast, and its worst case is length times text. */
const SHORT_CHARS = 16;

/** Whether `pattern` matches all of `text`. */
export const matches = (pattern: string, text: string): boolean => matcherOf(pattern)(text);

/**
 * A function that tells whether the pattern matches all of a text. Its time grows with the length of the text and of
 * the pattern, whatever they contain: the parts between stars are searched for one after the other, each with one pass
 * over the text.
 */
export function matcherOf(pattern: string): (text: string) => boolean {
  const [first = '', ...parts] = pattern.split('*');
  const last = parts.pop();
  if (last === undefined) return (text) => pattern.length === text.length && fitsAt(pattern, text, 0);
  const middle = parts.filter((part) => part !== '');
  const charsMin = middle.reduce((sum, part) => sum + part.length, first.length + last.length);
  return (text) => {
    const end = text.length - last.length;
    if (text.length < charsMin || !fitsAt(first, text, 0) || !fitsAt(last, text, end)) return false;
    let from = first.length;
    for (const part of middle) {
      const at = find(part, text, from, end);
      if (at === -1) return false;
      from = at + part.length;
    }
    return from <= end;
  };
}

/** Whether `part` (without stars) fits the text at `at`. */
function fitsAt(part: string, text: string, at: number): boolean {
  for (let index = 0; index < part.length; index++) {
    if (part[index] !== '?' && part[index] !== text[at + index]) return false;
  }
  return true;
}

/** Where `part` first fits between `from` and `end`, or -1. */
function find(part: string, text: string, from: number, end: number): number {
  if (part.length > end - from) return -1;
  if (part.length > SHORT_CHARS || part.includes('?')) return shiftAnd(part, text, from, end);
  const at = text.indexOf(part, from);
  return at === -1 || at + part.length > end ? -1 : at;
}

/**
 * The Shift-And algorithm (Baeza-Yates and Gonnet, 1992): bit n of the state is set where the first n + 1 characters of
 * the part fit the text up to here. One pass over the text, 32 characters of the part at a time.
 */
function shiftAnd(part: string, text: string, from: number, end: number): number {
  const words = Math.ceil(part.length / 32);
  const wildcards = new Uint32Array(words);
  const masks = new Map<string, Uint32Array>();
  const setBit = (mask: Uint32Array, index: number): void => {
    mask[index >>> 5]! |= 1 << (index & 31);
  };
  for (let index = 0; index < part.length; index++) if (part[index] === '?') setBit(wildcards, index);
  for (let index = 0; index < part.length; index++) {
    const letter = part[index]!;
    if (letter === '?') continue;
    const mask = masks.get(letter) ?? Uint32Array.from(wildcards);
    setBit(mask, index);
    masks.set(letter, mask);
  }
  const state = new Uint32Array(words);
  const lastIndex = part.length - 1;
  for (let at = from; at < end; at++) {
    const mask = masks.get(text[at]!) ?? wildcards;
    let carry = 1;
    for (let word = 0; word < words; word++) {
      const before = state[word]!;
      state[word] = ((before << 1) | carry) & mask[word]!;
      carry = before >>> 31;
    }
    if ((state[lastIndex >>> 5]! & (1 << (lastIndex & 31))) !== 0) return at - lastIndex;
  }
  return -1;
}
