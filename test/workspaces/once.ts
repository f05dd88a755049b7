/**
 * node once.js create OPTIONS | rebuild ID HOME | terminate ID HOME: does it, and prints "done" or the error's code.
 */
import { createWorkspace, rebuildWorkspace, terminateWorkspace } from '../../src/index.js';

const [operation, subject = '', home] = process.argv.slice(2);
try {
  if (operation === 'create') await createWorkspace(JSON.parse(subject));
  else if (operation === 'rebuild') await rebuildWorkspace(subject, { home });
  else await terminateWorkspace(subject, { home });
  console.log('done');
} catch (error) {
  console.log((error as { code?: string }).code, (error as Error).message);
}
