/** What the threads of the pool run. */
import { loadBundle } from './load.js';

// The SDK's advice on Node's version is for people, and each thread would give it. This is the thread's own copy of the
// environment.
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = 'true';

export default loadBundle('thread').runTask;
