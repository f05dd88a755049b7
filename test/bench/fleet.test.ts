/** The benchmark of a fleet runs, small; its simulation keeps what it moves. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import * as z from 'zod';
import { type FleetPlan, simulateFleet } from '../../bench/fleet-simulation.js';
import { built } from '../built.js';
import { skipWithout } from '../interop/tools.js';
import { testUnless } from '../requirements.js';
import { SEED } from '../seed.js';
import { machineShape } from './report-shape.js';
import { assertWellFormed } from './svg.js';

function benchmark(words: string[]): { stdout: string; json: unknown; directory: string } {
  const directory = mkdtempSync(join(tmpdir(), 'volseal-bench-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const json = join(directory, 'fleet.json');
  const all = [built('bench/main.ts'), 'fleet', '--small', '--directory', directory, '--json', json, ...words];
  const { status, stdout, stderr } = spawnSync(process.execPath, all, { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  return { stdout, json: JSON.parse(readFileSync(json, 'utf8')), directory };
}

testUnless(skipWithout('redis-server'))('a queue against none: rates, ratio, goal', () => {
  const { json, stdout, directory } = benchmark([]);
  const shape = z.object({
    benchmark: z.literal('fleet'),
    machine: machineShape,
    imagesPerSecond: z.object({ queue: z.tuple([z.number().positive()]), alone: z.tuple([z.number().positive()]) }),
    ratio: z.number().positive(),
    goal: z.literal(0.8),
  });
  shape.parse(json);
  assert.match(stdout, /with a queue, of the rate without: \d\.\d\d/);
  assert.deepEqual(readdirSync(directory), ['fleet.json']);
});

test('the simulation: a table, JSON and a picture', () => {
  const picture = join(mkdtempSync(join(tmpdir(), 'volseal-bench-')), 'fleet.svg');
  onTestFinished(() => rmSync(join(picture, '..'), { recursive: true }));
  const words = ['--simulate', '--images', '40', '--machines', '4', '--size', '1', '--deaths', '1', '--picture', picture];
  const { json, stdout } = benchmark(words);
  const { scenes } = z
    .object({ benchmark: z.literal('fleet-simulation'), machine: machineShape, scenes: z.array(z.object({ scene: z.string() })) })
    .parse(json);
  assert.equal(scenes.length, 3);
  for (const { scene } of scenes) assert.ok(stdout.includes(scene));
  assertWellFormed(readFileSync(picture, 'utf8'));
});

describe('the simulated fleet', () => {
  const PLAN: FleetPlan = {
    ...{ images: 100, imageBytes: 1e9, machines: 10, machineRate: 1e8, spread: 0, hoursBetweenDeaths: 1e9, replaceSeconds: 60 },
    ...{ lockSeconds: 30, resumes: true, requestsPerSecond: undefined, requestBytes: 1e6, seed: SEED },
  };

  test('without deaths and quotas takes what a division says', () => {
    const { hours, busy, deaths, peakRequests } = simulateFleet(PLAN);
    expect(hours * 3600).toBeCloseTo(100, 3);
    expect(busy).toBeCloseTo(1, 6);
    expect([deaths, Math.round(peakRequests)]).toEqual([0, 1000]);
  });

  test('is held by a quota', () => {
    const { hours, peakRequests } = simulateFleet({ ...PLAN, requestsPerSecond: 500 });
    expect(hours * 3600).toBeCloseTo(200, 3);
    expect(peakRequests).toBeCloseTo(500, 6);
  });

  test('does again what machines that die have not kept', () => {
    const dying = { ...PLAN, hoursBetweenDeaths: 0.02 };
    const [kept, lost] = [true, false].map((resumes) => simulateFleet({ ...dying, resumes }));
    expect(kept!.deaths).toBeGreaterThan(0);
    expect(lost!.repeatedBytes).toBeGreaterThan(kept!.repeatedBytes);
    expect(kept!.samples.at(-1)!.doneImages).toBe(100);
    expect(simulateFleet(dying)).toEqual(simulateFleet(dying));
  });
});
