/**
 * What the tests of the embedded KMS share: a home that goes away, requests, and a count of the keys that live in the
 * vault.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { administerKms } from '../../src/kms/embedded/administration.js';
import { EmbeddedKms } from '../../src/kms/embedded/service.js';
import { takeRequest, type WireReply } from '../../src/kms/shared/wire.js';
import { type KeyHandle, native } from '../../src/native.js';

/** A directory of its own for a test. */
export function temporaryHome(): string {
  const home = mkdtempSync(join(tmpdir(), 'volseal-kms-'));
  onTestFinished(() => rmSync(home, { recursive: true, force: true }));
  return home;
}

export function openEmbedded(home: string = temporaryHome()): EmbeddedKms {
  const kms = EmbeddedKms.open(home);
  onTestFinished(() => kms.close());
  return kms;
}

/** A reply with its body read. */
export interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: replies have as many shapes as there are operations
  readonly body: any;
  readonly plaintext: KeyHandle | undefined;
}

/**
 * Asks `kms` as a client would; a string body is sent as it is. @param principalArn Who asks; undefined: the account's
 * root.
 */
export function ask(kms: EmbeddedKms, operation: string, body: unknown = {}, principalArn?: string): Answer {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  const request = takeRequest(`TrentService.${operation}`, {}, [Buffer.from(text)]);
  return read(kms.handle(request, principalArn === undefined ? undefined : { principalArn }));
}

/** As `ask`, and asserts that it succeeded. */
export function done(kms: EmbeddedKms, operation: string, body: unknown = {}, principalArn?: string): Answer['body'] {
  const answer = ask(kms, operation, body, principalArn);
  assert.equal(answer.status, 200, `${operation}: ${JSON.stringify(answer.body)}`);
  if (answer.plaintext !== undefined) native.keyWipe(answer.plaintext);
  return answer.body;
}

function read({ status, body, plaintext }: WireReply): Answer {
  return { status, body: JSON.parse(body.toString('utf8')), plaintext };
}

/** Asserts an answer that refuses with this error and text. */
export function refused(answer: Answer, name: string, message: string | RegExp, status = 400): void {
  assert.equal(answer.body.__type, name, JSON.stringify(answer.body));
  const said = String(answer.body.message ?? answer.body.Message ?? '');
  if (typeof message === 'string') assert.equal(said, message);
  else assert.match(said, message);
  assert.equal(answer.status, status);
  assert.equal(answer.plaintext, undefined);
}

/** The text of a vault key, for comparison: tests may know keys, the product may not. */
export function revealed(key: KeyHandle): string {
  const target = Buffer.alloc(8192);
  native.keyRevealBase64(key, target, 0);
  return target.subarray(0, 4 * Math.ceil(native.keyByteLength(key) / 3)).toString('latin1');
}

/** Reads a key's text and wipes it. */
export function spent(key: KeyHandle | undefined): string {
  assert.notEqual(key, undefined);
  const text = revealed(key!);
  native.keyWipe(key!);
  return text;
}

/** Runs `work` and asserts that it left no key in the vault. */
export async function withoutLeak(work: () => unknown): Promise<void> {
  const before = native.vaultInfo().liveKeys;
  await work();
  assert.equal(native.vaultInfo().liveKeys, before, 'a key was left in the vault');
}

/** Makes an access key in the embedded KMS of `home` and lets this process sign with it until the test ends. */
export async function signAs(home: string, name = 'root') {
  const kms = administerKms(home);
  if (name !== 'root') kms.putPrincipal(name, []);
  const key = kms.createAccessKey(name);
  await kms.close();
  const wanted = { AWS_ACCESS_KEY_ID: key.accessKeyId, AWS_SECRET_ACCESS_KEY: key.secretAccessKey };
  for (const [variable, value] of Object.entries(wanted)) {
    const before = process.env[variable];
    process.env[variable] = value;
    onTestFinished(() => {
      if (before === undefined) delete process.env[variable];
      else process.env[variable] = before;
    });
  }
  return { accessKeyId: key.accessKeyId, secretAccessKey: key.secretAccessKey };
}
