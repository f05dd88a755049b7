/**
 * Tests that need what a machine may lack: left out with the reason in their title. (CI has everything: see
 * `interop/tools.ts`.)
 */
import { describe, test } from 'vitest';

const titled = (title: string, reason: string | false): string => (reason === false ? title : `${title} (skipped: ${reason})`);

/** `describe`, skipped where there is a reason to. */
export const describeUnless =
  (reason: string | false) =>
  (title: string, suite: () => void): void => {
    describe.skipIf(reason !== false)(titled(title, reason), suite);
  };

/** `test`, skipped where there is a reason to. */
export const testUnless =
  (reason: string | false) =>
  (title: string, run: () => void | Promise<void>): void => {
    test.skipIf(reason !== false)(titled(title, reason), run);
  };
