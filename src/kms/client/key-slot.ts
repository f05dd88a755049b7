/**
 * Where the key of one KMS call is left by the request handler, beside the SDK and out of its sight.
 *
 * A slot belongs to one call, so that calls which run at once cannot receive each other's keys; a call that is tried
 * again replaces, and so wipes, what an earlier try left.
 */
import type { NodeHttpHandler } from '@smithy/node-http-handler';
import { type KeyHandle, native } from '../../native.js';

type HandlerOptions = NonNullable<Parameters<NodeHttpHandler['handle']>[1]>;

export class KeySlot {
  #key: KeyHandle | undefined;

  /** Takes ownership of `key`; wipes the one that was here. */
  put(key: KeyHandle): void {
    this.wipe();
    this.#key = key;
  }

  /** Hands the key and its ownership to the caller. */
  take(): KeyHandle | undefined {
    const key = this.#key;
    this.#key = undefined;
    return key;
  }

  wipe(): void {
    const key = this.take();
    if (key !== undefined) native.keyWipe(key);
  }
}

/**
 * The options of the SDK's `send`, which it passes to the request handler unchanged, with the call's slot among them.
 */
export interface SlotOptions extends HandlerOptions {
  readonly keySlot?: KeySlot;
}

/**
 * Leaves `key` in the slot of the call that `options` belong to; without one nobody could wipe it, so it is wiped at
 * once.
 */
export function deliverKey(options: SlotOptions | undefined, key: KeyHandle): void {
  if (options?.keySlot === undefined) {
    native.keyWipe(key);
    return;
  }
  options.keySlot.put(key);
}
