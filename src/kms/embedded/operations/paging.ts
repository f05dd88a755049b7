/** Pages of the listing operations. (AWS KMS API Reference, `Limit`, `Marker`, `NextMarker`, `Truncated`.) */
import { createHash } from 'node:crypto';
import { KmsFault } from '../faults.js';

export interface Page {
  /** The largest number of items on the page. */
  readonly limit: number;
  /** The number of items to look for: one more than `limit` tells whether there is a next page. */
  readonly lookFor: number;
  /** The name of the last item of the page before; "" for the first page. */
  readonly after: string;
}

/** @throws {KmsFault} InvalidMarkerException */
export function pageOf({ Limit, Marker }: { Limit?: number | undefined; Marker?: string | undefined }, defaultLimit: number): Page {
  const limit = Limit ?? defaultLimit;
  return { limit, lookFor: limit + 1, after: Marker === undefined ? '' : nameFromMarker(Marker) };
}

/**
 * The page's members of a reply.
 * @param found Up to `page.lookFor` items. @param nameOf The name that the marker holds. @param show The item as the
 * reply has it.
 */
export function paged<Item>(
  page: Page,
  member: string,
  found: readonly Item[],
  nameOf: (item: Item) => string,
  show: (item: Item) => unknown,
): object {
  const shown = found.slice(0, page.limit);
  const last = found.length > page.limit ? shown.at(-1) : undefined;
  const end = last === undefined ? { Truncated: false } : { Truncated: true, NextMarker: markerOf(nameOf(last)) };
  return { [member]: shown.map(show), ...end };
}

/**
 * Tells markers of this KMS from texts that somebody made up; a marker carries no permission, so it needs no secret.
 */
const checkOf = (name: Buffer): Buffer =>
  createHash('sha256').update('volseal kms marker\0').update(name).digest().subarray(0, CHECK_BYTES);

const CHECK_BYTES = 8;

function markerOf(text: string): string {
  const name = Buffer.from(text);
  return Buffer.concat([checkOf(name), name]).toString('base64url');
}

function nameFromMarker(marker: string): string {
  const bytes = Buffer.from(marker, 'base64url');
  const name = bytes.subarray(CHECK_BYTES);
  if (!bytes.subarray(0, CHECK_BYTES).equals(checkOf(name)) || bytes.toString('base64url') !== marker) {
    throw new KmsFault('InvalidMarkerException', 'Could not deserialize marker');
  }
  return name.toString('utf8');
}
