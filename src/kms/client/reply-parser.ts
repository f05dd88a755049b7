/**
 * Finds one HTTP/1.1 reply in memory of our own, and undoes its chunked coding there. (RFC 9112, sections 4 to 7.)
 *
 * Node's own parser copies what it reads into memory that it frees without wiping, so a reply with a key must be whole,
 * and its key gone, before that parser sees it. No byte of a body becomes a string here; of the head, only the status
 * and the headers of `KEPT` do.
 */
import { VolsealError } from '../../errors.js';
import { KMS_REPLY_BYTES_MAX } from '../../limits.js';

export interface Reply {
  readonly status: number;
  /** The header lines that the AWS SDK and Node's HTTP client read, each with its line end. No length, no coding. */
  readonly headers: string;
  /** A part of the memory; undefined where an error reply has a body that cannot be taken in. */
  readonly body: Buffer | undefined;
  /** Where the reply ends in the memory. */
  readonly endByte: number;
}

interface Head {
  readonly status: number;
  readonly headers: string;
  /** Where the body begins. */
  readonly bodyByte: number;
  /** `undefined`: nothing says how long the body is. */
  readonly bodyLength: number | 'chunked' | undefined;
  readonly isEncoded: boolean;
}

const HTTP = 'HTTP/1.';
const HEAD_BYTES_MAX = 16 * 1024;
const NAME_BYTES_MAX = 64;
const VALUE_BYTES_MAX = 1024;
const CHUNK_LINE_BYTES_MAX = 256;

/** All that one reply may take, its head and the lines between its chunks included. */
export const REPLY_MEMORY_BYTES = KMS_REPLY_BYTES_MAX + 64 * 1024;

/**
 * What the SDK and Node's HTTP client look at: request ids, kinds of errors, waits, dates, and the life of the
 * connection.
 */
const KEPT = /^(?:connection|content-type|date|keep-alive|location|retry-after|x-amzn?-[a-z0-9-]+)$/;

export class ReplyParser {
  readonly #memory: Buffer;
  #headByte = 0;
  #head: Head | undefined;
  /** Of a chunked body: where the next line with a length begins, and where the decoded bytes end. */
  #codedByte = 0;
  #decodedByte = 0;

  constructor(memory: Buffer) {
    this.#memory = memory;
  }

  /**
   * Looks for the reply in the first `byteCount` bytes. @returns undefined until it is whole
   * @throws {VolsealError} `ERR_KMS_REPLY` where it is no reply of HTTP/1.1, or a success whose body cannot be taken in
   */
  parse(byteCount: number): Reply | undefined {
    this.#head ??= this.#findHead(byteCount);
    if (this.#head === undefined) {
      if (byteCount > HEAD_BYTES_MAX) throw replyError(`the headers are longer than ${HEAD_BYTES_MAX} bytes`);
      return undefined;
    }
    const { status, headers, bodyByte, bodyLength, isEncoded } = this.#head;
    const whole = (body: Buffer | undefined, endByte: number): Reply => ({ status, headers, body, endByte });
    try {
      if (isEncoded) throw replyError('the body is compressed, which no request asked for');
      if (bodyLength === undefined) throw replyError('the headers do not say how long the body is');
      if (bodyLength === 'chunked') {
        const endByte = this.#unchunk(byteCount);
        if (endByte !== undefined) return whole(this.#memory.subarray(bodyByte, this.#decodedByte), endByte);
        if (byteCount === this.#memory.length) throw tooLong();
        return undefined;
      }
      if (bodyLength > KMS_REPLY_BYTES_MAX) throw tooLong();
      const endByte = bodyByte + bodyLength;
      return byteCount < endByte ? undefined : whole(this.#memory.subarray(bodyByte, endByte), endByte);
    } catch (error) {
      // A load balancer's page may have any form, and its status says enough.
      if (status >= 300) return whole(undefined, byteCount);
      throw error;
    }
  }

  /** Reads the head, and passes over interim replies (1xx), once the blank line behind it is there. */
  #findHead(byteCount: number): Head | undefined {
    for (;;) {
      const begin = this.#memory.toString('latin1', this.#headByte, Math.min(byteCount, this.#headByte + HTTP.length));
      if (!HTTP.startsWith(begin)) throw replyError('it is not one of HTTP/1.1');
      const blankByte = this.#memory.subarray(0, byteCount).indexOf('\r\n\r\n', this.#headByte);
      if (blankByte === -1) return undefined;
      const head = this.#readHead(blankByte + 2);
      if (head.status === 101) throw replyError('it asks for another protocol');
      if (head.status >= 200) {
        this.#codedByte = head.bodyByte;
        this.#decodedByte = head.bodyByte;
        return head;
      }
      this.#headByte = head.bodyByte;
    }
  }

  /** @param endByte where the blank line begins */
  #readHead(endByte: number): Head {
    let lineByte = this.#memory.indexOf('\r\n', this.#headByte) + 2;
    const statusLine = this.#memory.toString('latin1', this.#headByte, Math.min(lineByte, this.#headByte + 'HTTP/1.1 200 '.length));
    const status = Number(/^HTTP\/1\.[01] ([1-5]\d\d)[ \r]/.exec(statusLine)?.[1]);
    if (Number.isNaN(status)) throw replyError('it is not one of HTTP/1.1');
    let headers = statusLine.startsWith('HTTP/1.0') ? 'connection: close\r\n' : '';
    let bodyLength: Head['bodyLength'];
    let isEncoded = false;
    while (lineByte < endByte) {
      const lineEnd = this.#memory.indexOf('\r\n', lineByte);
      const colonByte = this.#memory.indexOf(':', lineByte);
      const name = this.#memory.toString('latin1', lineByte, Math.min(colonByte, lineByte + NAME_BYTES_MAX)).toLowerCase();
      if (colonByte === -1 || colonByte > lineEnd || !/^[!#$%&'*+.^_`|~0-9a-z-]+$/.test(name)) throw replyError('a header has no name');
      const value = (): string => this.#memory.toString('latin1', colonByte + 1, Math.min(lineEnd, colonByte + VALUE_BYTES_MAX)).trim();
      if (name === 'content-length' || name === 'transfer-encoding') {
        const length = framing(name, value());
        // Two that differ, or a length and a coding, are how one reply is made to look like another (RFC 9112, section
        // 11.2).
        if (bodyLength !== undefined && bodyLength !== length) throw replyError('its headers give two lengths');
        bodyLength = length;
      } else if (name === 'content-encoding') {
        isEncoded ||= value().toLowerCase() !== 'identity';
      } else if (KEPT.test(name) && lineEnd - colonByte < VALUE_BYTES_MAX) {
        headers += `${name}: ${value()}\r\n`;
      }
      lineByte = lineEnd + 2;
    }
    if (status === 204 || status === 304) bodyLength = 0;
    return { status, headers, bodyByte: endByte + 2, bodyLength, isEncoded };
  }

  /** Moves the chunks that are whole together. @returns where the reply ends, once its last chunk is there */
  #unchunk(byteCount: number): number | undefined {
    for (;;) {
      const memory = this.#memory.subarray(0, byteCount);
      const lineEnd = memory.indexOf('\r\n', this.#codedByte);
      if (lineEnd === -1 ? byteCount - this.#codedByte > CHUNK_LINE_BYTES_MAX : lineEnd - this.#codedByte > CHUNK_LINE_BYTES_MAX)
        throw replyError('the line before a chunk is too long');
      if (lineEnd === -1) return undefined;
      const [, digits] =
        /^([0-9a-f]{1,8})[ \t]*(?:;|$)/i.exec(memory.toString('latin1', this.#codedByte, Math.min(lineEnd, this.#codedByte + 16))) ?? [];
      if (digits === undefined) throw replyError('a chunk has no length');
      const length = Number.parseInt(digits, 16);
      if (length === 0) {
        // Trailers may follow; they are not kept. Without them the blank line begins with the end of this one.
        const blankByte = memory.indexOf('\r\n\r\n', lineEnd);
        return blankByte === -1 ? undefined : blankByte + 4;
      }
      const chunkByte = lineEnd + 2;
      if (this.#decodedByte + length - this.#head!.bodyByte > KMS_REPLY_BYTES_MAX) throw tooLong();
      if (byteCount < chunkByte + length + 2) return undefined;
      if (memory[chunkByte + length] !== 0x0d || memory[chunkByte + length + 1] !== 0x0a)
        throw replyError('a chunk is longer than it says');
      memory.copyWithin(this.#decodedByte, chunkByte, chunkByte + length);
      this.#decodedByte += length;
      this.#codedByte = chunkByte + length + 2;
    }
  }
}

function framing(name: 'content-length' | 'transfer-encoding', value: string): number | 'chunked' {
  if (name === 'transfer-encoding' && value.toLowerCase() === 'chunked') return 'chunked';
  if (name === 'content-length' && /^\d{1,15}$/.test(value)) return Number(value);
  throw replyError(`its header ${name} cannot be followed`);
}

const tooLong = (): VolsealError => replyError(`it is longer than ${KMS_REPLY_BYTES_MAX} bytes`);

/** Says what is wrong with a reply, and never repeats a byte of it. */
export function replyError(problem: string): VolsealError {
  return new VolsealError('ERR_KMS_REPLY', `the reply is not one that KMS sends: ${problem}`);
}
