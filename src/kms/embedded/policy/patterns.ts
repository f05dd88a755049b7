/** Patterns of policies: `*` for any characters, `?` for one. (IAM User Guide, "Using wildcards".) */

/** Whether `text` matches `pattern` as a whole. In time proportional to the product of their lengths at most, whatever the pattern. */
export function matches(pattern: string, text: string): boolean {
  let at = 0;
  let from = 0;
  let star = -1;
  let resume = 0;
  while (from < text.length) {
    if (at < pattern.length && pattern[at] === '*') {
      star = at++;
      resume = from;
    } else if (at < pattern.length && (pattern[at] === '?' || pattern[at] === text[from])) {
      at++;
      from++;
    } else if (star !== -1) {
      // The last star takes one character more, and everything after it is tried again.
      at = star + 1;
      from = ++resume;
    } else {
      return false;
    }
  }
  while (pattern[at] === '*') at++;
  return at === pattern.length;
}
