import assert from 'node:assert/strict';
import { test } from 'vitest';
import { built } from '../built.js';
import type { Mapping } from '../interop/memory-scan.js';
import { runTool, skipWithout } from '../interop/tools.js';
import { describeUnless } from '../requirements.js';

const PROBE = built('test/vault/vault-probe.ts');

interface ProbeResult {
  backend?: string;
  lockedBytes?: number;
  intact?: boolean;
  roundTrip?: boolean;
  wiped?: boolean;
  mapping?: Mapping;
  neighbours?: (Mapping | null)[];
  code?: string;
  message?: string;
  details?: Record<string, string>;
}

/** Runs the probe with system calls that fail: "mlock:error=ENOMEM". */
function probeWith(...injections: string[]): ProbeResult {
  const traced = injections.map((injection) => injection.split(':')[0]).join(',');
  const faults = injections.flatMap((injection) => ['-e', `inject=${injection}`]);
  return JSON.parse(
    runTool('strace', ['-f', '-qq', '-o', '/dev/null', '-e', `trace=${traced}`, ...faults, process.execPath, PROBE]),
  ) as ProbeResult;
}

describeUnless(skipWithout('strace'))('locked memory', () => {
  test('without memfd_secret: locked pages, out of dumps and of forks, and everything works', () => {
    const result = probeWith('memfd_secret:error=ENOSYS');
    assert.equal(result.code, undefined, result.message);
    assert.equal(result.backend, 'mlock');
    assert.ok(result.intact && result.roundTrip && result.wiped);
    const { flags, startByte, endByte } = result.mapping!;
    for (const flag of ['lo', 'dd', 'wf']) assert.ok(flags.includes(flag), `VmFlags lack ${flag}: ${flags.join(' ')}`);
    assert.equal(endByte - startByte, result.lockedBytes);
  });

  test('a guard page lies on both sides of it', () => {
    const { mapping, neighbours } = probeWith('memfd_secret:error=ENOSYS');
    const [below, above] = neighbours!;
    assert.ok(below && above);
    assert.equal(below.endByte, mapping!.startByte);
    assert.equal(above.startByte, mapping!.endByte);
    for (const guard of [below, above]) {
      assert.ok(!guard.flags.includes('rd') && !guard.flags.includes('wr'), guard.flags.join(' '));
      assert.ok(!guard.populated);
    }
  });

  test('a refused lock is an error: no key goes into other memory', () => {
    const { code, message, backend } = probeWith('memfd_secret:error=ENOSYS', 'mlock:error=ENOMEM');
    assert.equal(backend, undefined);
    assert.equal(code, 'ERR_MEMORY_LOCK');
    assert.match(message!, /RLIMIT_MEMLOCK/);
  });

  for (const errno of ['EPERM', 'EAGAIN']) {
    test(`so is a lock refused with ${errno}`, () => {
      assert.equal(probeWith('memfd_secret:error=ENOSYS', `mlock:error=${errno}`).code, 'ERR_MEMORY_LOCK');
    });
  }

  test('too small a limit of locked memory is an error with advice, for a user without privileges', () => {
    // CAP_IPC_LOCK lifts the limit, so root has to give it up.
    const unprivileged = process.getuid?.() === 0 ? ['setpriv', '--bounding-set=-ipc_lock', '--inh-caps=-all'] : [];
    const output = runTool('prlimit', ['--memlock=0:0', ...unprivileged, process.execPath, PROBE]);
    const { code, details } = JSON.parse(output) as ProbeResult;
    assert.equal(code, 'ERR_MEMORY_LOCK');
    assert.ok(details?.errno === 'EPERM' || details?.errno === 'ENOMEM' || details?.errno === 'EAGAIN', JSON.stringify(details));
  });

  test('as the kernel is, one of the two backends holds the keys', () => {
    const result = JSON.parse(runTool(process.execPath.split('/').at(-1)!, [PROBE])) as ProbeResult;
    assert.ok(result.backend === 'memfd_secret' || result.backend === 'mlock', result.message);
    assert.ok(result.intact && result.roundTrip && result.wiped);
    // memfd_secret's pages count as locked too.
    assert.ok(result.mapping?.flags.includes('lo'));
  });
});
