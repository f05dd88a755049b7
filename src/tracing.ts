/**
 * Spans of OpenTelemetry, where the application has set it up: a job, its calls to KMS, the data through the cipher and
 * the parts of an upload. Without a provider nothing is loaded and nothing is recorded.
 */
import type { Span } from '@opentelemetry/api';
import { isError, messageOf } from './errors.js';

/** What a span says, besides its name. No key, no context: names and numbers. */
export type SpanAttributes = Readonly<Record<string, string | number | boolean>>;

/** Where `@opentelemetry/api` keeps what an application has registered, for all copies of the package. */
const REGISTERED = Symbol.for('opentelemetry.js.api.1');

const isSetUp = (): boolean => (globalThis as Record<symbol, { trace?: unknown } | undefined>)[REGISTERED]?.trace !== undefined;

/** Runs `work` in a span of this name, and passes on what it gives or throws. */
export async function traced<T>(name: string, attributes: SpanAttributes, work: () => Promise<T>): Promise<T> {
  if (!isSetUp()) return work();
  // An application that has set it up has the package.
  const api = await import('@opentelemetry/api').catch(() => undefined);
  if (api === undefined) return work();
  return api.trace.getTracer('volseal').startActiveSpan(name, { attributes }, async (span: Span) => {
    try {
      return await work();
    } catch (error) {
      const { code } = (isError(error) ? error : {}) as { code?: unknown };
      if (typeof code === 'string') span.setAttribute('error.type', code);
      span.setStatus({ code: api.SpanStatusCode.ERROR, message: messageOf(error) });
      throw error;
    } finally {
      span.end();
    }
  });
}
