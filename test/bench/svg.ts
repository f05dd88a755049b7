/** What must hold of a picture, whatever it shows. */
import assert from 'node:assert/strict';

/** Tags open and close as XML wants it. @returns the texts between them */
export function assertWellFormed(svg: string): string[] {
  const open: string[] = [];
  for (const [, closing, name, rest] of svg.matchAll(/<(\/?)([a-z]+)((?:\s+[\w:-]+="[^"<&]*")*\s*\/?)>/gi)) {
    if (closing === '/') assert.equal(open.pop(), name);
    else if (!rest!.endsWith('/')) open.push(name!);
  }
  assert.deepEqual(open, []);
  assert.match(svg, /^<svg [^>]*xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
  assert.doesNotMatch(svg.replaceAll(/<[^<>]*>/g, ''), /[<>]/);
  return [...svg.matchAll(/<text[^>]*>([^<]*)<\/text>/g)].map(([, text]) => text!);
}
