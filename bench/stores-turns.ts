/** The turns of the benchmark of stores: uploads and downloads as whole processes, beside a server on loopback. */
import { execFileSync, spawn } from 'node:child_process';
import { createHash, randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, createReadStream, existsSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { median, shuffled } from '../src/bench/sampling.js';
import { type Spent, type Surroundings, timed } from './timed-process.js';

const MIB = 1024 * 1024;

/** What is measured. */
export interface StoresPlan {
  /** Of the image that contenders have in turns. */
  readonly imageBytes: number;
  readonly rounds: number;
  /** Of the image that volseal alone moves once each way, for its memory. */
  readonly largeBytes: number;
}

export const [AWS, VOLSEAL, CURL] = ['aws s3 cp', 'volseal', 'curl, one connection'] as const;
export const SCENES = ['upload', 'download'] as const;

/** One contender in one direction. */
export interface StoresMeasurement {
  readonly scene: (typeof SCENES)[number];
  readonly name: string;
  readonly seconds: { readonly median: number; readonly min: number; readonly max: number };
  /** 10^9 bytes of the image a second, by the median. */
  readonly gbps: number;
  /** User and kernel; the median. */
  readonly cpuSeconds: number;
  /** Most resident memory in any round. */
  readonly maxRssBytes: number;
}

/** What a run found. */
export interface StoresResults {
  readonly measurements: readonly StoresMeasurement[];
  /** Of volseal with the large image, both ways. */
  readonly largeRssBytes: { readonly upload: number; readonly download: number };
  /** Of Node with a program that does nothing. */
  readonly nodeRssBytes: number;
}

const MAIN = fileURLToPath(new URL('../program/main.js', import.meta.url));
const SERVER = fileURLToPath(new URL('./stores-server.js', import.meta.url));
/** Debian's own, whatever else has the name. */
const AWS_PROGRAM = existsSync('/usr/bin/aws') ? '/usr/bin/aws' : 'aws';

/** The programs beside volseal, as command lines that print their versions. */
export const STORE_PROGRAMS = { aws: [AWS_PROGRAM, '--version'], curl: ['curl', '--version'] } as const;

interface Contender {
  readonly scene: (typeof SCENES)[number];
  readonly name: string;
  readonly command: readonly string[];
  /** Must be the image after a turn. */
  readonly makes?: string;
}

/**
 * Measures in `directory`. Needs openssl, the AWS CLI and curl. @throws {Error} a contender failed, or made other bytes
 */
export async function measureStores(directory: string, plan: StoresPlan, signal: AbortSignal): Promise<StoresResults> {
  const [key, certificate] = [join(directory, 'key.pem'), join(directory, 'certificate.pem')];
  const subject = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '2'];
  execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-noenc', '-keyout', key, '-out', certificate, ...subject], {
    stdio: 'ignore',
  });
  const server = spawn(process.execPath, [SERVER, key, certificate], { stdio: ['pipe', 'pipe', 'inherit'] });
  try {
    const [port] = (await once(server.stdout, 'data')) as [Buffer];
    const url = `https://127.0.0.1:${Number(port)}`;
    const env = {
      ...{ PATH: process.env.PATH, HOME: directory, VOLSEAL_HOME: join(directory, 'home'), VOLSEAL_KMS: 'embedded' },
      ...{ AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: 'example', AWS_DEFAULT_REGION: 'us-east-1' },
      ...{ AWS_CA_BUNDLE: certificate, NODE_EXTRA_CA_CERTS: certificate, AWS_ENDPOINT_URL_S3: url },
    };
    return await turns(directory, url, plan, { env, signal, timesFile: join(directory, 'times') });
  } finally {
    server.kill();
  }
}

async function turns(directory: string, url: string, plan: StoresPlan, surroundings: Surroundings): Promise<StoresResults> {
  const image = join(directory, 'image.raw');
  const all = contenders(directory, image, url);
  const digest = await makeImage(image, plan.imageBytes);
  // What downloads read: a volume, and the image.
  for (const { command } of all.filter(({ scene }) => scene === 'upload')) await timed(command, surroundings);
  const spent = new Map<Contender, Spent[]>(all.map((contender) => [contender, []]));
  for (let round = 0; round < plan.rounds; round += 1) {
    for (const index of shuffled(all.length)) {
      const contender = all[index]!;
      spent.get(contender)!.push(await timed(contender.command, surroundings));
      if (contender.makes === undefined) continue;
      if ((await digestOf(contender.makes)) !== digest) throw new Error(`${contender.name} made other bytes`);
      rmSync(contender.makes);
    }
  }
  const measurements = all.map((contender) => measurementOf(contender, spent.get(contender)!, plan.imageBytes));
  const { maxRssBytes: nodeRssBytes } = await timed([process.execPath, '-e', '0'], surroundings);
  await makeImage(image, plan.largeBytes);
  const own = (scene: string): readonly string[] => all.find((each) => each.name === VOLSEAL && each.scene === scene)!.command;
  const upload = (await timed(own('upload'), surroundings)).maxRssBytes;
  const download = (await timed(own('download'), surroundings)).maxRssBytes;
  return { measurements, largeRssBytes: { upload, download }, nodeRssBytes };
}

function contenders(directory: string, image: string, url: string): Contender[] {
  const made = join(directory, 'made');
  mkdirSync(made);
  const file = (name: string): string => join(made, name);
  const aws = [AWS_PROGRAM, 's3', 'cp', '--no-progress', '--endpoint-url', url];
  const curl = ['curl', '--silent', '--show-error', '--fail', '--cacert', join(directory, 'certificate.pem')];
  const volseal = [process.execPath, MAIN];
  return [
    { scene: 'upload', name: AWS, command: [...aws, image, 's3://bench/aws.raw'] },
    { scene: 'upload', name: VOLSEAL, command: [...volseal, 'encrypt', image, 's3://bench/volseal.vol', '--force'] },
    { scene: 'upload', name: CURL, command: [...curl, '--upload-file', image, `${url}/bench/curl.raw`] },
    { scene: 'download', name: AWS, command: [...aws, 's3://bench/aws.raw', file('aws')], makes: file('aws') },
    {
      scene: 'download',
      name: VOLSEAL,
      command: [...volseal, 'decrypt', 's3://bench/volseal.vol', file('volseal'), '--no-fsync', '--force'],
      makes: file('volseal'),
    },
    { scene: 'download', name: CURL, command: [...curl, '--output', file('curl'), `${url}/bench/curl.raw`], makes: file('curl') },
  ];
}

function measurementOf({ scene, name }: Contender, spent: readonly Spent[], imageBytes: number): StoresMeasurement {
  const seconds = spent.map((turn) => turn.seconds);
  return {
    scene,
    name,
    seconds: { median: median(seconds), min: Math.min(...seconds), max: Math.max(...seconds) },
    gbps: imageBytes / 1e9 / median(seconds),
    cpuSeconds: median(spent.map((turn) => turn.cpuSeconds)),
    maxRssBytes: Math.max(...spent.map((turn) => turn.maxRssBytes)),
  };
}

/** Random bytes, which nothing can compress. @returns their digest */
async function makeImage(path: string, bytes: number): Promise<string> {
  const chunk = Buffer.alloc(Math.min(bytes, 16 * MIB));
  const fd = openSync(path, 'w');
  try {
    for (let at = 0; at < bytes; at += chunk.length) writeSync(fd, randomFillSync(chunk), 0, Math.min(chunk.length, bytes - at));
  } finally {
    closeSync(fd);
  }
  return await digestOf(path);
}

/** Also brings the file into the page cache. */
async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: MIB }), hash);
  return hash.digest('hex');
}
