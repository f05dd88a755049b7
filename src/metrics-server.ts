/** Metrics over HTTP, in the format of Prometheus, for this machine. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Registry } from 'prom-client';
import { asVolsealError, VolsealError } from './errors.js';
import { isLoopback } from './kms/shared/endpoint.js';

/** A running HTTP server with metrics. */
export interface MetricsServer {
  readonly url: string;
  close(): Promise<void>;
}

/**
 * Serves `/metrics`.
 * @param address a loopback address: the counters say who uses what, and there is neither TLS nor a password
 * @throws {VolsealError} `ERR_ARGUMENT`, `ERR_IO`
 */
export async function serveRegistry(
  { host, port }: { readonly host: string; readonly port: number },
  registry: Registry,
): Promise<MetricsServer> {
  if (!isLoopback(host)) {
    throw new VolsealError('ERR_ARGUMENT', `--metrics ${host}: metrics are for this machine only: 127.0.0.1:PORT`);
  }
  const http = createServer((request, response) => {
    if (request.method !== 'GET' || request.url !== '/metrics') {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('the metrics are at /metrics\n');
      return;
    }
    registry.metrics().then(
      (text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text),
      () => response.writeHead(500).end(),
    );
  });
  await new Promise<void>((resolve, reject) => {
    http.once('error', (error) => reject(asVolsealError(error, `${host}:${port}`)));
    http.listen(port, host, resolve);
  });
  const { address, family, port: bound } = http.address() as AddressInfo;
  return {
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${bound}/metrics`,
    async close() {
      http.close();
      http.closeAllConnections();
    },
  };
}
