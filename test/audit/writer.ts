/**
 * node writer.js DIRECTORY COUNT: appends COUNT records (0: until it is killed), and prints each number once its record
 * is in the log.
 */
import { writeSync } from 'node:fs';
import { AuditLog } from '../../src/audit/log.js';
import { event, ownerOf } from './events.js';

const [directory = '', count = '0'] = process.argv.slice(2);
const log = new AuditLog(directory, ownerOf(directory));
for (let index = 0; count === '0' || index < Number(count); index++) {
  log.append(event({ requestID: `${process.pid}-${index}` }));
  writeSync(1, `${process.pid}-${index}\n`);
}
log.close();
