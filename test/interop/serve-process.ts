/**
 * node serve-process.js HOME: serves the embedded KMS of HOME over HTTP until it is killed. Prints its process id and
 * its URL.
 */
import { serveKms } from '../../src/kms/embedded/http/server.js';

const { url } = await serveKms({ home: process.argv[2]!, host: '127.0.0.1', port: 0 });
console.log(process.pid, url);
