/**
 * A process that tries the vault and says how it went, as one line of JSON: run under strace, which makes its system
 * calls fail.
 */
import { randomBytes } from 'node:crypto';
import { native } from '../../src/native.js';
import { mappingsOf } from '../interop/memory-scan.js';
import { revealKey } from './test-keys.js';

function probe(): Record<string, unknown> {
  try {
    const info = native.vaultInfo();
    const bytes = randomBytes(64);
    const key = native.keyImportBase64(Buffer.from(bytes.toString('base64')));
    const intact = revealKey(key).equals(bytes);
    native.xtsPrepare(key);
    const sector = Buffer.alloc(512, 7);
    native.xtsTransform(key, true, 512, 0, sector);
    native.xtsTransform(key, false, 512, 0, sector);
    const mappings = mappingsOf('self');
    const locked = mappings.findIndex(({ flags }) => flags.includes('lo'));
    return {
      backend: info.backend,
      lockedBytes: info.lockedBytes,
      intact,
      roundTrip: sector.equals(Buffer.alloc(512, 7)),
      wiped: native.keyWipe(key),
      mapping: mappings[locked],
      neighbours: [mappings[locked - 1], mappings[locked + 1]],
    };
  } catch (error) {
    const { code, message, details } = error as Error & { code?: string; details?: unknown };
    return { code, message, details };
  }
}

process.stdout.write(`${JSON.stringify(probe())}\n`);
