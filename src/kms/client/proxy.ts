/**
 * A proxy that the environment names (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY) is refused, not bypassed: volseal
 * reads replies that carry keys from its own connection (key-intake.ts), and a direct connection is not what somebody
 * who sets a proxy expects.
 */
import { getProxyForUrl } from 'proxy-from-env';
import { VolsealError } from '../../errors.js';
import { isLoopback } from '../shared/endpoint.js';
import type { RequestHandler } from './key-intake.js';

/**
 * `handler`, which refuses requests that would have to go through a proxy. Its `handle` throws {VolsealError} also
 * `ERR_ARGUMENT`.
 */
export function withoutProxy(handler: RequestHandler): RequestHandler {
  return {
    ...handler,
    handle(request, options) {
      const { protocol, hostname, port } = request;
      const origin = `${protocol}//${hostname.includes(':') ? `[${hostname}]` : hostname}${port === undefined ? '' : `:${port}`}`;
      // No proxy can reach this machine's own servers for it.
      if (!isLoopback(hostname.toLowerCase().replace(/^\[(.*)\]$/, '$1')) && getProxyForUrl(origin) !== '') {
        const variable = protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY';
        throw new VolsealError(
          'ERR_ARGUMENT',
          `${origin}: ${variable} (or ALL_PROXY) is set, and volseal does not ask KMS through a proxy; ` +
            `if ${hostname} can be reached directly, add it to NO_PROXY`,
          { details: { proxy: variable } },
        );
      }
      return handler.handle(request, options);
    },
  };
}
