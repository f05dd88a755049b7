/** Counters for Prometheus, of a server whose numbers are known, and of a real one. */
import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { serveMetrics } from '../../src/attached/metrics.js';
import type { NbdStats } from '../../src/index.js';
import { runTool, skipWithout } from '../interop/tools.js';
import { describeUnless } from '../requirements.js';
import { labWithVolume } from './volumes.js';

/** The value of one sample. */
function sampleOf(text: string, name: string): number {
  const [, value] = new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'm').exec(text) ?? [];
  return value === undefined ? assert.fail(`no sample ${name} in\n${text}`) : Number(value);
}

const none = { counts: new Array<number>(25).fill(0), seconds: 0 };
const stats = {
  connections: 1,
  connectionsTotal: 2,
  connectionsRefused: 3,
  requests: 4,
  errors: 5,
  bytesRead: 6,
  bytesWritten: 7,
  latencies: {
    read: { counts: [3, 0, 2, ...new Array<number>(21).fill(0), 1], seconds: 9.5 },
    ...{ write: none, flush: none, trim: none, cache: none, writeZeroes: none, blockStatus: none },
  } satisfies NbdStats['latencies'],
};

describe('metrics', () => {
  test('are the numbers of the server at the time of the question', async () => {
    let current = stats;
    const server = { uri: 'nbd://', stats: () => current } as Parameters<typeof serveMetrics>[1][0]['server'];
    const metrics = await serveMetrics({ host: '127.0.0.1', port: 0 }, [{ server, volumes: [{ volumeId: 'vol-1', path: 'a' }] }]);
    const read = async (): Promise<string> => (await fetch(metrics.url)).text();
    const first = await read();
    const names = ['clients', 'clients_total', 'clients_refused_total', 'requests_total', 'request_errors_total', 'read_bytes_total'];
    assert.deepEqual(
      [...names, 'written_bytes_total'].map((name) => sampleOf(first, `volseal_${name}`)),
      [1, 2, 3, 4, 5, 6, 7],
    );
    assert.equal(sampleOf(first, 'volseal_attached_volumes'), 1);
    assert.match(first, /volseal_requests_total\{volume="vol-1"\} 4/);
    assert.match(first, /^# TYPE volseal_request_seconds histogram$/m);
    const histogram = [...first.matchAll(/^volseal_request_seconds_(\w+)\{volume="vol-1",kind="read"(?:,le="(.*)")?\} (.*)$/gm)];
    const samples = new Map(histogram.map(([, name, le = '', value]) => [`${name} ${le}`, Number(value)]));
    const expected = { '0.000001': 3, '0.000002': 3, '0.000004': 5, '8.388608': 5, '+Inf': 6 };
    for (const [le, value] of Object.entries(expected)) assert.equal(samples.get(`bucket ${le}`), value, le);
    assert.deepEqual([samples.get('sum '), samples.get('count '), samples.size], [9.5, 6, 27]);
    current = { ...stats, requests: 40 };
    assert.equal(sampleOf(await read(), 'volseal_requests_total'), 40);
    assert.equal((await fetch(metrics.url.replace('/metrics', '/'))).status, 404);
    assert.equal((await fetch(metrics.url, { method: 'POST' })).status, 404);
    await metrics.close();
    await assert.rejects(fetch(metrics.url));
  });

  test('are for this machine only', async () => {
    for (const host of ['0.0.0.0', '192.0.2.1', '::', 'example.org', '127.0.0.1.example.org']) {
      await assert.rejects(serveMetrics({ host, port: 0 }, []), { code: 'ERR_ARGUMENT' });
    }
  });
});

describeUnless(skipWithout('nbdcopy'))('metrics of an attached volume', () => {
  test('count what a client reads and writes', async () => {
    const { ok, path, listed } = labWithVolume();
    const uri = ok(['attach', 'disk.vol', '--metrics', '127.0.0.1:0']).text.trim();
    const url = listed()[0]!.metrics!;
    runTool('nbdcopy', [path('disk.raw'), uri]);
    const text = await (await fetch(url)).text();
    assert.equal(sampleOf(text, 'volseal_written_bytes_total'), 1024 * 1024);
    const requests = sampleOf(text, 'volseal_requests_total');
    assert.ok(requests > 0);
    const counts = [...text.matchAll(/^volseal_request_seconds_count\{.*kind="(\w+)"\} (\d+)$/gm)];
    assert.equal(counts.length, 7);
    assert.equal(
      counts.reduce((sum, [, , count]) => sum + Number(count), 0),
      requests,
    );
    assert.ok(Number(counts.find(([, kind]) => kind === 'write')![2]) > 0);
    const [, seconds] = /^volseal_request_seconds_sum\{.*kind="write"\} (\S+)$/m.exec(text)!;
    assert.ok(Number(seconds) > 0);
    assert.equal(sampleOf(text, 'volseal_request_errors_total'), 0);
    ok(['detach', 'disk.vol']);
    await assert.rejects(fetch(url));
  });
});
