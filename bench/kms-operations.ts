/** Operations of the embedded KMS on keys with few and with many grants, in turns. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { DecryptCommand, KMSClient } from '@aws-sdk/client-kms';
import { embeddedHandler } from '../src/kms/client/in-process.js';
import { administerKms } from '../src/kms/embedded/administration.js';
import { serveKms } from '../src/kms/embedded/http/server.js';
import { EmbeddedKms } from '../src/kms/embedded/service.js';
import { openStore } from '../src/kms/embedded/store/store.js';
import { takeRequest } from '../src/kms/shared/wire.js';
import { native } from '../src/native.js';
import { type OperationMeasurement, spreadOf } from './kms-report.js';

export interface KmsPlan {
  grantCounts: readonly number[];
  rounds: number;
  callsPerRound: number;
  attachRounds: number;
}

/** The grantee of every grant: as with a service, the grants differ in their constraints alone. */
const GRANTEE = 'arn:aws:iam::000000000000:role/ebs';
const GRANTS_PER_COMMIT = 1000;

/** A KMS with a key, its grants, and a blob that one of them lets the grantee open. */
interface PreparedKms {
  readonly grantCount: number;
  readonly home: string;
  readonly kms: EmbeddedKms;
  readonly keyArn: string;
  readonly context: Record<string, string>;
  readonly blob: string;
}

/** @param directory for the stores */
export async function measureOperations(directory: string, plan: KmsPlan): Promise<OperationMeasurement[]> {
  const prepared = await Promise.all(plan.grantCounts.map((grantCount) => prepare(join(directory, `home ${grantCount}`), grantCount)));
  const contenders = await Promise.all(prepared.map((kms) => contendersOf(kms)));
  const samples = new Map(contenders.flat().map((contender) => [contender, [] as number[]]));
  for (let round = -1; round < plan.rounds; round++) {
    // In turns, and the first round warms up.
    for (const [contender, seconds] of samples) {
      const start = process.hrtime.bigint();
      for (let call = 0; call < plan.callsPerRound; call++) await contender.call();
      if (round >= 0) seconds.push(Number(process.hrtime.bigint() - start) / 1e9 / plan.callsPerRound);
    }
  }
  for (const contender of contenders.flat()) await contender.close();
  for (const { kms } of prepared) await kms.close();
  const measured = [...samples].map(([{ operation, way, grantCount }, seconds]) => ({
    operation,
    way,
    grantCount,
    seconds: spreadOf(seconds),
  }));
  return measured.map((one) => {
    const first = measured.find(({ operation, way }) => operation === one.operation && way === one.way)!;
    return { ...one, ratioToFirst: one.seconds.median / first.seconds.median };
  });
}

async function prepare(home: string, grantCount: number): Promise<PreparedKms> {
  const kms = EmbeddedKms.open(home);
  const keyArn: string = ask(kms, 'CreateKey', {}).KeyMetadata.Arn;
  const keyId = keyArn.split('/')[1]!;
  const store = openStore(home);
  const pairsOf = (index: number): [string, string][] => [
    ['aws:workspaces:sid-directoryid', `[S-1-5-21-${index % 1000}]@[d-9067000000]`],
    ['aws:ebs:id', `vol-${String(index).padStart(17, '0')}`],
  ];
  for (let index = 0; index < grantCount; ) {
    store.transaction(() => {
      for (let added = 0; added < GRANTS_PER_COMMIT && index < grantCount; added++, index++) {
        store.addGrant({
          grantId: randomBytes(32).toString('hex'),
          keyId,
          granteePrincipal: GRANTEE,
          issuingPrincipal: GRANTEE,
          operations: ['Decrypt', 'GenerateDataKeyWithoutPlaintext'],
          constraint: { kind: 'subset', pairs: pairsOf(index) },
          createdAtSeconds: 0,
        });
      }
    });
  }
  await store.close();
  const context = Object.fromEntries(pairsOf(Math.floor(grantCount / 2)));
  const blob: string = ask(kms, 'GenerateDataKeyWithoutPlaintext', {
    KeyId: keyArn,
    NumberOfBytes: 64,
    EncryptionContext: context,
  }).CiphertextBlob;
  return { grantCount, home, kms, keyArn, context, blob };
}

interface Contender extends Pick<OperationMeasurement, 'operation' | 'way' | 'grantCount'> {
  call(): Promise<unknown> | unknown;
  close(): Promise<void> | void;
}

async function contendersOf({ grantCount, home, kms, keyArn, context, blob }: PreparedKms): Promise<Contender[]> {
  const EncryptionContext = context;
  const decrypt = { KeyId: keyArn, CiphertextBlob: blob, EncryptionContext };
  const service = (operation: string, request: object): Contender => ({
    operation,
    way: 'service',
    grantCount,
    call: () => ask(kms, operation, request, GRANTEE),
    close: () => {},
  });
  const command = { ...decrypt, CiphertextBlob: Buffer.from(blob, 'base64') };
  const inProcess = new KMSClient({
    region: 'us-east-1',
    credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
    requestHandler: embeddedHandler({ kind: 'embedded', home, principal: GRANTEE }),
  });
  const administration = administerKms(home);
  administration.putPrincipal(GRANTEE, []);
  const credentials = administration.createAccessKey(GRANTEE);
  await administration.close();
  const server = await serveKms({ home, host: '127.0.0.1', port: 0 });
  const remote = new KMSClient({ endpoint: server.url, region: 'us-east-1', credentials });
  return [
    service('Decrypt', decrypt),
    service('GenerateDataKeyWithoutPlaintext', { KeyId: keyArn, NumberOfBytes: 64, EncryptionContext }),
    {
      operation: 'Decrypt',
      way: 'sdk',
      grantCount,
      call: () => inProcess.send(new DecryptCommand(command)),
      close: () => inProcess.destroy(),
    },
    {
      operation: 'Decrypt',
      way: 'http',
      grantCount,
      call: () => remote.send(new DecryptCommand(command)),
      async close() {
        remote.destroy();
        await server.close();
      },
    },
  ];
}

// biome-ignore lint/suspicious/noExplicitAny: replies have as many shapes as there are operations
function ask(kms: EmbeddedKms, operation: string, request: object, principalArn?: string): any {
  const asked = takeRequest(`TrentService.${operation}`, {}, [Buffer.from(JSON.stringify(request))]);
  const { status, body, plaintext } = kms.handle(asked, principalArn === undefined ? {} : { principalArn });
  if (plaintext !== undefined) native.keyWipe(plaintext);
  const reply = JSON.parse(body.toString('utf8'));
  if (status !== 200) throw new Error(`${operation}: ${JSON.stringify(reply)}`);
  return reply;
}
