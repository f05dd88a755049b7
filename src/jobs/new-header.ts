/** The header of a new volume: its next version, and how it gets into its file. */
import { EMBEDDED_DATA_OFFSET_BYTES } from '../limits.js';
import { intactHeader, type Luks2Header } from '../luks2/header.js';
import { nextHeader } from '../luks2/header-mac.js';
import { writeHeader } from '../luks2/store.js';
import type { UnsealedToken } from '../luks2/token.js';
import type { KeyHandle } from '../native.js';
import type { TargetFile } from '../output/target.js';
import { claimsOf } from '../volume/volume-file.js';

/**
 * The next header, with other contents of its token.
 * @param path for messages @throws {VolsealError} `ERR_ARGUMENT` as `encodeToken`; `ERR_KEY_GONE`
 */
export function withToken(key: KeyHandle, header: Luks2Header, changes: Partial<UnsealedToken>, path: string): Luks2Header {
  const { token } = claimsOf(intactHeader(header), path);
  return nextHeader(key, header, { ...token, ...changes }, path);
}

/**
 * Writes the header into a file that nobody reads yet.
 * @param isDetached whether the file is the header's own @throws {VolsealError} `ERR_IO`
 */
export async function putHeader({ file, path }: TargetFile, header: Luks2Header, isDetached: boolean, fsync: boolean): Promise<void> {
  // The room for keyslots belongs to the header: without it cryptsetup finds a detached header too short.
  if (isDetached) await file.truncate(EMBEDDED_DATA_OFFSET_BYTES);
  await writeHeader(file.handle, header, path, 'primary', fsync);
}
