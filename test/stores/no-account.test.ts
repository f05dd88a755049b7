/** Objects and snapshots on a machine that nobody has set up for AWS: what is missing is said, and what to do. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { describeVolume } from '../../src/index.js';
import { failureOf, lab } from '../cli/program.js';

/** No region and no credentials, from nowhere. */
const NOTHING = {
  ...{ AWS_REGION: '', AWS_PROFILE: '', AWS_ACCESS_KEY_ID: '', AWS_SECRET_ACCESS_KEY: '', AWS_SESSION_TOKEN: '' },
  ...{ AWS_CONFIG_FILE: '/dev/null', AWS_SHARED_CREDENTIALS_FILE: '/dev/null', AWS_EC2_METADATA_DISABLED: 'true' },
};

for (const path of ['s3://images/a.vol', 'ebs:snap-0123456789abcdef0']) {
  test(`${path}: no region, then no credentials`, () => {
    const box = lab();
    const info = (more: Record<string, string>) => box.run(['info', path, '--json'], { env: { ...NOTHING, ...more } });
    const nowhere = info({});
    assert.equal(nowhere.status, 1);
    assert.match(failureOf(nowhere).message, /^no AWS region is known: set AWS_REGION/);
    const nobody = info({ AWS_REGION: 'us-east-1' });
    assert.equal(nobody.status, 6);
    assert.match(failureOf(nobody).message, /no AWS credentials were found/);
    assert.match(failureOf(nobody).hint!, /AWS_PROFILE/);
  });

  test(`${path}: the library's errors are its own`, async () => {
    const before = { ...process.env };
    Object.assign(process.env, NOTHING);
    try {
      await assert.rejects(describeVolume(path), { code: 'ERR_ARGUMENT', message: /no AWS region is known/ });
    } finally {
      for (const name of Object.keys(NOTHING)) {
        if (before[name] === undefined) delete process.env[name];
        else process.env[name] = before[name];
      }
    }
  });
}
