/** The HTTP server behind a fake. */
import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';

/** Serves `listener` on a free port of the loopback interface, over TLS with a certificate; it ends with the test. */
export async function serveHttp(listener: RequestListener, tls?: { key: Buffer; cert: Buffer }): Promise<{ url: string; server: Server }> {
  const server = tls === undefined ? createServer(listener) : createTlsServer(tls, listener);
  // Only a fake breaks off a connection: tests count requests, and Node's five seconds pass in a busy process.
  server.keepAliveTimeout = 0;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http${tls === undefined ? '' : 's'}://127.0.0.1:${(server.address() as AddressInfo).port}`, server };
}
