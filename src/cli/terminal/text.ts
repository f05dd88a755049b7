/** Texts of other people, made safe for a terminal and for a shell. */

/**
 * Characters that would control a terminal or change the reading order: control and format characters, line separators.
 */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/**
 * A line of text with every unprintable character as its code. Headers, paths and replies of KMS are other people's
 * texts.
 */
export const printable = (text: string): string =>
  text.replace(UNPRINTABLE, (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`);

/**
 * A text as one word of a POSIX shell; with unprintable characters as one word of bash, which stays printable
 * (`$'a\x0a'`).
 */
export function quoted(text: string): string {
  if (/^[\w@%+=:,./-]+$/.test(text)) return text;
  const escaped = text.replace(/['\\]/g, '\\$&').replace(UNPRINTABLE, bytesOf);
  return text.search(UNPRINTABLE) === -1 ? `'${text.replaceAll("'", `'\\''`)}'` : `$'${escaped}'`;
}

const bytesOf = (character: string): string =>
  [...Buffer.from(character)].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('');

/** A path as one word of a shell, or `placeholder` if there is none. */
export const shown = (path: unknown, placeholder: string): string => (typeof path === 'string' && path !== '' ? quoted(path) : placeholder);
