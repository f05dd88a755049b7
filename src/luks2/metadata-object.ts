/**
 * The JSON area of a LUKS2 header as a value: the members that each object of a kind has. Others are kept as they are.
 *
 * LUKS2 On-Disk Format Specification, section 3 ("JSON Area").
 */

/** Of a member whose type does not matter here. */
type Loose<Members> = Members & { [member: string]: unknown };

/** One keyslot, whatever its type. */
export type Keyslot = Loose<{ type: string; key_size: number; area: Loose<{ type: string; offset: string; size: string }> }>;

/** A whole JSON area. */
export type Luks2Metadata = Loose<{
  keyslots: Record<string, Keyslot>;
  tokens: Record<string, Loose<{ type: string; keyslots: string[] }>>;
  segments: Record<string, Loose<{ type: string; offset: string; size: string; flags?: string[] | undefined }>>;
  digests: Record<string, Loose<{ type: string; keyslots: string[]; segments: string[] }>>;
  config: Loose<{
    json_size: string;
    keyslots_size: string;
    flags?: string[] | undefined;
    requirements?: Loose<{ mandatory?: string[] | undefined }> | undefined;
  }>;
}>;
