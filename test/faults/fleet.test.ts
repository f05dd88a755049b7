/** A short campaign of faults on a fleet, with each server; docs/FLEET.md has the figures of a long one. */
import { expect, test } from 'vitest';
import { runCampaign } from '../fleet/campaign.js';
import { inNamespace, skipWithoutNamespaces } from '../fleet/machines.js';
import { skipPostgres, startPostgres, startRedis } from '../fleet/servers.js';
import { skipWithout } from '../interop/tools.js';
import { describeUnless } from '../requirements.js';
import { SEED } from '../seed.js';
import { skipInjection } from './injected.js';

/** More for a long campaign: VOLSEAL_FLEET_FAULTS=200. */
const FAULTS = Number(process.env.VOLSEAL_FLEET_FAULTS ?? 8);
/** A long campaign is no test that hangs. */
const DEADLINE_MS = 600_000 + FAULTS * 20_000;
const campaign = { seed: SEED, jobs: Math.max(10, Math.ceil(FAULTS * 1.6)), workers: 3, faults: FAULTS, inRanges: true };

const SERVERS = [
  ['Redis', skipWithout('redis-server', 'redis-cli'), () => startRedis()],
  ['PostgreSQL', skipPostgres(), startPostgres],
] as const;

for (const [name, skip, start] of SERVERS) {
  describeUnless(skipInjection() || skip || skipWithout('cryptsetup'))(`a fleet on ${name}`, () => {
    test(
      'workers killed, stopped and cut off, the server killed: every job is done once, and right',
      async () => {
        const counts = await runCampaign(await start(), campaign);
        console.log(`faults on ${name}: ${JSON.stringify(counts)}`);
        expect(Object.values(counts).some((count) => count > 0)).toBe(true);
      },
      DEADLINE_MS,
    );
  });
}

describeUnless(skipInjection() || skipWithout('redis-server', 'redis-cli', 'cryptsetup', 'ip') || skipWithoutNamespaces())(
  'two machines, each with a network of its own',
  () => {
    test(
      'links that go down, workers killed and stopped: every job is done once, and right',
      async () => {
        const machines = { ...campaign, jobs: 6, inRanges: false, workers: 2, faults: Math.min(FAULTS, 6), machine: inNamespace };
        const counts = await runCampaign(await startRedis(), machines);
        console.log(`faults on two machines: ${JSON.stringify(counts)}`);
        expect(Object.values(counts).some((count) => count > 0)).toBe(true);
      },
      DEADLINE_MS,
    );
  },
);
