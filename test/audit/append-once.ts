/** node append-once.js DIRECTORY: appends one record of a change; prints what came of it. */
import { AuditLog } from '../../src/audit/log.js';
import { event, ownerOf } from './events.js';

const log = new AuditLog(process.argv[2]!, ownerOf(process.argv[2]!));
try {
  log.append(event({ readOnly: false }));
  console.log('appended');
} catch (error) {
  const { code, message } = error as { code: string; message: string };
  console.log(code, message);
}
