/**
 * Puts a key of the vault into a request to KMS. The SDK serializes a placeholder of the same length; the body that is
 * signed and sent is made from its text here, in memory of its own, and zeroed when the call has ended. The hash that
 * the signature needs comes from the vault.
 */
import type { EncryptCommand } from '@aws-sdk/client-kms';
import { type KeyHandle, native } from '../../native.js';

/** What the SDK gets instead of a key of so many bytes. */
export const placeholderKey = (byteLength: number): Uint8Array => Buffer.alloc(Math.max(byteLength, 65)).subarray(0, byteLength);

interface Request {
  readonly headers: Record<string, string>;
  body: unknown;
}

/**
 * Makes the command carry `key` in place of its `Plaintext`, which is a `placeholderKey` of the same length.
 * @param key stays the caller's
 */
export function carryKey(command: EncryptCommand, key: KeyHandle): void {
  const placeholder = Buffer.from(placeholderKey(native.keyByteLength(key))).toString('base64');
  command.middlewareStack.add(
    (next) => async (args) => {
      const request = args.request as Request;
      const text = typeof request.body === 'string' ? request.body : new TextDecoder().decode(request.body as Uint8Array);
      const at = Buffer.byteLength(text.slice(0, text.indexOf(`"Plaintext":"${placeholder}"`) + '"Plaintext":"'.length));
      // Longer than 64 bytes, and not of the pool that Node shares between buffers.
      const body = Buffer.alloc(Buffer.byteLength(text));
      body.write(text);
      if (body.subarray(at, at + placeholder.length).toString() !== placeholder) throw new Error('the request has no place for the key');
      try {
        const sha256 = native.keyIntoRequest(key, body, at).toString('hex');
        request.headers['x-amz-content-sha256'] = sha256;
        request.body = body;
        return await next(args);
      } finally {
        // A try that was given up may still be sending: what it sends now is no key.
        body.fill(0);
      }
    },
    { step: 'build', name: 'volsealKey', priority: 'low' },
  );
}
