/** Which job in place is in the way of a command. */
import { VolsealError } from '../errors.js';
import { inTheMiddle } from '../output/in-place-mark.js';
import { InPlaceJournal } from './journal.js';

/**
 * The same error, but for one that says that an image is in the middle of a job in place: that names the job, as its
 * journal says it (`details.kind`). No key is needed, so the record is not proved: it is for people.
 */
export async function nameJob(error: unknown): Promise<unknown> {
  if (!(error instanceof VolsealError) || error.code !== 'ERR_STATE_INTERRUPTED') return error;
  const { path, inPlace, journal, kind } = error.details;
  if (inPlace !== true || kind !== undefined || typeof path !== 'string' || typeof journal !== 'string') return error;
  try {
    await using found = await InPlaceJournal.find(path, journal, 'none');
    return found === undefined ? error : inTheMiddle(path, journal, (await found.newest()).kind);
  } catch {
    return error;
  }
}
