/**
 * The request handler under the AWS SDK's client that asks the embedded KMS of this process: the same wire protocol, no
 * socket.
 */
import { HttpResponse } from '@smithy/core/protocols';
import { EmbeddedKms } from '../embedded/service.js';
import type { KmsEndpoint } from '../shared/endpoint.js';
import { takeRequest } from '../shared/wire.js';
import type { RequestHandler } from './key-intake.js';
import { deliverKey } from './key-slot.js';

type EmbeddedEndpoint = Extract<KmsEndpoint, { kind: 'embedded' }>;

/**
 * A handler that asks an embedded KMS in the name of one caller, who is believed. `destroy` closes it.
 * @throws {VolsealError} `ERR_KMS_NOT_FOUND` (there is no store, and `create` is not set), `ERR_KMS_STORE`, `ERR_IO`,
 * `ERR_MEMORY_LOCK`
 */
export function embeddedHandler({ home, create, principal, viaService }: EmbeddedEndpoint): RequestHandler {
  const kms = borrow(home, create === true);
  const caller = { ...(principal === undefined ? {} : { principalArn: principal }), ...(viaService === undefined ? {} : { viaService }) };
  let destroyed = false;
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
      if (!destroyed) giveBack(home);
      destroyed = true;
    },
  };
}

/**
 * The embedded KMSs that this thread has open, by home. Clients that ask in the name of different callers share one:
 * with a passphrase, opening it takes 0.4 s, and with a command it may take seconds.
 */
const open = new Map<string, { readonly kms: EmbeddedKms; borrowers: number }>();

function borrow(home: string, create: boolean): EmbeddedKms {
  const known = open.get(home) ?? { kms: EmbeddedKms.open(home, create ? 'create' : 'existing'), borrowers: 0 };
  open.set(home, known);
  known.borrowers += 1;
  return known.kms;
}

function giveBack(home: string): void {
  const known = open.get(home);
  if (known === undefined) return;
  known.borrowers -= 1;
  if (known.borrowers > 0) return;
  open.delete(home);
  void known.kms.close();
}
