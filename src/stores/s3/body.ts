/**
 * Bodies of requests to S3, as they are sent over TLS. In slices, because Node encrypts whatever it is given at once:
 * of a whole part it would hold a second copy until the network has taken it. And unsigned, because TLS protects the
 * bytes: the SDK would hash them in the main thread. Over plain HTTP the SDK signs them.
 */
import { Readable } from 'node:stream';
import type { S3Client } from '@aws-sdk/client-s3';
import { STORE_SLICE_BYTES } from '../../limits.js';

/** What is needed of a request of the SDK. */
interface Request {
  readonly protocol: string;
  readonly headers: Record<string, string>;
  body?: unknown;
}

/** Has the client send long bodies in slices where the connection is encrypted. */
export function sendInSlices(client: S3Client): void {
  client.middlewareStack.add(
    (next) => async (args) => {
      const request = args.request as Request;
      const { body, protocol, headers } = request;
      if (protocol === 'https:' && ArrayBuffer.isView(body) && body.byteLength > STORE_SLICE_BYTES) {
        headers['x-amz-content-sha256'] = 'UNSIGNED-PAYLOAD';
        request.body = slicesOf(Buffer.from(body.buffer, body.byteOffset, body.byteLength));
      }
      return await next(args);
    },
    { name: 'volsealSlices', step: 'build', priority: 'low' },
  );
}

/** Nothing is copied: the bytes are to stay until the request is over. */
function slicesOf(bytes: Buffer): Readable {
  let at = 0;
  return new Readable({
    highWaterMark: STORE_SLICE_BYTES,
    read() {
      const from = at;
      at = Math.min(from + STORE_SLICE_BYTES, bytes.length);
      this.push(from === at ? null : bytes.subarray(from, at));
    },
  });
}
