/** How a task's outcome crosses from its thread: an error that is thrown there would lose its class and its code. */
import { asVolsealError, type PlainError, VolsealError } from '../errors.js';

export type TaskResult<Value> = { ok: true; value: Value } | { ok: false; error: PlainError };

/** What `work` gives, or its `VolsealError`, as a plain value. @throws what is no `VolsealError`: a bug */
export async function taskResult<Value>(work: () => Value | Promise<Value>): Promise<TaskResult<Value>> {
  try {
    return { ok: true, value: await work() };
  } catch (thrown) {
    const error = asVolsealError(thrown);
    if (!(error instanceof VolsealError)) throw error;
    return { ok: false, error: error.toPlain() };
  }
}

/** The inverse of `taskResult`. @throws {VolsealError} that the task threw */
export function resultValue<Value>(result: TaskResult<Value>): Value {
  if (!result.ok) throw VolsealError.fromPlain(result.error);
  return result.value;
}
