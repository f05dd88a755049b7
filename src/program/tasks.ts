/** What the threads of the pool run. */
import { loadBundle } from './load.js';

export default loadBundle().runTask;
