import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import type { Subject } from '../../src/bench/measurement.js';
import { type Contender, inThread, median, spread, takeTurns } from '../../src/bench/sampling.js';
import { VolsealError } from '../../src/errors.js';
import { native } from '../../src/native.js';

const subject = (name: string): Subject => ({
  ...{ name, kernel: null, direction: null, sectorBytes: null, bufferBytes: null, inPlace: null },
});

/** Contenders that note who had a turn, and say 1, 2, 3, ... */
function noting(names: readonly string[]): { contenders: Contender[]; turns: string[] } {
  const turns: string[] = [];
  return { turns, contenders: names.map((name) => ({ subject: subject(name), turn: () => turns.push(name) })) };
}

describe('sampling', () => {
  test('median and spread', () => {
    assert.equal(median([3]), 3);
    assert.equal(median([9, 1, 5]), 5);
    assert.equal(median([1, 2, 3, 10]), 2.5);
    assert.equal(spread([4]), 0);
    // Quartiles 2 and 4 of median 3; an outlier does not matter.
    assert.equal(spread([1, 2, 3, 4, 5]), 2 / 3);
    assert.equal(spread([1, 2, 3, 4, 5000]), 2 / 3);
  });

  test('every contender has one turn a round', async () => {
    const names = ['a', 'b', 'c'];
    const { contenders, turns } = noting(names);
    const seen: [number, number][] = [];
    const sampled = await takeTurns(contenders, { rounds: 20, budgetMs: 60_000, onTurn: (...turn) => seen.push(turn) });
    const rounds = Array.from({ length: 20 }, (_, round) => turns.slice(round * 3, round * 3 + 3));
    for (const round of rounds) assert.deepEqual(round.toSorted(), names);
    assert.ok(new Set(rounds.map((round) => round.join())).size > 1, 'the order never changes');
    // What a turn said is kept with whose turn it was.
    for (const { subject, turns: said } of sampled) {
      assert.deepEqual(
        said.map((turn) => turns[turn - 1]),
        Array(20).fill(subject.name),
      );
    }
    assert.deepEqual(
      seen,
      turns.map((_, index) => [index + 1, 60]),
    );
  });

  test('a budget that is used up ends it after a whole round, the first at least', async () => {
    const { contenders, turns } = noting(['a', 'b']);
    await takeTurns(contenders, { rounds: 100, budgetMs: 0 });
    assert.deepEqual(turns.toSorted(), ['a', 'b']);
  });

  test('the signal ends it between two turns', async () => {
    const { contenders, turns } = noting(['a', 'b', 'c']);
    const controller = new AbortController();
    const options = { rounds: 3, budgetMs: 60_000, signal: controller.signal, onTurn: () => turns.length === 2 && controller.abort() };
    await assert.rejects(takeTurns(contenders, options), (error) => error instanceof VolsealError && error.code === 'ERR_ABORTED');
    assert.equal(turns.length, 2);
  });

  test('an error of a contender ends it', async () => {
    const broken: Contender = inThread(subject('broken'), 1, 1, () => {
      throw new RangeError('too much');
    });
    await assert.rejects(takeTurns([broken], { rounds: 1, budgetMs: 1 }), { name: 'RangeError', message: 'too much' });
  });

  test('a sample is a batch that is long enough for the clock', async () => {
    let calls = 0;
    let prepared = 0;
    const tiny = inThread(
      subject('tiny'),
      1000,
      1,
      () => calls++,
      () => prepared++,
    );
    const gbps = await tiny.turn();
    assert.ok(Number.isFinite(gbps) && gbps > 0);
    // Half a millisecond of calls that take nanoseconds, three times and more.
    assert.ok(calls > 1000, `${calls} calls`);
    assert.equal(prepared, 1);
    await tiny.turn();
    assert.equal(prepared, 2);
  });

  test('it counts the CPU time of the thread, not the time that passes', async () => {
    const waiting = new Int32Array(new SharedArrayBuffer(4));
    const contender = inThread(subject('half asleep'), 1e6, 1, () => {
      Atomics.wait(waiting, 0, 0, 2);
      const startedNs = native.threadCpuNs();
      while (native.threadCpuNs() - startedNs < 1e6);
    });
    // 1 MB in 1 ms of work is 1 GB/s; with the 2 ms of sleep it would be a third of that.
    const gbps = await contender.turn();
    assert.ok(gbps > 0.6, `${gbps}`);
  });
});
