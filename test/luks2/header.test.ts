import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import { VolsealError } from '../../src/errors.js';
import { LUKS2_HEADER_SIZES } from '../../src/limits.js';
import type { CopyName } from '../../src/luks2/binary-header.js';
import { decodeHeader, decodeIntactHeader, encodeHeader, encodeHeaderCopy, HEADER_BYTES_MAX } from '../../src/luks2/header.js';
import { flipBit, sampleHeader, withChecksum } from './sample-headers.js';

const COPY_BYTES = 16384;

function wiped(area: Buffer, name: CopyName, copyBytes = COPY_BYTES): Buffer {
  const start = name === 'primary' ? 0 : copyBytes;
  return Buffer.from(area).fill(0, start, start + copyBytes);
}

/** Copies of two different headers in one area. */
function mixed(primary: ReturnType<typeof sampleHeader>, secondary: ReturnType<typeof sampleHeader>): Buffer {
  return Buffer.concat([encodeHeaderCopy(primary, 'primary'), encodeHeaderCopy(secondary, 'secondary')]);
}

describe('a header of two copies', () => {
  test('round-trips, and the copies differ in their salts', () => {
    const header = { ...sampleHeader(), label: 'golden image', subsystem: 'vdi', sequence: 2n ** 63n };
    const area = encodeHeader(header);
    assert.equal(area.length, 2 * COPY_BYTES);
    assert.notDeepEqual(area.subarray(104, 168), area.subarray(COPY_BYTES + 104, COPY_BYTES + 168));
    const copies = { primary: 'good', secondary: 'good' };
    assert.deepEqual(decodeHeader(area, 'a.img'), { header, from: 'primary', copies, stale: undefined });
  });

  test('is found with whatever lies behind it', () => {
    const area = Buffer.concat([encodeHeader(sampleHeader()), Buffer.alloc(1024 * 1024, 0xa5)]);
    assert.equal(decodeHeader(area, 'a.img').stale, undefined);
  });

  for (const copyBytes of LUKS2_HEADER_SIZES) {
    test(`is found at ${copyBytes} bytes a copy with the primary wiped`, () => {
      const header = sampleHeader({ copyBytes });
      const found = decodeHeader(wiped(encodeHeader(header), 'primary', copyBytes), 'a.img');
      assert.deepEqual(found.header, header);
      assert.equal(found.from, 'secondary');
      assert.equal(found.stale, 'primary');
      assert.deepEqual(found.copies, { primary: 'no magic', secondary: 'good' });
    });
  }

  test('is found with the secondary wiped', () => {
    const found = decodeHeader(wiped(encodeHeader(sampleHeader()), 'secondary'), 'a.img');
    assert.equal(found.from, 'primary');
    assert.equal(found.stale, 'secondary');
    assert.deepEqual(found.copies, { primary: 'good', secondary: 'no magic' });
  });

  test('the newer copy counts', () => {
    const old = { ...sampleHeader(), sequence: 4n };
    const recent = { ...old, sequence: 5n, label: 'renamed' };
    const inSecondary = decodeHeader(mixed(old, recent), 'a.img');
    assert.equal(inSecondary.from, 'secondary');
    assert.equal(inSecondary.header.label, 'renamed');
    assert.equal(inSecondary.stale, 'primary');
    assert.equal(inSecondary.copies.primary, 'older than the other copy');
    const inPrimary = decodeHeader(mixed(recent, old), 'a.img');
    assert.equal(inPrimary.from, 'primary');
    assert.equal(inPrimary.header.label, 'renamed');
    assert.equal(inPrimary.stale, 'secondary');
  });

  test('of two equally new copies that differ the primary counts', () => {
    const one = sampleHeader();
    const found = decodeHeader(mixed(one, { ...one, label: 'other' }), 'a.img');
    assert.equal(found.header.label, '');
    // Nobody can tell which one is right: a repair could destroy the only good copy.
    assert.equal(found.stale, undefined);
    assert.match(found.copies.secondary, /differs/);
  });

  test('a newer copy that is damaged does not count', () => {
    const old = { ...sampleHeader(), sequence: 4n };
    const area = mixed(old, { ...old, sequence: 5n, label: 'torn' });
    const found = decodeHeader(flipBit(area, (COPY_BYTES + 5000) * 8), 'a.img');
    assert.equal(found.header.sequence, 4n);
    assert.deepEqual(found.copies, { primary: 'good', secondary: 'bad checksum' });
  });

  test('a copy whose JSON is not LUKS2 counts as damaged', () => {
    const area = encodeHeader(sampleHeader());
    const forged = Buffer.from(area.subarray(0, COPY_BYTES));
    forged.write('{"keyslots":[],', 4096);
    const found = decodeHeader(Buffer.concat([withChecksum(forged), area.subarray(COPY_BYTES)]), 'a.img');
    assert.equal(found.from, 'secondary');
    assert.match(found.copies.primary, /JSON area/);
  });

  test('is not encoded where it would not be accepted', () => {
    const header = sampleHeader();
    const refused = (metadata: object, says: RegExp) =>
      assert.throws(() => encodeHeader({ ...header, metadata: { ...header.metadata, ...metadata } }), {
        code: 'ERR_ARGUMENT',
        message: says,
      });
    refused({ segments: { x: {} } }, /segments\.x/);
    refused({ digests: { '0': { ...header.metadata.digests['0'], segments: ['1'] } } }, /refers to 1/);
    refused({ filler: 'x'.repeat(13000) }, /metadata takes \d+ bytes and its area holds 12287/);
    refused({ a: JSON.parse('{"__proto__":1}') }, /__proto__/);
  });
});

describe('a bit flipped', () => {
  const header = sampleHeader();
  const area = encodeHeader(header);
  const copyBits = COPY_BYTES * 8;
  // The binary header's fields and the JSON text far more often than the NULs behind.
  const bit = fc.oneof(fc.nat({ max: 512 * 8 - 1 }), fc.integer({ min: 4096 * 8, max: 6000 * 8 }), fc.nat({ max: copyBits - 1 }));

  test('in one copy leaves the other', () => {
    fc.assert(
      fc.property(bit, fc.constantFrom('primary' as const, 'secondary' as const), (at, name) => {
        const found = decodeHeader(flipBit(area, at + (name === 'primary' ? 0 : copyBits)), 'a.img');
        assert.deepEqual(found.header, header);
        assert.equal(found.stale, name);
        assert.notEqual(found.copies[name], 'good');
        assert.equal(decodeIntactHeader(flipBit(area, at + (name === 'primary' ? 0 : copyBits))), undefined);
      }),
      { numRuns: 500 },
    );
  });

  test('in both copies is a typed error', () => {
    fc.assert(
      fc.property(bit, (at) => {
        const both = flipBit(flipBit(area, at), at + copyBits);
        assert.throws(
          () => decodeHeader(both, '/data/a.img'),
          (error) => {
            assert.ok(error instanceof VolsealError);
            // Without either magic nothing tells that a volume was there.
            assert.equal(error.code, at < 6 * 8 ? 'ERR_NOT_A_VOLUME' : 'ERR_HEADER_DAMAGED');
            assert.match(error.message, /^\/data\/a\.img: /);
            return true;
          },
        );
      }),
      { numRuns: 500 },
    );
  });

  test('every bit of the fields, one by one, in both copies', () => {
    for (let at = 0; at < 512 * 8; at += 1) {
      assert.throws(() => decodeHeader(flipBit(flipBit(area, at), at + copyBits), 'a.img'), VolsealError, `bit ${at}`);
    }
  });
});

describe('what is no volume', () => {
  const looks: [string, Buffer, RegExp][] = [
    ['an empty file', Buffer.alloc(0), /the file is empty/],
    ['a short file', Buffer.from('hello'), /no header in its 5 bytes/],
    ['zeros', Buffer.alloc(HEADER_BYTES_MAX), /begins with zeros/],
    ['noise', Buffer.alloc(HEADER_BYTES_MAX, 0x5a), /it has no header/],
    ['qcow2', Buffer.concat([Buffer.from('QFI\xfb', 'latin1'), Buffer.alloc(65536)]), /looks like a qcow2 image/],
    ['gzip', Buffer.concat([Buffer.from([0x1f, 0x8b, 8]), Buffer.alloc(65536)]), /looks like a gzip file/],
    ['a partition table', Buffer.concat([Buffer.alloc(510), Buffer.from([0x55, 0xaa]), Buffer.alloc(65536)]), /partition table/],
    ['LUKS1', Buffer.concat([Buffer.from('LUKS\xba\xbe\0\x01', 'latin1'), Buffer.alloc(65536)]), /LUKS1 header/],
  ];
  for (const [what, area, says] of looks) {
    test(`${what} is named`, () => {
      assert.throws(() => decodeHeader(area, '/data/x'), { code: 'ERR_NOT_A_VOLUME', message: says });
      assert.throws(() => decodeHeader(area, '/data/x'), /^VolsealError: \/data\/x: not a LUKS2 volume/);
    });
  }

  test('LUKS1 over an old LUKS2 header is LUKS1', () => {
    const area = wiped(encodeHeader(sampleHeader()), 'primary');
    area.write('LUKS\xba\xbe\0\x01', 'latin1');
    assert.throws(() => decodeHeader(area, 'a.img'), { code: 'ERR_NOT_A_VOLUME', message: /LUKS1/ });
  });

  test('something else over the primary copy is named and never repaired away', () => {
    const area = wiped(encodeHeader(sampleHeader()), 'primary');
    area.writeUInt16LE(0xef53, 1080);
    const found = decodeHeader(area, 'a.img');
    assert.equal(found.from, 'secondary');
    assert.equal(found.stale, undefined);
    assert.match(found.copies.primary, /overwritten by a raw ext2/);
  });

  test('both copies damaged is said of both', () => {
    const area = flipBit(flipBit(encodeHeader(sampleHeader()), 40 * 8), (COPY_BYTES + 7) * 8);
    assert.throws(
      () => decodeHeader(area, 'a.img'),
      (error: VolsealError) => {
        assert.equal(error.code, 'ERR_HEADER_DAMAGED');
        assert.deepEqual(error.details.copies, { primary: 'bad checksum', secondary: 'version 3 is not 2' });
        assert.match(error.message, /primary: bad checksum; secondary: version 3 is not 2/);
        return true;
      },
    );
  });

  test('a truncated header is said to be truncated', () => {
    const area = encodeHeader(sampleHeader());
    for (const length of [6, 100, 4096, 16383]) {
      assert.throws(() => decodeHeader(area.subarray(0, length), 'a.img'), { code: 'ERR_HEADER_DAMAGED', message: /primary: truncated/ });
    }
    assert.equal(decodeHeader(area.subarray(0, 20000), 'a.img').stale, 'secondary');
    assert.match(decodeHeader(area.subarray(0, 20000), 'a.img').copies.secondary, /truncated: 3616 of/);
  });
});
