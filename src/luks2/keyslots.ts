/**
 * The keyslots of a LUKS2 header, checked as cryptsetup checks them. volseal opens none, but a copy of a header that
 * cryptsetup refuses must not count as whole here: repairing the other copy from it would lose every passphrase.
 *
 * LUKS2 On-Disk Format Specification, section 3.2 ("Keyslots Object"); cryptsetup, lib/luks2/luks2_json_metadata.c
 * (hdr_validate_areas) and luks2_keyslot_luks2.c.
 */
import * as z from 'zod';
import type { Keyslot } from './metadata-object.js';

/** One keyslot, whatever its type. Made when the first keyslot is read: most headers have none, and it takes 3 ms. */
export const keyslotSchema = z.lazy(() => {
  const uint64 = z.string().regex(/^(0|[1-9][0-9]{0,19})$/, 'is not a 64-bit number as a string');
  const area = z.looseObject({ type: z.string(), offset: uint64, size: uint64 });
  const kdf = z
    .looseObject({ type: z.string(), salt: z.string() })
    .and(
      z.union([
        z.looseObject({ type: z.literal('pbkdf2'), hash: z.string(), iterations: z.int() }),
        z.looseObject({ type: z.enum(['argon2i', 'argon2id']), time: z.int(), memory: z.int(), cpus: z.int() }),
        z.looseObject({ type: z.string().refine((type) => !['pbkdf2', 'argon2i', 'argon2id'].includes(type)) }),
      ]),
    );
  const passphraseKeyslot = z.looseObject({
    type: z.literal('luks2'),
    key_size: z.int().nonnegative(),
    af: z.looseObject({ type: z.literal('luks1'), hash: z.string(), stripes: z.int() }),
    area: area.extend({ type: z.literal('raw'), encryption: z.string(), key_size: z.int() }),
    kdf,
  });
  // Of re-encryption, and of types that are not known yet.
  const otherKeyslot = z.looseObject({ type: z.string().refine((type) => type !== 'luks2'), key_size: z.int().nonnegative(), area });
  return z.union([passphraseKeyslot, otherKeyslot]);
});

/**
 * What is wrong with where the keyslots' areas lie, or undefined: they must lie behind both copies of the header,
 * within the room for keyslots, and apart.
 * @param startBytes of the room for keyslots: behind the second copy of the header
 */
export function areaFault(keyslots: Record<string, Keyslot>, startBytes: number, roomBytes: number): string | undefined {
  const areas = Object.entries(keyslots)
    .map(([name, keyslot]) => ({ name, from: BigInt(keyslot.area.offset), bytes: BigInt(keyslot.area.size) }))
    .sort((one, other) => (one.from < other.from ? -1 : 1));
  const end = BigInt(startBytes) + BigInt(roomBytes);
  let free = BigInt(startBytes);
  for (const { name, from, bytes } of areas) {
    const where = `keyslots.${name}.area: ${bytes} bytes at ${from}`;
    if (bytes === 0n || from < BigInt(startBytes) || from + bytes > end) return `${where} do not lie within ${startBytes} to ${end}`;
    if (from < free) return `${where} overlap the area of another keyslot`;
    free = from + bytes;
  }
  return undefined;
}
