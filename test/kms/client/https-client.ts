/** Takes one key from the server in argv[2], three times over one connection, and prints its text. */
import assert from 'node:assert/strict';
import { HttpRequest } from '@smithy/core/protocols';
import { httpKeyIntake } from '../../../src/kms/client/key-intake.js';
import { KeySlot, type SlotOptions } from '../../../src/kms/client/key-slot.js';
import { spent } from '../harness.js';

const { hostname, port } = new URL(process.argv[2]!);
const handler = httpKeyIntake();
const texts = new Set<string>();
for (let round = 0; round < 3; round++) {
  const keySlot = new KeySlot();
  const options: SlotOptions = { keySlot };
  const headers = { 'x-amz-target': 'TrentService.Decrypt' };
  await handler.handle(
    new HttpRequest({ protocol: 'https:', hostname, port: Number(port), method: 'POST', path: '/', headers, body: '{}' }),
    options,
  );
  texts.add(spent(keySlot.take()));
}
handler.destroy();
assert.equal(texts.size, 1);
process.stdout.write([...texts][0]!);
