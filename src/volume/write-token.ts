/** The next version of the header of a volume that is open for writing, with other contents of its token. */
import { intactHeader } from '../luks2/header.js';
import { nextHeader } from '../luks2/header-mac.js';
import { writeHeader } from '../luks2/store.js';
import type { UnsealedToken } from '../luks2/token.js';
import type { KeyHandle } from '../native.js';
import { contentsOf, type HeaderContents, type OpenFiles } from './volume-file.js';

/**
 * Writes it, and flushes it.
 * @param volume open for writing @param key of the volume, proved; stays the caller's
 * @returns what the header says now
 * @throws {VolsealError} `ERR_ARGUMENT` as `encodeToken`; `ERR_IO`, `ERR_KEY_GONE`
 */
export async function writeToken(
  volume: OpenFiles & HeaderContents,
  key: KeyHandle,
  changes: Partial<UnsealedToken>,
): Promise<HeaderContents> {
  const { header, found, token } = volume;
  const next = nextHeader(key, found.header, { ...token, ...changes }, header.path);
  await writeHeader(header.handle, next, header.path, found.from);
  return contentsOf(intactHeader(next), volume);
}
