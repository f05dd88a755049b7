/** A server that answers as a test says, byte by byte where it must: for replies that no KMS would send. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { serveHttp } from '../../http-server.js';

export type Answerer = (response: ServerResponse, attempt: number, request: IncomingMessage) => void;

/** @returns the server's URL; `attempt` counts requests from 1 */
export async function serveFake(answer: Answerer, tls?: { key: Buffer; cert: Buffer }): Promise<string> {
  let attempt = 0;
  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    request.resume().on('end', () => answer(response, ++attempt, request));
  };
  return (await serveHttp(listener, tls)).url;
}

export function sendJson(response: ServerResponse, body: unknown, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/x-amz-json-1.1' }).end(typeof body === 'string' ? body : JSON.stringify(body));
}

/** A certificate for 127.0.0.1, signed by itself, made in `directory`. */
export function selfSigned(directory: string): { key: Buffer; cert: Buffer; certPath: string } {
  const [keyPath, certPath] = [join(directory, 'key.pem'), join(directory, 'cert.pem')];
  const names = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1'];
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-days',
      '2',
      ...names,
      '-keyout',
      keyPath,
      '-out',
      certPath,
    ],
    { stdio: 'ignore' },
  );
  return { key: readFileSync(keyPath), cert: readFileSync(certPath), certPath };
}
