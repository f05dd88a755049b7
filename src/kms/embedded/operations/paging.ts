/** Pages of the listing operations. (AWS KMS API Reference, `Limit`, `Marker`, `NextMarker`, `Truncated`.) */
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
 * @param found Up to `page.lookFor` items. @param nameOf The name that the marker holds. @param show The item as the reply has it.
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
  const end = last === undefined ? { Truncated: false } : { Truncated: true, NextMarker: Buffer.from(nameOf(last)).toString('base64url') };
  return { [member]: shown.map(show), ...end };
}

function nameFromMarker(marker: string): string {
  const bytes = Buffer.from(marker, 'base64url');
  if (bytes.length === 0 || bytes.toString('base64url') !== marker)
    throw new KmsFault('InvalidMarkerException', 'Could not deserialize marker');
  return bytes.toString('utf8');
}
