/**
 * Which keyslots the owner of the volume key has added with volseal: a list in the `aws-kms` token, under the header's
 * MAC. Any other keyslot was added by somebody who had the volume key, with stock tools, and is used only on request.
 */
import { createHash } from 'node:crypto';
import canonicalize from 'canonicalize';
import * as z from 'zod';
import type { Luks2Metadata } from './metadata-object.js';

/** `recovery`: a random key that was printed. `passphrase`: one that the owner chose. */
export type KeyslotKind = 'recovery' | 'passphrase';

/** An entry of the list. */
export interface KnownKeyslot {
  readonly kind: KeyslotKind;
  /** ISO 8601, UTC. */
  readonly created: string;
  /** What the keyslot was when it was added (`keyslotSha256`). */
  readonly sha256: string;
}

/** Keyslots by their LUKS2 names. */
export type KnownKeyslots = Readonly<Record<string, KnownKeyslot>>;

/** The list as a member of the token. @internal */
export const knownKeyslotsSchema = z.record(
  z.string().regex(/^(0|[1-9][0-9]?)$/, 'is not the name of a keyslot'),
  z.strictObject({
    kind: z.enum(['recovery', 'passphrase']),
    created: z.iso.datetime(),
    sha256: z.string().regex(/^[A-Za-z0-9+/]{43}=$/, 'is not base64 of 32 bytes'),
  }),
);

/**
 * SHA-256 of a keyslot's JSON in the form of RFC 8785, without its priority, which cryptsetup may change: in base64.
 */
export function keyslotSha256(keyslot: Luks2Metadata['keyslots'][string]): string {
  const { priority: _, ...fixed } = keyslot as Record<string, unknown>;
  return createHash('sha256').update(canonicalize(fixed)!).digest('base64');
}

/** A keyslot of a volume. */
export interface KeyslotInfo {
  /** Its LUKS2 name, a number. */
  keyslot: string;
  /** `foreign`: not added by volseal, or changed since. */
  kind: KeyslotKind | 'foreign';
  /** ISO 8601, UTC; null where it is foreign. */
  created: string | null;
}

/** All keyslots of a header. What it says is proved only once the header's MAC is. */
export function listKeyslots({ keyslots }: Luks2Metadata, known: KnownKeyslots = {}): KeyslotInfo[] {
  return Object.entries(keyslots).map(([name, keyslot]) => {
    const entry = known[name];
    if (entry === undefined || entry.sha256 !== keyslotSha256(keyslot)) return { keyslot: name, kind: 'foreign', created: null };
    return { keyslot: name, kind: entry.kind, created: entry.created };
  });
}
