/** What the queue costs: small images by workers on a queue, and the same without an engine, in turns. */
import { spawn } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

/** What is measured. */
export interface EnginePlan {
  readonly images: number;
  readonly imageBytes: number;
  readonly workers: number;
  readonly rounds: number;
}

/** Images a second, of each round. */
export interface EngineRates {
  readonly queue: number[];
  readonly alone: number[];
}

const MAIN = fileURLToPath(new URL('../program/main.js', import.meta.url));

/** Runs both in turns. Needs redis-server. */
export async function measureEngine(directory: string, plan: EnginePlan): Promise<EngineRates> {
  const sources = join(directory, 'images');
  mkdirSync(sources);
  const bytes = Buffer.alloc(plan.imageBytes);
  for (let index = 0; index < plan.images; index += 1) writeFileSync(join(sources, `${index}.raw`), randomFillSync(bytes));
  const environment = { ...process.env, VOLSEAL_HOME: join(directory, 'home'), VOLSEAL_KMS: 'embedded' };
  const run = (args: string[]): Promise<void> =>
    new Promise((resolve, reject) => {
      const child = spawn(process.execPath, [MAIN, ...args], { cwd: directory, env: environment, stdio: ['ignore', 'ignore', 'inherit'] });
      child.once('exit', (status) => (status === 0 ? resolve() : reject(new Error(`volseal ${args.join(' ')} ended with ${status}`))));
    });
  await run(['kms', 'create-key']);
  const port = await freePort();
  const redis = spawn('redis-server', ['--port', `${port}`, '--bind', '127.0.0.1', '--save', '', '--dir', directory], { stdio: 'ignore' });
  try {
    const queue = ['--queue', `redis://127.0.0.1:${port}`];
    for (let tries = 0; ; tries += 1) {
      if (
        await run(['jobs', 'status', ...queue]).then(
          () => true,
          () => false,
        )
      )
        break;
      if (tries === 50) throw new Error('redis-server does not answer');
      await sleep(100);
    }
    const rates: EngineRates = { queue: [], alone: [] };
    for (let round = 0; round < plan.rounds; round += 1) {
      rates.queue.push(await timed(directory, plan, `queue-${round}`, (jobs) => withQueue(run, queue, jobs, plan.workers, round)));
      rates.alone.push(await timed(directory, plan, `alone-${round}`, () => alone(directory, plan, `alone-${round}`, environment)));
    }
    return rates;
  } finally {
    redis.kill('SIGKILL');
  }
}

async function withQueue(
  run: (args: string[]) => Promise<void>,
  queue: string[],
  jobs: string,
  workers: number,
  round: number,
): Promise<void> {
  const named = [...queue, '--name', `round-${round}`];
  await run(['jobs', 'submit', jobs, ...named]);
  await Promise.all(Array.from({ length: workers }, () => run(['jobs', 'work', '--until-empty', '--quiet', ...named])));
}

/** As many processes, each with its part of the images, and the library's own function. */
async function alone(directory: string, { images, workers }: EnginePlan, name: string, environment: NodeJS.ProcessEnv): Promise<void> {
  const script = fileURLToPath(new URL('./fleet-alone.js', import.meta.url));
  const parts = Array.from({ length: workers }, (_, worker) => worker);
  await Promise.all(
    parts.map(
      (worker) =>
        new Promise<void>((resolve, reject) => {
          const words = [script, directory, name, `${worker}`, `${workers}`, `${images}`];
          const child = spawn(process.execPath, words, { env: environment, stdio: ['ignore', 'ignore', 'inherit'] });
          child.once('exit', (status) => (status === 0 ? resolve() : reject(new Error(`the part ${worker} ended with ${status}`))));
        }),
    ),
  );
}

/** Images a second of one run, from its first process to its last. */
async function timed(directory: string, { images }: EnginePlan, name: string, work: (jobs: string) => Promise<void>): Promise<number> {
  const targets = join(directory, name);
  mkdirSync(targets);
  const jobs = join(directory, `${name}.jsonl`);
  const specs = Array.from({ length: images }, (_, index) => ({
    kind: 'encrypt',
    source: join(directory, 'images', `${index}.raw`),
    target: join(targets, `${index}.vol`),
  }));
  writeFileSync(jobs, specs.map((spec) => `${JSON.stringify(spec)}\n`).join(''));
  const startedMs = performance.now();
  await work(jobs);
  const seconds = (performance.now() - startedMs) / 1000;
  const volumes = readdirSync(targets).filter((file) => file.endsWith('.vol')).length;
  if (volumes !== images) throw new Error(`${name}: ${volumes} of ${images} images were encrypted`);
  rmSync(targets, { recursive: true });
  return images / seconds;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
