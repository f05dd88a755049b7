/** The length of the `Plaintext` of an Encrypt request, found without copying its bytes. */
import { KMS_PLAINTEXT_BYTES_MAX } from '../../../limits.js';
import { constraintsBroken } from '../faults.js';

const NAME = Buffer.from('"Plaintext"');
const NULL = Buffer.from('null');
const QUOTE = 0x22;
const EQUALS = 0x3d;

/**
 * Refuses a plaintext that is null, empty or too long, in AWS's words. All else that can be wrong with it, its import
 * into the vault finds.
 * @throws {KmsFault} ValidationException
 */
export function checkPlaintextLength(body: Buffer): void {
  const start = valueOffset(body);
  if (body.subarray(start, start + NULL.length).equals(NULL)) {
    throw constraintsBroken([`Value null at 'plaintext' failed to satisfy constraint: Member must not be null`]);
  }
  const end = body[start] === QUOTE ? body.indexOf(QUOTE, start + 1) : -1;
  if (end === -1) return;
  const characters = end - start - 1;
  const padding = body[end - 1] !== EQUALS ? 0 : body[end - 2] !== EQUALS ? 1 : 2;
  if (characters === 0) throw lengthBroken('greater than or equal to 1');
  if ((characters * 3) / 4 - padding > KMS_PLAINTEXT_BYTES_MAX) throw lengthBroken(`less than or equal to ${KMS_PLAINTEXT_BYTES_MAX}`);
}

const lengthBroken = (bound: string) =>
  constraintsBroken([`Value at 'plaintext' failed to satisfy constraint: Member must have length ${bound}`]);

/** Where the value of `Plaintext` begins. */
function valueOffset(body: Buffer): number {
  const at = body.indexOf(NAME);
  let offset = at === -1 ? body.length : at + NAME.length;
  while (offset < body.length && /[\s:]/.test(String.fromCharCode(body[offset]!))) offset++;
  return offset;
}
