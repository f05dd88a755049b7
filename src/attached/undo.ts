/** What a serving process has begun, to be undone at its end. */
import { asVolsealError } from '../errors.js';

/** Undoes one step; the last step first. */
export type Undo = () => void | Promise<void>;

/** Undoes everything, even if a part fails. @throws the first failure: a last flush, for example */
export async function undoAll(undo: readonly Undo[]): Promise<void> {
  const failures: unknown[] = [];
  for (const step of [...undo].reverse()) {
    try {
      await step();
    } catch (error) {
      failures.push(asVolsealError(error));
    }
  }
  if (failures.length > 0) throw failures[0];
}
