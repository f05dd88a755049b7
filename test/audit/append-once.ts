/** node append-once.js FOLDER: appends one record of a change; prints what came of it. */
import { openAudit } from '../../src/audit/log.js';
import { authenticate, event } from './events.js';

const log = openAudit(process.argv[2]!, authenticate);
try {
  log.append(event({ readOnly: false }));
  console.log('appended');
} catch (error) {
  const { code, message } = error as { code: string; message: string };
  console.log(code, message);
}
