/**
 * LUKS2 headers with flipped bits, and forged ones with valid checksums: a header is found, or a typed error says why
 * not.
 */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { VolsealError } from '../../src/errors.js';
import { decodeHeader, encodeHeader } from '../../src/luks2/header.js';
import { assertSupported } from '../../src/luks2/metadata.js';
import { findToken } from '../../src/luks2/token.js';
import { flipBit, sampleHeader, withChecksum } from '../luks2/sample-headers.js';
import { type Draw, forEachCase, mutated } from './cases.js';

const COPY_BYTES = 16384;
const COPY_BITS = COPY_BYTES * 8;
const BINARY_BYTES = 4096;
const PATH = '/data/a.img';

const header = sampleHeader();
const area = encodeHeader(header);

/** Any bit of a copy; every other one in its fields or its JSON text, which are a small part of it. */
const anyBit = (draw: Draw): number => draw.oneOf([() => draw.below(COPY_BITS), () => draw.below(6000 * 8)])();

test('one bit flipped: the other copy is used', () => {
  forEachCase(4000, (draw) => {
    const name = draw.oneOf(['primary', 'secondary'] as const);
    const found = decodeHeader(flipBit(area, anyBit(draw) + (name === 'primary' ? 0 : COPY_BITS)), PATH);
    assert.deepEqual(found.header, header);
    assert.equal(found.stale, name);
  });
});

test('the same bit flipped in both copies: an error that names the file', () => {
  forEachCase(4000, (draw) => {
    const bit = anyBit(draw);
    assert.throws(
      () => decodeHeader(flipBit(flipBit(area, bit), bit + COPY_BITS), PATH),
      (error) => error instanceof VolsealError && error.message.startsWith(`${PATH}: `),
    );
  });
});

/** Opens a header as far as that goes without a key. */
function open(bytes: Buffer): void {
  const { metadata } = decodeHeader(bytes, PATH).header;
  assertSupported(metadata, PATH);
  findToken(metadata, PATH);
}

/** A copy of which some bytes are changed, and whose checksum is right. */
function forged(draw: Draw, copy: Buffer): Buffer {
  const fields = copy.subarray(0, BINARY_BYTES);
  const json = copy.subarray(BINARY_BYTES, copy.indexOf(0, BINARY_BYTES));
  const changed = draw.below(4) === 0 ? [mutated(draw, fields), json] : [fields, mutated(draw, json)];
  return withChecksum(Buffer.concat([...changed, Buffer.alloc(COPY_BYTES)]).subarray(0, COPY_BYTES));
}

test('forged headers with valid checksums: opened, or refused by an error with a code', () => {
  let opened = 0;
  let refused = 0;
  forEachCase(8000, (draw) => {
    const copies = [area.subarray(0, COPY_BYTES), area.subarray(COPY_BYTES)].map((copy) => forged(draw, copy));
    try {
      open(Buffer.concat(copies));
      opened += 1;
    } catch (error) {
      if (!(error instanceof VolsealError) || !/^ERR_(HEADER|NOT_A_VOLUME|ARGUMENT)/.test(error.code)) throw error;
      refused += 1;
    }
  });
  assert.ok(refused > 0 && opened + refused > 0);
});
