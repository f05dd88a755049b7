/** The NBD protocol against a hostile client: libFuzzer with the address sanitizer, from the seeds below. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { ROOT } from '../built.js';
import { runTool, skipWithout } from '../interop/tools.js';
import { big, COMMAND, infoData, OPTION, optionBytes, requestBytes } from '../nbd/client.js';
import { testUnless } from '../requirements.js';
import { SEED } from '../seed.js';

const RUNS = 60_000 * Number(process.env.VOLSEAL_FUZZ_TIMES ?? 1);
/** The time for all of it, whatever the runs: a busy machine does fewer. */
const SECONDS = 40 * Number(process.env.VOLSEAL_FUZZ_TIMES ?? 1);

const contextData = (name: string): Buffer =>
  Buffer.concat([big(name.length, 4), Buffer.from(name), big(1, 4), big(15, 4), Buffer.from('base:allocation')]);

const REQUESTS = [
  requestBytes({ command: COMMAND.read, offset: 100, length: 5000, cookie: 1 }),
  requestBytes({ command: COMMAND.read, length: 1200 * 1024, cookie: 2, flags: 4 }),
  requestBytes({ command: COMMAND.write, offset: 4096, length: 20, cookie: 3, flags: 1 }),
  Buffer.alloc(20, 0x77),
  requestBytes({ command: COMMAND.flush, cookie: 4 }),
  requestBytes({ command: COMMAND.trim, length: 65536, cookie: 5 }),
  requestBytes({ command: COMMAND.writeZeroes, length: 1024 * 1024, cookie: 6, flags: 2 }),
  requestBytes({ command: COMMAND.blockStatus, length: 1024 * 1024, cookie: 7, flags: 8 }),
  requestBytes({ command: COMMAND.cache, length: 4096, cookie: 8 }),
  requestBytes({ command: COMMAND.disconnect, cookie: 9 }),
];

/** Whole conversations, of old and new clients: the first two bytes are the fuzzer's own. */
function seeds(): Buffer[] {
  const go = (name: string): Buffer => optionBytes(OPTION.go, infoData(name));
  const set = (name: string): Buffer => optionBytes(10, contextData(name));
  const structured = optionBytes(OPTION.structuredReply);
  return [0, 1, 2, 4, 5].flatMap((mode) => {
    const tls = mode % 2 === 1 ? [optionBytes(OPTION.startTls)] : [];
    return [
      [optionBytes(OPTION.exportName), ...REQUESTS],
      [...tls, structured, set('thin'), go('thin'), ...REQUESTS],
      [...tls, optionBytes(OPTION.list), optionBytes(OPTION.info, infoData('')), structured, go(''), ...REQUESTS],
      [...tls, optionBytes(9, contextData('')), optionBytes(77, Buffer.alloc(100)), optionBytes(OPTION.abort)],
    ].map((parts, index) => Buffer.concat([Buffer.from([mode, index * 13]), big(3, 4), ...parts]));
  });
}

testUnless(skipWithout('clang++'))('a hostile NBD client breaks nothing', () => {
  const directory = mkdtempSync(join(tmpdir(), 'volseal-fuzz-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const program = join(directory, 'nbd_fuzz');
  const sources = [
    'base/status.cc',
    'nbd/handshake.cc',
    'nbd/reply.cc',
    'nbd/request.cc',
    'nbd/transmission.cc',
    'nbd/transmission_read.cc',
    'nbd/transmission_write.cc',
  ];
  runTool('clang++', [
    ...['-std=c++20', '-O1', '-g', '-fno-omit-frame-pointer', '-fsanitize=fuzzer,address,undefined', '-fno-sanitize-recover=all'],
    ...[`-I${ROOT}native`, `-I${ROOT}test/native/nbd`, '-o', program, `${ROOT}test/native/nbd/fuzz.cc`],
    ...sources.map((source) => `${ROOT}native/${source}`),
  ]);
  const corpus = join(directory, 'corpus');
  mkdirSync(corpus);
  for (const [index, seed] of seeds().entries()) writeFileSync(join(corpus, `seed-${index}`), seed);
  const limits = [`-runs=${RUNS}`, `-max_total_time=${SECONDS}`, '-max_len=4096', '-timeout=20', '-rss_limit_mb=1024'];
  const result = spawnSync(program, [...limits, `-seed=${SEED}`, `-artifact_prefix=${directory}/`, corpus], { encoding: 'utf8' });
  const artifacts = readdirSync(directory).filter((name) => /^(crash|leak|timeout|oom)-/.test(name));
  const shown = artifacts.map((name) => runTool('base64', ['-w0', join(directory, name)])).join('\n');
  assert.equal(result.status, 0, `${result.stderr.slice(-6000)}\ninput, in base64: ${shown}`);
  const runs = Number(/Done (\d+) runs/.exec(result.stderr)?.[1]);
  assert.ok(runs > seeds().length, result.stderr.slice(-2000));
});
