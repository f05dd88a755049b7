// A thread that tells which kernel it finds in use.
import { parentPort } from 'node:worker_threads';
import { kernels } from '../../src/index.js';

parentPort!.postMessage(kernels().find(({ inUse }) => inUse)!.name);
