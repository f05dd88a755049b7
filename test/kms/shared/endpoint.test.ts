import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { VolsealError } from '../../../src/errors.js';
import { describeEndpoint, kmsUri, parseKmsUri } from '../../../src/kms/shared/endpoint.js';
import { defaultHome } from '../../../src/kms/shared/environment.js';

describe('parseKmsUri', () => {
  test('reads every form, and what is recorded of it reads back', () => {
    const forms = [
      ['embedded', { kind: 'embedded', home: '/somewhere/default' }, 'embedded'],
      ['embedded:/srv/kms', { kind: 'embedded', home: '/srv/kms' }, 'embedded'],
      ['aws', { kind: 'aws', auditHome: '/somewhere/default' }, 'aws'],
      ['aws:eu-central-1', { kind: 'aws', region: 'eu-central-1', auditHome: '/somewhere/default' }, 'aws:eu-central-1'],
      ['aws:us-gov-west-1', { kind: 'aws', region: 'us-gov-west-1', auditHome: '/somewhere/default' }, 'aws:us-gov-west-1'],
      ['http://127.0.0.1:8080', { kind: 'url', url: 'http://127.0.0.1:8080', auditHome: '/somewhere/default' }, 'http://127.0.0.1:8080'],
      ['http://[::1]:8080/', { kind: 'url', url: 'http://[::1]:8080', auditHome: '/somewhere/default' }, 'http://[::1]:8080'],
      ['https://KMS.example:443', { kind: 'url', url: 'https://kms.example', auditHome: '/somewhere/default' }, 'https://kms.example'],
    ] as const;
    for (const [text, endpoint, recorded] of forms) {
      assert.deepEqual(parseKmsUri(text, '/somewhere/default'), endpoint);
      assert.deepEqual(structuredClone(parseKmsUri(text, '/somewhere/default')), endpoint);
      assert.equal(kmsUri(parseKmsUri(text, '/somewhere/default')), recorded);
      assert.equal(kmsUri(parseKmsUri(recorded)), recorded);
    }
  });

  test('refuses everything else', () => {
    for (const text of [
      '',
      'Embedded',
      'embedded:',
      'aws:',
      'aws:nowhere',
      'aws:eu-central-1.evil.example',
      'ftp://x',
      'http://',
      'http://h:99999',
      'http://h/path',
      'http://h?x',
      'http://h#x',
      'localhost:80',
    ]) {
      assert.throws(
        () => parseKmsUri(text),
        (error) => error instanceof VolsealError && error.code === 'ERR_ARGUMENT',
        text,
      );
    }
  });

  test('refuses credentials in a URL without repeating them', () => {
    assert.throws(
      () => parseKmsUri('https://user:hunter2@kms.example'),
      (error: VolsealError) => error.code === 'ERR_ARGUMENT' && !error.message.includes('hunter2') && error.message.includes('kms.example'),
    );
    assert.throws(() => parseKmsUri('https://user@kms.example'), { code: 'ERR_ARGUMENT' });
  });
});

test('without a home the embedded KMS lives in the data directory of the user', () => {
  assert.deepEqual(parseKmsUri('embedded'), { kind: 'embedded', home: defaultHome() });
  assert.match(defaultHome(), /\/volseal$/);
  assert.equal(describeEndpoint({ kind: 'embedded', home: '/x' }), 'the embedded KMS in /x');
  assert.equal(describeEndpoint({ kind: 'aws', region: 'eu-west-1', auditHome: '/x' }), 'KMS aws:eu-west-1');
});
