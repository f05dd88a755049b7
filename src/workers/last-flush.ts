/**
 * The last flush of the log of calls to other KMSs. The threads that make the calls flush it every second while they
 * live; a process may end sooner.
 */
import { existsSync } from 'node:fs';
import type { KmsEndpoint } from '../kms/shared/endpoint.js';

const homes = new Set<string>();

/** Remembers that a KMS is asked, so that its log is flushed before this process ends of itself. */
export function expectLastFlush(kms: KmsEndpoint): void {
  if (kms.kind === 'embedded') return;
  if (homes.size === 0) process.once('beforeExit', flushCallLogs);
  homes.add(kms.auditHome);
}

/**
 * Makes the records of all calls durable, and says in a warning where it cannot. For those who end the process by
 * `process.exit`, before that.
 */
export async function flushCallLogs(): Promise<void> {
  if (homes.size === 0) return;
  const { AuditLog, auditDirectory, fileOwner } = await import('../audit/log.js');
  const { auditPaths } = await import('../audit/state.js');
  for (const home of homes) {
    const directory = auditDirectory(home, 'calls');
    // No call was recorded where none could be made.
    if (existsSync(auditPaths(directory).log)) new AuditLog(directory, fileOwner(directory)).flush();
  }
  homes.clear();
}
