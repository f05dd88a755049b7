// Which C++ sources an addon is made from.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

export const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** A digest over each source's name and contents. */
export function sourcesDigest() {
  const files = readdirSync(join(ROOT, 'native'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(ROOT.length));
  const lines = ['CMakeLists.txt', ...files].sort().map((file) => `${sha256(readFileSync(join(ROOT, file)))}  ${file}\n`);
  return sha256(lines.join(''));
}
