import assert from 'node:assert/strict';
import { describe, test } from 'vitest';
import { skipWithout } from '../interop/tools.js';
import { testUnless } from '../requirements.js';
import {
  errorsOfOneRealm,
  foreignHeaders,
  importCycles,
  kmsSidesMixed,
  otherLoaders,
  storesSdkElsewhere,
  terminalOutsideCli,
  wrongIncludes,
  wrongLayers,
} from './import-rules.js';
import { projectFiles, type SourceFile } from './sources.js';

const skip = skipWithout('git');
const files = skip === false ? projectFiles() : [];

interface Rule {
  name: string;
  check: (files: SourceFile[]) => string[];
  /** Each of these alone must be complained about. */
  violations: Record<string, SourceFile[]>;
  /** What looks alike and is right. */
  allowed: SourceFile[];
}

const file = (path: string, text: string): SourceFile => ({ path, text });

const rules: Rule[] = [
  {
    name: 'src: whether a value is an error is asked in one place',
    check: errorsOfOneRealm,
    violations: {
      'the class': [file('src/jobs/a.ts', 'if (error instanceof Error) throw error;')],
      'one of its kinds': [file('src/cli/a.ts', "const why = error instanceof TypeError ? 'type' : 'other';")],
    },
    allowed: [
      file('src/errors.ts', 'export const isError = (value: unknown): boolean => value instanceof Error;'),
      file('src/jobs/a.ts', 'if (error instanceof VolsealError) throw error; // not instanceof Error'),
    ],
  },
  {
    name: 'src: each layer imports only the ones below it',
    check: wrongLayers,
    violations: {
      upwards: [file('src/luks2/header.ts', "import { attach } from '../volume/attach.js';")],
      sideways: [file('src/kms/client.ts', "import type { Token } from '../luks2/token.js';")],
      dynamic: [file('src/errors.ts', "const volume = await import('./volume/attach.js');")],
      're-export': [file('src/native.ts', "export { open } from './kms/client.js';")],
      'for its effects': [file('src/workers/pool.ts', "import '../cli/main.js';")],
      'a new directory': [file('src/cloud/snapshot.ts', '')],
    },
    allowed: [
      file('src/volume/attach.ts', "import { pool } from '../workers/pool.js';\nimport { readHeader } from '../luks2/store.js';"),
      file(
        'src/kms/client.ts',
        "import { VolsealError } from '../errors.js';\nimport * as z from 'zod';\nimport { wire } from './wire.js';",
      ),
    ],
  },
  {
    name: 'src: no cycles',
    check: importCycles,
    violations: {
      'of two': [file('src/kms/a.ts', "import './b.js';"), file('src/kms/b.ts', "import type { A } from './a.js';")],
      'of itself': [file('src/kms/a.ts', "export * from './a.js';")],
    },
    allowed: [
      file('src/kms/a.ts', "import './b.js';\nimport './c.js';"),
      file('src/kms/b.ts', "import './c.js';"),
      file('src/kms/c.ts', ''),
    ],
  },
  {
    name: 'src/kms: client and embedded KMS share src/kms/shared alone',
    check: kmsSidesMixed,
    violations: {
      'an inner file, from the client': [file('src/kms/client/calls.ts', "import { openStore } from '../embedded/store/store.js';")],
      'the client, from the embedded KMS': [file('src/kms/embedded/service.ts', "import { intake } from '../client/key-intake.js';")],
      'a side, from shared code': [file('src/kms/shared/wire.ts', "import { openKms } from '../client/calls.js';")],
      'an inner file, from the command line': [file('src/cli/kms.ts', "import { openStore } from '../kms/embedded/store/store.js';")],
    },
    allowed: [
      file('src/kms/client/in-process.ts', "import { openService } from '../embedded/service.js';"),
      file('src/cli/kms-serve.ts', "import { serve } from '../kms/embedded/http/server.js';"),
      file(
        'src/kms/embedded/operations/cryptography.ts',
        "import { canonicalBytes } from '../../shared/encryption-context.js';\nimport { wire } from '../../shared/wire.js';",
      ),
    ],
  },
  {
    name: 'src: only native.ts loads the addon',
    check: otherLoaders,
    violations: {
      'through require': [file('src/workers/tasks.ts', "import { createRequire } from 'node:module';")],
      'the contract itself': [file('src/volume/attach.ts', "import type { KeyHandle } from '../../binding.js';")],
    },
    allowed: [file('src/native.ts', "import { createRequire } from 'node:module';")],
  },
  {
    name: 'src: only cli/ reads the environment, writes to the terminal or exits',
    check: terminalOutsideCli,
    violations: {
      environment: [file('src/kms/client.ts', 'const home = process.env.VOLSEAL_HOME;')],
      'another variable, where two are read': [file('src/kms/shared/environment.ts', 'const home = process.env.HOME;')],
      output: [file('src/volume/attach.ts', "console.warn('careful');")],
      exit: [file('src/workers/pool.ts', 'process.exit(1);')],
    },
    allowed: [
      file('src/cli/terminal/output.ts', 'process.stdout.write(process.env.HOME);'),
      file('src/kms/shared/environment.ts', 'const kms = process.env.VOLSEAL_KMS ?? process.env.VOLSEAL_HOME;'),
      file('src/kms/client.ts', "// console.log is for cli\nconst hint = 'see process.env.HOME';\nprocess.kill(process.pid, 0);"),
    ],
  },
  {
    name: 'src: only stores/aws-sdk.ts imports the SDK for stores',
    check: storesSdkElsewhere,
    violations: {
      'at the top': [file('src/stores/s3/client.ts', "import { S3Client } from '@aws-sdk/client-s3';")],
      later: [file('src/stores/ebs/client.ts', "const sdk = await import('@aws-sdk/client-ebs');")],
    },
    allowed: [
      file('src/stores/aws-sdk.ts', "export { S3Client } from '@aws-sdk/client-s3';"),
      file('src/stores/s3/body.ts', "import type { S3Client } from '@aws-sdk/client-s3';"),
    ],
  },
  {
    name: 'native: each layer includes only the ones below it',
    check: wrongIncludes,
    violations: {
      upwards: [file('native/xts/xts.h', '#include "vault/vault.h"')],
      'by a relative path': [file('native/xts/xts.cc', '#include "../base/wipe.h"')],
      'a new directory': [file('native/cloud/cloud.cc', '')],
    },
    allowed: [file('native/engine/device.cc', '#include <cstddef>\n#include "vault/vault.h"\n#include "engine/device.h"')],
  },
  {
    name: 'native: Node in addon/ only, intrinsics in one file per instruction set only',
    check: foreignHeaders,
    violations: {
      Node: [file('native/vault/vault.cc', '#include <napi.h>')],
      'its C interface': [file('native/engine/device.h', '#include <node_api.h>')],
      intrinsics: [file('native/xts/dispatch.cc', '#include <immintrin.h>')],
      'intrinsics of ARM': [file('native/vault/vault.cc', '#include <arm_neon.h>')],
    },
    allowed: [
      file('native/addon/args.h', '#include <napi.h>'),
      file('native/xts/xts_aesni.cc', '#include <immintrin.h>'),
      file('native/xts/xts_armv8.cc', '#include <arm_neon.h>'),
    ],
  },
];

for (const { name, check, violations, allowed } of rules) {
  describe(name, () => {
    testUnless(skip)('holds', () => {
      assert.deepEqual(check(files), []);
    });
    for (const [what, planted] of Object.entries(violations)) {
      test(`would be noticed: ${what}`, () => {
        assert.equal(check(planted).length, 1);
      });
    }
    test('has no false alarm', () => {
      assert.deepEqual(check(allowed), []);
    });
  });
}

testUnless(skip)('the rules have files to check', () => {
  assert.ok(files.filter(({ path }) => path.startsWith('src/')).length >= 4);
  assert.ok(files.filter(({ path }) => path.startsWith('native/')).length >= 10);
});
