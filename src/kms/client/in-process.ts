/**
 * The request handler under the AWS SDK's client that asks the embedded KMS of this process: the same wire protocol, no socket.
 */
import { HttpResponse } from '@smithy/core/protocols';
import { EmbeddedKms } from '../embedded/service.js';
import type { KmsCaller } from '../shared/endpoint.js';
import { takeRequest } from '../shared/wire.js';
import type { RequestHandler } from './key-intake.js';
import { deliverKey } from './key-slot.js';

/**
 * Opens the embedded KMS of `home` for one client, who is believed to be the caller it names. `destroy` closes it.
 * @throws {VolsealError} `ERR_KMS_STORE`, `ERR_IO`, `ERR_MEMORY_LOCK`
 */
export function embeddedHandler(home: string, { principal, viaService }: KmsCaller = {}): RequestHandler {
  const kms = EmbeddedKms.open(home);
  const caller = { ...(principal === undefined ? {} : { principalArn: principal }), ...(viaService === undefined ? {} : { viaService }) };
  return {
    metadata: { handlerProtocol: 'in-process' },
    async handle(request, options) {
      const sent = request.body as string | Uint8Array;
      // A copy: the SDK sends the same bytes again when it tries again.
      const body = typeof sent === 'string' ? Buffer.from(sent) : Buffer.copyBytesFrom(sent);
      const reply = kms.handle(takeRequest(request.headers['x-amz-target'] ?? '', request.headers, [body]), caller);
      if (reply.plaintext !== undefined) deliverKey(options, reply.plaintext);
      return { response: new HttpResponse({ statusCode: reply.status, headers: { ...reply.headers }, body: reply.body }) };
    },
    updateHttpClientConfig() {},
    httpHandlerConfigs: () => ({}),
    destroy() {
      void kms.close();
    },
  };
}
