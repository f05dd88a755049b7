/**
 * node kms-fill.js HOME: makes keys in the embedded KMS there until thirty calls have failed, and prints each code of a
 * failure once.
 */
import { writeSync } from 'node:fs';
import { VolsealError } from '../../src/errors.js';
import { EmbeddedKms } from '../../src/kms/embedded/service.js';
import { ask } from '../kms/harness.js';

const kms = EmbeddedKms.open(process.argv[2]!);
const failures = new Set<string>();
for (let failed = 0; failed < 30; ) {
  try {
    ask(kms, 'CreateKey', { Description: 'x'.repeat(8000) });
  } catch (error) {
    if (!(error instanceof VolsealError)) throw error;
    failures.add(`${error.code} ${String(error.details.errno)}`);
    failed += 1;
  }
}
for (const failure of failures) writeSync(1, `${failure}\n`);
await kms.close();
