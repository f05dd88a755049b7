/**
 * Debian's `aws kms decrypt` gives the volume key for the blob and the context in a volume's token, as stock cryptsetup
 * exports it.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { onTestFinished, test } from 'vitest';
import { encryptImage } from '../../src/index.js';
import { MAIN } from '../built.js';
import { signAs } from '../kms/harness.js';
import { describeUnless } from '../requirements.js';
import { dataKeyOf, sandbox } from '../volume/sandbox.js';
import { runTool, skipWithout, tryTool } from './tools.js';

describeUnless(skipWithout('aws', 'cryptsetup'))('aws kms against volseal kms serve', () => {
  test('decrypt gives the key that opens the volume; with another context it refuses', async () => {
    const box = sandbox();
    box.image('disk.raw', 1024 * 1024);
    const volume = box.path('disk.vol');
    await encryptImage(box.path('disk.raw'), volume, { kms: box.kms, encryptionContext: { user: 'alice, with = and ,' } });
    const token = JSON.parse(runTool('cryptsetup', ['token', 'export', '--token-id', '0', volume]));

    const key = await signAs(box.path('home'));
    const env = { ...process.env, VOLSEAL_HOME: box.path('home') };
    const server = spawn(process.execPath, [MAIN, 'kms', 'serve', '--listen', '127.0.0.1:0', '--json'], {
      env,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    onTestFinished(() => void server.kill());
    const [line] = (await once(createInterface({ input: server.stdout }), 'line')) as [string];
    const { url } = JSON.parse(line) as { url: string };

    writeFileSync(box.path('blob'), Buffer.from(token['aws-kms-ciphertext-blob'], 'base64'));
    const aws = (context: object) => {
      const asked = [
        'kms',
        'decrypt',
        '--endpoint-url',
        url,
        '--key-id',
        token['aws-kms-key-id'],
        '--ciphertext-blob',
        `fileb://${box.path('blob')}`,
      ];
      const credentials = {
        AWS_ACCESS_KEY_ID: key.accessKeyId,
        AWS_SECRET_ACCESS_KEY: key.secretAccessKey,
        AWS_DEFAULT_REGION: 'us-east-1',
        AWS_CONFIG_FILE: '/dev/null',
      };
      return tryTool('aws', [...asked, '--encryption-context', JSON.stringify(context), '--query', 'Plaintext', '--output', 'text'], {
        env: { ...process.env, ...credentials },
      });
    };
    const { status, stdout, stderr } = aws(token['aws-kms-encryption-context']);
    assert.equal(status, 0, stderr);
    const dataKey = Buffer.from(stdout.trim(), 'base64');
    assert.ok(dataKey.equals(await dataKeyOf(volume, box.kms)));
    writeFileSync(box.path('vk'), dataKey);
    runTool('cryptsetup', ['open', '--test-passphrase', '--volume-key-file', box.path('vk'), '--key-size', '512', volume]);

    const refused = aws({ ...token['aws-kms-encryption-context'], user: 'mallory' });
    // What the service refuses ends version 2 with 254, version 1 with 255.
    assert.ok([254, 255].includes(refused.status ?? 0), `${refused.status}`);
    assert.match(refused.stderr, /InvalidCiphertextException/);
  });
});
