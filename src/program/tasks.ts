/** What the threads of the pool run. */
import { getEnvironmentData } from 'node:worker_threads';
import type { Order } from '../workers/tasks.js';
import { recordBundle } from './cache-writer.js';
import { loadBundle } from './load.js';
import { REHEARSAL } from './role.js';

// The SDK's advice on Node's version is for people, and each thread would give it. This is the thread's own copy of the
// environment.
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = 'true';

export default getEnvironmentData(REHEARSAL) === undefined ? loadBundle('thread').runTask : rehearsedTasks();

/** The tasks of a rehearsal. To unlock a volume, after making one, is the last that compiles anything of note. */
function rehearsedTasks(): (order: Order) => Promise<unknown> {
  const { bundle, writeCaches } = recordBundle('thread');
  return async (order) => {
    const result = await bundle.runTask(order);
    if (order.task.kind === 'unlock') writeCaches();
    return result;
  };
}
