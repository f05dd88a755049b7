/** NBD through TLS, judged by libnbd (GnuTLS) and openssl: who may come in, and what is taken before TLS. */
import { strict as assert } from 'node:assert';
import { once } from 'node:events';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { type TLSSocket, connect as tlsConnect } from 'node:tls';
import { test } from 'vitest';
import { VolsealError } from '../../src/index.js';
import { infoData, NbdTestClient, OPTION, optionBytes } from '../nbd/client.js';
import { serveNewVolume } from '../nbd/served.js';
import { describeUnless } from '../requirements.js';
import { sandbox } from '../volume/sandbox.js';
import { runTool, skipWithout, tryTool } from './tools.js';

interface Certificates {
  /** A directory for libnbd's tls-certificates, with the client's certificate of this name. */
  client(name: string, authority?: string): string;
  readonly certificate: string;
  readonly key: string;
  readonly authority: string;
}

/** An authority, a server's certificate for localhost, and clients' as they are asked for. */
function certificates(): Certificates {
  const box = sandbox();
  const newAuthority = (name: string): void => {
    const subject = ['-subj', `/CN=${name}`, '-addext', 'basicConstraints=critical,CA:TRUE'];
    runTool('openssl', ['req', '-x509', ...newKey(`${name}-key.pem`), '-out', box.path(`${name}.pem`), '-days', '2', ...subject]);
  };
  const newKey = (file: string): string[] => ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', box.path(file)];
  const sign = (name: string, authority: string, directory = box.directory): void => {
    const [key, request, certificate] = ['key', 'request', 'certificate'].map((part) => `${directory}/${name}-${part}.pem`) as [
      string,
      string,
      string,
    ];
    const keyArgs = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key];
    runTool('openssl', ['req', ...keyArgs, '-out', request, '-subj', `/CN=${name}`]);
    writeFileSync(`${directory}/${name}.ext`, `subjectAltName=DNS:${name}\n`);
    const ca = ['-CA', box.path(`${authority}.pem`), '-CAkey', box.path(`${authority}-key.pem`), '-CAcreateserial'];
    runTool('openssl', ['x509', '-req', '-in', request, '-out', certificate, '-days', '2', ...ca, '-extfile', `${directory}/${name}.ext`]);
    chmodSync(key, 0o600);
  };
  newAuthority('authority');
  newAuthority('other');
  sign('localhost', 'authority');
  return {
    certificate: box.path('localhost-certificate.pem'),
    key: box.path('localhost-key.pem'),
    authority: box.path('authority.pem'),
    client(name, authority = 'authority') {
      const directory = box.path(`of ${name} by ${authority}`);
      mkdirSync(directory);
      sign(name, authority, directory);
      runTool('cp', [box.path('authority.pem'), `${directory}/ca-cert.pem`]);
      runTool('mv', [`${directory}/${name}-key.pem`, `${directory}/client-key.pem`]);
      runTool('mv', [`${directory}/${name}-certificate.pem`, `${directory}/client-cert.pem`]);
      return directory;
    },
  };
}

const read = (uri: string, ...settings: string[]) =>
  tryTool('python3', [
    '-m',
    'nbd',
    ...[...settings, `h.connect_uri(${JSON.stringify(uri)})`, 'print(len(h.pread(100000, 5)))'].flatMap((line) => ['-c', line]),
  ]);

describeUnless(skipWithout('openssl', 'nbdcopy', 'nbdsh'))('NBD through TLS', () => {
  test('X.509: known names come in, others do not, and a signature alone is not enough', async () => {
    const pki = certificates();
    const { box, server } = await serveNewVolume({
      serve: {
        listen: { host: 'localhost', port: 0 },
        tls: { certificate: pki.certificate, key: pki.key, clientCa: pki.authority, allowedNames: ['backup', 'vm-1'] },
      },
    });
    assert.match(server.uri, /^nbds:\/\/localhost:\d+\/$/);
    const through = (directory: string) => read(server.uri, `h.set_tls_certificates(${JSON.stringify(directory)})`);
    const connected = once(server, 'connect');
    const good = through(pki.client('backup'));
    assert.equal(good.stdout, '100000\n', good.stderr);
    assert.equal(((await connected) as [{ identity: string }])[0].identity, 'backup');
    for (const directory of [pki.client('stranger'), pki.client('backup', 'other'), pki.client('backup.example')]) {
      assert.notEqual(through(directory).status, 0, directory);
    }
    // Without a certificate, and without TLS.
    const bare = box.path('bare');
    mkdirSync(bare);
    runTool('cp', [pki.authority, `${bare}/ca-cert.pem`]);
    assert.notEqual(through(bare).status, 0);
    assert.match(read(server.uri.replace('nbds:', 'nbd:')).stderr, /TLS/i);
    assert.equal(server.stats().requests, 1);
  });

  test('PSK: the key decides; every byte goes through', async () => {
    const box = sandbox();
    const keys = box.path('keys.psk');
    writeFileSync(keys, `# comment\nalice:${'a1'.repeat(32)}\nbob:${'b2'.repeat(32)}\n`, { mode: 0o600 });
    const { box: served, volume, uri } = await serveNewVolume({ sizeBytes: 32 * 1024 * 1024, serve: { tls: { psk: keys } } });
    assert.match(uri, /^nbds\+unix:/);
    writeFileSync(box.path('wrong.psk'), `alice:${'00'.repeat(32)}\n`, { mode: 0o600 });
    const as = (user: string, file: string): string[] => [`h.set_tls_username("${user}")`, `h.set_tls_psk_file(${JSON.stringify(file)})`];
    assert.equal(read(uri, ...as('bob', keys)).stdout, '100000\n');
    assert.notEqual(read(uri, ...as('mallory', keys)).status, 0);
    assert.notEqual(read(uri, ...as('alice', box.path('wrong.psk'))).status, 0);
    const contents = served.image('disk.raw', 32 * 1024 * 1024);
    const withKeys = `${uri.replace('nbds+unix://', 'nbds+unix://alice@')}&tls-psk-file=${encodeURIComponent(keys)}`;
    runTool('nbdcopy', [served.path('disk.raw'), withKeys]);
    assert.ok(contents.equals(await volume.read(0, contents.length)));
    writeFileSync(served.path('copy.raw'), '');
    runTool('nbdcopy', [withKeys, served.path('copy.raw')]);
    assert.ok(contents.equals(served.contents('copy.raw')));
  });

  test('plaintext behind STARTTLS is dropped', async () => {
    const pki = certificates();
    const { box, server } = await serveNewVolume({ serve: { tls: { certificate: pki.certificate, key: pki.key } } });
    const client = await NbdTestClient.connect(box.path('nbd.sock'));
    // An attacker in the middle adds an option to the client's: it must not be answered through TLS.
    client.send(Buffer.concat([optionBytes(OPTION.startTls), optionBytes(OPTION.go, infoData(''))]));
    assert.equal((await client.optionReply()).type, 1);
    client.socket.removeAllListeners('data');
    const secured: TLSSocket = tlsConnect({ socket: client.socket, rejectUnauthorized: false });
    await once(secured, 'secureConnect');
    secured.write(optionBytes(OPTION.list));
    const [answer] = (await once(secured, 'data')) as [Buffer];
    assert.equal(answer.readUInt32BE(8), OPTION.list);
    assert.equal(server.listenerCount('connect'), 0);
    secured.destroy();
  });

  test('keys that others may read, and files that are none, are refused with their names', async () => {
    const pki = certificates();
    const { box, volume } = await serveNewVolume();
    const refused = async (tls: object, message: RegExp): Promise<void> => {
      await assert.rejects(volume.serve({ socket: box.path('t'), tls: tls as { psk: string } }), (error: unknown) => {
        assert.ok(error instanceof VolsealError);
        assert.match(error.message, message);
        return true;
      });
    };
    const file = (name: string, text: string, mode = 0o600): string => {
      writeFileSync(box.path(name), text, { mode });
      chmodSync(box.path(name), mode);
      return box.path(name);
    };
    await refused({ certificate: pki.certificate, key: file('open.pem', 'x', 0o644) }, /open\.pem: others than the owner/);
    await refused({ certificate: pki.certificate, key: file('junk.pem', 'x') }, /junk\.pem: this is no private key/);
    await refused({ certificate: file('c.pem', 'x'), key: pki.key }, /c\.pem: this is no certificate/);
    await refused({ certificate: pki.certificate, key: pki.key, clientCa: file('ca.pem', '') }, /ca\.pem/);
    await refused({ certificate: pki.certificate, key: pki.key, allowedNames: ['x'] }, /authority/);
    await refused({ psk: box.path('nothing') }, /nothing.*No such file/);
    await refused({ psk: file('short.psk', 'alice:a1a1\n') }, /short\.psk: line 1 is not identity:key/);
    await refused({ psk: file('empty.psk', '#\n') }, /no key/);
  });
});
