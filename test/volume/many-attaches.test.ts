/** Many volumes at once against one KMS server: no storm of connections, and who is throttled waits and tries again. */
import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import { onTestFinished, test } from 'vitest';
import { attach, createVolume } from '../../src/index.js';
import { serveKms } from '../../src/kms/embedded/http/server.js';
import { POOL_THREADS_MAX } from '../../src/limits.js';
import { serveHttp } from '../http-server.js';
import { signAs } from '../kms/harness.js';
import { sandbox } from './sandbox.js';

const VOLUMES = 24;

/** A server in front of a KMS: counts what comes, and throttles some of it. */
async function counted(target: string, isThrottled: (index: number) => boolean) {
  const seen = { connections: 0, requests: 0, atOnce: 0, mostAtOnce: 0 };
  const { hostname, port } = new URL(target);
  const { url, server } = await serveHttp((request, response) => {
    const index = seen.requests++;
    seen.atOnce += 1;
    seen.mostAtOnce = Math.max(seen.mostAtOnce, seen.atOnce);
    response.on('close', () => {
      seen.atOnce -= 1;
    });
    if (isThrottled(index)) {
      request.resume();
      response.writeHead(400, { 'content-type': 'application/x-amz-json-1.1' });
      response.end('{"__type":"ThrottlingException","message":"Rate exceeded"}');
      return;
    }
    const onward = httpRequest({ hostname, port, method: 'POST', path: '/', headers: request.headers }, (reply) => {
      response.writeHead(reply.statusCode ?? 500, reply.headers);
      reply.pipe(response);
    });
    request.pipe(onward);
  });
  server.on('connection', () => {
    seen.connections += 1;
  });
  return { seen, url };
}

test('attaches at once share their connections, and a throttled one succeeds later', async () => {
  const box = sandbox();
  const home = box.path('home');
  const kms = await serveKms({ home, host: '127.0.0.1', port: 0 });
  onTestFinished(() => kms.close());
  await signAs(home);
  for (let index = 0; index < VOLUMES; index++) await createVolume(box.path(`${index}.vol`), { sizeBytes: 4096, kms: box.kms });
  const { seen, url } = await counted(kms.url, (index) => index % 6 === 1);
  const volumes = await Promise.all(
    Array.from({ length: VOLUMES }, (_, index) => attach(box.path(`${index}.vol`), { kms: url, home: home })),
  );
  await Promise.all(volumes.map((volume) => volume.detach()));
  console.info(JSON.stringify(seen));
  assert.ok(seen.requests > VOLUMES, 'some were throttled and tried again');
  assert.ok(seen.mostAtOnce <= POOL_THREADS_MAX, `${seen.mostAtOnce} at once`);
  assert.ok(seen.connections <= POOL_THREADS_MAX, `${seen.connections} connections`);
});
