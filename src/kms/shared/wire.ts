/**
 * The KMS wire protocol between a client and a KMS of this process: AWS JSON 1.1 bodies, with the one member that must
 * not be a JavaScript value, `Plaintext`, taken out and carried beside the body as a vault handle.
 */
import { VolsealError } from '../../errors.js';
import { type KeyHandle, native } from '../../native.js';

export const KMS_CONTENT_TYPE = 'application/x-amz-json-1.1';
/** The prefix of the operation's name in the header `X-Amz-Target`. */
export const KMS_TARGET_PREFIX = 'TrentService.';

export interface WireRequest {
  /** `TrentService.Decrypt` and the like. */
  readonly target: string;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** JSON; where `plaintext` is set, its member `Plaintext` reads "AAAA...". */
  readonly body: Buffer;
  /** The plaintext of Encrypt. The receiver of the request owns the handle and wipes it. */
  readonly plaintext?: KeyHandle | undefined;
}

export interface WireReply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** JSON; where `plaintext` is set, its member `Plaintext` is as long as the key's base64 text and reads "AAAA...". */
  readonly body: Buffer;
  /** The key in the reply of Decrypt or GenerateDataKey. The receiver of the reply owns the handle and wipes it. */
  readonly plaintext?: KeyHandle | undefined;
}

/**
 * A request's bytes with its `Plaintext` taken into the vault; `chunks` are zeroed then. Only Encrypt has such a
 * member: of another operation it is wiped, and refused as unknown when the body is read.
 * @throws as `keyImportJson`, for Encrypt
 */
export function takeRequest(target: string, headers: WireRequest['headers'], chunks: readonly Buffer[]): WireRequest {
  const isEncrypt = target === `${KMS_TARGET_PREFIX}Encrypt`;
  try {
    const { key, body } = native.keyImportJson(chunks, 'Plaintext');
    if (isEncrypt) return { target, headers, body, plaintext: key };
    if (key !== undefined) native.keyWipe(key);
    return { target, headers, body };
  } catch (error) {
    if (isEncrypt || !(error instanceof VolsealError) || error.code !== 'ERR_ARGUMENT') throw error;
    return { target, headers, body: NO_JSON };
  }
}

/** Stands for a body that does not read as JSON: nobody may see it, since it may hold a key all the same. */
const NO_JSON = Buffer.from('{');

const KEY_REPLIES: ReadonlySet<string> = new Set(['Decrypt', 'GenerateDataKey', 'GenerateRandom'].map((name) => KMS_TARGET_PREFIX + name));

/** Whether a reply to this operation carries a key in `Plaintext`. */
export function repliesWithKey(target: string | undefined): boolean {
  return KEY_REPLIES.has(target ?? '');
}

/** A text of "A"s, as long as the base64 text of `byteLength` bytes. */
export function redactedBase64(byteLength: number): string {
  return 'A'.repeat(4 * Math.ceil(byteLength / 3));
}
