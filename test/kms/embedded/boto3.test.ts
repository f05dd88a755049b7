/** boto3, as Debian ships it, against the HTTP front: every operation, signed. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { accessSync } from 'node:fs';
import { promisify } from 'node:util';
import { onTestFinished } from 'vitest';
import { serveKms } from '../../../src/kms/embedded/http/server.js';
import { operationNames } from '../../../src/kms/embedded/operations/registry.js';
import { ROOT } from '../../built.js';
import { testUnless } from '../../requirements.js';
import { signAs, temporaryHome } from '../harness.js';

// Beside the source: the compiler does not copy it.
const SCRIPT = `${ROOT}test/kms/embedded/boto3-client.py`;
const BOTO3 = '/usr/lib/python3/dist-packages/boto3/__init__.py';

function skipWithoutBoto3(): string | false {
  try {
    accessSync(BOTO3);
    return false;
  } catch {
    const reason = 'not installed: python3-boto3 (run scripts/setup.sh --test)';
    if (process.env.CI) throw new Error(reason);
    return reason;
  }
}

testUnless(skipWithoutBoto3())('boto3', async () => {
  const home = temporaryHome();
  const key = await signAs(home);
  const server = await serveKms({ home, host: '127.0.0.1', port: 0 });
  onTestFinished(() => server.close());
  const env = { PATH: process.env.PATH, HOME: home, AWS_ACCESS_KEY_ID: key.accessKeyId, AWS_SECRET_ACCESS_KEY: key.secretAccessKey };
  const { stdout } = await promisify(execFile)('/usr/bin/python3', [SCRIPT, server.url], { env });
  const { done, unknown } = JSON.parse(stdout) as { done: string[]; unknown: string[] };
  if (unknown.length > 0) console.info(`this boto3 does not know: ${unknown.join(', ')}`);
  assert.deepEqual([...done, ...unknown].sort(), operationNames());
});
