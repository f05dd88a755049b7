/**
 * `node stream-cipher.js IMAGE TARGET SECTOR_BYTES`: what somebody writes who has only Node. A stream from the image
 * through `createCipheriv`, a cipher object for each sector, into a file that is on the disk at the end. Under a public
 * key.
 */
import { type CipherGCMTypes, createCipheriv } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { publicKeyObject } from '../src/bench/public-key.js';

/** Also the largest sector, so that no sector lies in two chunks. */
const CHUNK_BYTES = 1024 * 1024;

const [image, target, sectorBytes] = [process.argv[2]!, process.argv[3]!, Number(process.argv[4])];
const key = publicKeyObject();
let sector = 0n;

const encryption = new Transform({
  readableHighWaterMark: CHUNK_BYTES,
  writableHighWaterMark: CHUNK_BYTES,
  transform(chunk: Buffer, _encoding, done) {
    const encrypted = Buffer.allocUnsafe(chunk.length);
    for (let offset = 0; offset < chunk.length; offset += sectorBytes, sector++) {
      const tweak = Buffer.alloc(16);
      tweak.writeBigUInt64LE(sector * BigInt(sectorBytes / 512));
      const cipher = createCipheriv('aes-256-xts' as CipherGCMTypes, key, tweak);
      encrypted.set(cipher.update(chunk.subarray(offset, offset + sectorBytes)), offset);
    }
    done(null, encrypted);
  },
});

await pipeline(createReadStream(image, { highWaterMark: CHUNK_BYTES }), encryption, createWriteStream(target, { flush: true }));
