import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import { type BinaryHeader, carriesMagic, decodeCopy, encodeCopy } from '../../src/luks2/binary-header.js';
import { withChecksum } from './sample-headers.js';

const HEADER: BinaryHeader = {
  uuid: '0a1b2c3d-4e5f-4678-9abc-def012345678',
  label: 'backup of 2026',
  subsystem: '',
  sequence: 7n,
  copyBytes: 16384,
};

/** A copy at its offset, as `decodeCopy` expects it. */
function placed(header: BinaryHeader, name: 'primary' | 'secondary', json = '{}'): { area: Buffer; offsetBytes: number } {
  const offsetBytes = name === 'primary' ? 0 : header.copyBytes;
  return { area: Buffer.concat([Buffer.alloc(offsetBytes), encodeCopy(header, name, json)]), offsetBytes };
}

describe('one copy of the binary header', () => {
  const shortText = fc.string({ unit: 'grapheme', maxLength: 47 }).filter((text) => Buffer.byteLength(text) < 48 && !text.includes('\0'));

  test('decodes to what was encoded', () => {
    fc.assert(
      fc.property(
        fc.record(
          {
            uuid: fc.uuid(),
            label: shortText,
            subsystem: shortText,
            sequence: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
            copyBytes: fc.constantFrom(0x4000, 0x8000, 0x10000),
          },
          { noNullPrototype: true },
        ),
        fc.constantFrom('primary' as const, 'secondary' as const),
        fc.string({ unit: 'grapheme', maxLength: 500 }),
        (header, name, json) => {
          const { area, offsetBytes } = placed(header, name, json);
          const decoded = decodeCopy(area, offsetBytes, name);
          assert.deepEqual(decoded.header, header);
          assert.equal(decoded.jsonArea.length, header.copyBytes - 4096);
          assert.ok(decoded.jsonArea.subarray(0, Buffer.byteLength(json)).equals(Buffer.from(json)));
        },
      ),
    );
  });

  test('has the layout of the specification', () => {
    const { area: copy } = placed(HEADER, 'primary', '{"x":1}');
    assert.equal(copy.subarray(0, 6).toString('latin1'), 'LUKS\xba\xbe');
    assert.equal(copy.readUInt16BE(6), 2);
    assert.equal(copy.readBigUInt64BE(8), 16384n);
    assert.equal(copy.readBigUInt64BE(16), 7n);
    assert.equal(copy.toString('latin1', 24, 38), 'backup of 2026');
    assert.equal(copy.toString('latin1', 72, 79), 'sha256\0');
    assert.equal(copy.toString('latin1', 168, 205), `${HEADER.uuid}\0`);
    assert.equal(copy.readBigUInt64BE(256), 0n);
    assert.equal(copy.toString('latin1', 4096, 4104), '{"x":1}\0');
    assert.deepEqual(withChecksum(copy), copy);
    const secondary = encodeCopy(HEADER, 'secondary', '{}');
    assert.equal(secondary.subarray(0, 6).toString('latin1'), 'SKUL\xba\xbe');
    assert.equal(secondary.readBigUInt64BE(256), 16384n);
  });

  test('has a fresh salt each time', () => {
    const salts = [1, 2, 3].map(() => encodeCopy(HEADER, 'primary', '{}').toString('hex', 104, 168));
    assert.equal(new Set(salts).size, 3);
    assert.ok(!salts.includes('00'.repeat(64)));
  });

  test('refuses to encode what does not fit', () => {
    const refused = (header: Partial<BinaryHeader>, json = '{}') =>
      assert.throws(() => encodeCopy({ ...HEADER, ...header }, 'primary', json), { code: 'ERR_ARGUMENT' });
    refused({ label: 'x'.repeat(48) });
    refused({ label: 'a\0b' });
    refused({ subsystem: 'é'.repeat(24) });
    refused({ uuid: 'not-a-uuid' });
    refused({ copyBytes: 16385 });
    refused({ copyBytes: 0 });
    refused({}, 'x'.repeat(16384 - 4096));
    encodeCopy({ ...HEADER, label: 'x'.repeat(47) }, 'primary', 'x'.repeat(16384 - 4096 - 1));
  });

  const forgeries: { what: string; says: RegExp; forge: (copy: Buffer) => void }[] = [
    { what: 'version', says: /version 3 is not 2/, forge: (copy) => copy.writeUInt16BE(3, 6) },
    { what: 'header size out of the list', says: /header size 20480 is none/, forge: (copy) => copy.writeBigUInt64BE(20480n, 8) },
    { what: 'header size beyond the file', says: /truncated: 16384 of 32768/, forge: (copy) => copy.writeBigUInt64BE(32768n, 8) },
    { what: 'header size of 2^63', says: /header size 9223372036854775808 is none/, forge: (copy) => copy.writeBigUInt64BE(2n ** 63n, 8) },
    { what: 'header offset', says: /names the offset 512 /, forge: (copy) => copy.writeBigUInt64BE(512n, 256) },
    { what: 'checksum algorithm', says: /checksum algorithm "md5256" is none of sha1/, forge: (copy) => copy.write('md5', 72) },
    { what: 'UUID', says: /is not a UUID/, forge: (copy) => copy.fill(0x20, 168, 172) },
    { what: 'label without end', says: /text at offset 24 does not end/, forge: (copy) => copy.fill(0x41, 24, 72) },
    { what: 'label that is no UTF-8', says: /text at offset 24 is not UTF-8/, forge: (copy) => copy.fill(0xff, 24, 26) },
  ];
  for (const { what, says, forge } of forgeries) {
    test(`refuses a wrong ${what} under a right checksum`, () => {
      const copy = encodeCopy(HEADER, 'primary', '{}');
      forge(copy);
      assert.throws(() => decodeCopy(withChecksum(copy), 0, 'primary'), { code: 'ERR_HEADER_DAMAGED', message: says });
    });
  }

  test('refuses bytes behind the checksum in its field', () => {
    const copy = encodeCopy(HEADER, 'primary', '{}');
    copy[511] = 1;
    assert.throws(() => decodeCopy(copy, 0, 'primary'), { code: 'ERR_HEADER_DAMAGED', message: 'bad checksum' });
  });

  test('refuses every truncation and every missing magic', () => {
    const copy = encodeCopy(HEADER, 'primary', '{}');
    for (const length of [0, 5, 6, 7, 4095, 4096, 16383]) {
      assert.throws(() => decodeCopy(copy.subarray(0, length), 0, 'primary'), {
        code: 'ERR_HEADER_DAMAGED',
        message: /no magic|truncated/,
      });
    }
    assert.throws(() => decodeCopy(copy, 0, 'secondary'), { code: 'ERR_HEADER_DAMAGED', message: 'no magic' });
    assert.equal(carriesMagic(copy, 0, 'primary'), true);
    assert.equal(carriesMagic(copy, 0, 'secondary'), false);
    assert.equal(carriesMagic(copy, 20000, 'primary'), false);
  });
});
