import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import type { EmbeddedKms } from '../../../src/kms/embedded/service.js';
import { ask, done, openEmbedded, refused, spent } from '../harness.js';

const ARN = 'arn:aws:kms:local:000000000000:key/';
const ACCOUNT = 'arn:aws:iam::000000000000:';
const ROOT = `${ACCOUNT}root`;
const ANNA = `${ACCOUNT}user/anna`;
const EBS = 'ebs.amazonaws.com';
const WORKSPACES = 'workspaces.amazonaws.com';
const SID = { 'aws:workspaces:sid-directoryid': '[S-1-5-21-1]@[d-0123456789]' };
const VOLUME = { ...SID, 'aws:ebs:id': 'vol-1' };

const newKey = (kms: EmbeddedKms): string => done(kms, 'CreateKey').KeyMetadata.KeyId;
const grant = (kms: EmbeddedKms, request: object, who?: string): { GrantId: string; GrantToken: string } =>
  done(kms, 'CreateGrant', request, who);
const granted = (kms: EmbeddedKms, KeyId: string): string[] =>
  done(kms, 'ListGrants', { KeyId }).Grants.map(({ GrantId }: { GrantId: string }) => GrantId);

describe('a grant', () => {
  test('allows its grantee its operations, and nobody else, until it is revoked', () => {
    const kms = openEmbedded();
    const KeyId = newKey(kms);
    const data = { KeyId, NumberOfBytes: 64 };
    refused(
      ask(kms, 'GenerateDataKey', data, ANNA),
      'AccessDeniedException',
      `User: ${ANNA} is not authorized to perform: kms:GenerateDataKey on resource: ${ARN}${KeyId} because no identity-based policy allows the kms:GenerateDataKey action`,
    );
    const { GrantId } = grant(kms, { KeyId, GranteePrincipal: ANNA, Operations: ['GenerateDataKey'] });
    assert.match(GrantId, /^[0-9a-f]{64}$/);
    const answer = ask(kms, 'GenerateDataKey', data, ANNA);
    assert.equal(answer.body.KeyId, `${ARN}${KeyId}`);
    spent(answer.plaintext);
    const { CiphertextBlob } = answer.body;
    refused(ask(kms, 'Decrypt', { CiphertextBlob }, ANNA), 'AccessDeniedException', /kms:Decrypt/);
    refused(ask(kms, 'GenerateDataKey', data, `${ACCOUNT}user/bert`), 'AccessDeniedException', /user\/bert/);
    refused(ask(kms, 'GenerateDataKey', data, EBS), 'AccessDeniedException', /no resource-based policy/);
    done(kms, 'RevokeGrant', { KeyId, GrantId });
    refused(ask(kms, 'GenerateDataKey', data, ANNA), 'AccessDeniedException', /anna/);
    refused(ask(kms, 'RevokeGrant', { KeyId, GrantId }), 'NotFoundException', `Grant ID ${GrantId} not found`);
  });

  test('of a role serves its sessions', () => {
    const kms = openEmbedded();
    const KeyId = newKey(kms);
    grant(kms, { KeyId, GranteePrincipal: `${ACCOUNT}role/backup`, Operations: ['DescribeKey'] });
    done(kms, 'DescribeKey', { KeyId }, 'arn:aws:sts::000000000000:assumed-role/backup/nightly');
    refused(ask(kms, 'DescribeKey', { KeyId }, 'arn:aws:sts::000000000000:assumed-role/other/nightly'), 'AccessDeniedException', /other/);
  });

  test('is bound by its constraint', () => {
    const kms = openEmbedded();
    const KeyId = newKey(kms);
    const Operations = ['GenerateDataKeyWithoutPlaintext', 'DescribeKey'];
    const asked = (EncryptionContext: object) =>
      ask(kms, 'GenerateDataKeyWithoutPlaintext', { KeyId, NumberOfBytes: 64, EncryptionContext }, EBS);
    const subset = grant(kms, { KeyId, GranteePrincipal: EBS, Operations, Constraints: { EncryptionContextSubset: VOLUME } });
    assert.equal(asked(VOLUME).status, 200);
    assert.equal(asked({ ...VOLUME, more: 'x' }).status, 200);
    for (const other of [SID, {}, { ...VOLUME, 'aws:ebs:id': 'vol-2' }, { ...VOLUME, 'aws:ebs:id': 'VOL-1' }, { 'aws:ebs:id': 'vol-1' }]) {
      refused(asked(other), 'AccessDeniedException', /GenerateDataKeyWithoutPlaintext/);
    }
    done(kms, 'DescribeKey', { KeyId }, EBS);
    done(kms, 'RevokeGrant', { KeyId, GrantId: subset.GrantId });
    grant(kms, { KeyId, GranteePrincipal: EBS, Operations, Constraints: { EncryptionContextEquals: VOLUME } });
    assert.equal(asked(Object.fromEntries(Object.entries(VOLUME).reverse())).status, 200);
    for (const other of [{ ...VOLUME, more: 'x' }, SID]) refused(asked(other), 'AccessDeniedException', /not authorized/);
  });

  test('with a name is made once; without one, or with anything else in it, anew', () => {
    const kms = openEmbedded();
    const KeyId = newKey(kms);
    const request = { KeyId, GranteePrincipal: ANNA, Operations: ['Decrypt', 'Encrypt'], Name: 'backup' };
    const first = grant(kms, request);
    assert.equal(grant(kms, { ...request, Operations: ['Encrypt', 'Decrypt'] }).GrantId, first.GrantId);
    const others = [
      { ...request, Name: 'backup2' },
      { ...request, Operations: ['Decrypt'] },
      { ...request, RetiringPrincipal: ANNA },
      { ...request, Constraints: { EncryptionContextSubset: SID } },
      { ...request, Constraints: { EncryptionContextEquals: SID } },
    ];
    const ids = others.map((other) => grant(kms, other).GrantId);
    assert.equal(new Set([first.GrantId, ...ids]).size, 6);
    const { Name: _, ...nameless } = request;
    assert.notEqual(grant(kms, nameless).GrantId, grant(kms, nameless).GrantId);
    done(kms, 'RevokeGrant', { KeyId, GrantId: first.GrantId });
    assert.notEqual(grant(kms, request).GrantId, first.GrantId);
  });

  test('is refused where it is no grant', () => {
    const kms = openEmbedded();
    const KeyId = newKey(kms);
    const request = { KeyId, GranteePrincipal: ANNA, Operations: ['Decrypt'] };
    const cases: [object, string, RegExp][] = [
      [{ GranteePrincipal: 'anna' }, 'InvalidArnException', /anna/],
      [{ RetiringPrincipal: 'arn:aws:iam::1:user/x' }, 'InvalidArnException', /arn:aws:iam::1/],
      [{ Operations: [] }, 'ValidationException', /'operations'.*length greater than or equal to 1/],
      [{ Operations: ['Sing'] }, 'ValidationException', /'operations\.1\.member'.*enum value set/],
      [{ Operations: ['Sign'] }, 'ValidationException', /Sign is not supported on a symmetric/],
      [{ Operations: undefined }, 'ValidationException', /Value null at 'operations'/],
      [{ Name: 'a b' }, 'ValidationException', /'name'.*pattern/],
      [{ Constraints: { EncryptionContextSubset: SID, EncryptionContextEquals: SID } }, 'ValidationException', /not both/],
      [{ Constraints: { EncryptionContextSubset: { a: 1 } } }, 'SerializationException', /NUMBER_VALUE/],
      [{ Constraints: { EncryptionContextSubset: { a: [] } } }, 'ValidationException', /not a string/],
      [{ Constraints: { EncryptionContextSubset: { a: 'x'.repeat(385) } } }, 'ValidationException', /384/],
      [
        { Constraints: { EncryptionContextEquals: Object.fromEntries([...'abcdefghi'].map((key) => [key, '1'])) } },
        'ValidationException',
        /at most 8/,
      ],
      [{ KeyId: 'alias/x' }, 'NotFoundException', /Invalid keyId/],
      [{ GrantTokens: ['AAAA'] }, 'InvalidGrantTokenException', /token/],
      [{ DryRun: true }, 'DryRunOperationException', /would have succeeded/],
    ];
    for (const [changes, name, message] of cases) {
      refused(ask(kms, 'CreateGrant', { ...request, ...changes }), name, message, name === 'DryRunOperationException' ? 412 : 400);
    }
    assert.deepEqual(granted(kms, KeyId), []);
    done(kms, 'DisableKey', { KeyId });
    refused(ask(kms, 'CreateGrant', request), 'DisabledException', `${ARN}${KeyId} is disabled.`);
  });
});

describe('a child', () => {
  const parent = { Operations: ['CreateGrant', 'Decrypt', 'RetireGrant'], Constraints: { EncryptionContextSubset: SID } };

  test('is no wider than its parent', () => {
    const kms = openEmbedded();
    const KeyId = newKey(kms);
    grant(kms, { ...parent, KeyId, GranteePrincipal: WORKSPACES });
    const child = { KeyId, GranteePrincipal: EBS, Operations: ['Decrypt'], Constraints: { EncryptionContextSubset: VOLUME } };
    grant(kms, child, WORKSPACES);
    grant(kms, { ...child, Constraints: { EncryptionContextSubset: SID } }, WORKSPACES);
    grant(kms, { ...child, Constraints: { EncryptionContextEquals: VOLUME } }, WORKSPACES);
    const wider = [
      { Operations: ['Decrypt', 'Encrypt'] },
      { Constraints: undefined },
      { Constraints: { EncryptionContextSubset: { 'aws:ebs:id': 'vol-1' } } },
      { Constraints: { EncryptionContextSubset: { ...SID, 'aws:workspaces:sid-directoryid': 'other' } } },
    ];
    for (const changes of wider)
      refused(ask(kms, 'CreateGrant', { ...child, ...changes }, WORKSPACES), 'AccessDeniedException', /CreateGrant/);
    refused(ask(kms, 'CreateGrant', child, EBS), 'AccessDeniedException', /ebs\.amazonaws\.com/);
  });

  test('of an exact constraint has the same one', () => {
    const kms = openEmbedded();
    const KeyId = newKey(kms);
    grant(kms, { ...parent, KeyId, GranteePrincipal: WORKSPACES, Constraints: { EncryptionContextEquals: SID } });
    const child = { KeyId, GranteePrincipal: EBS, Operations: ['Decrypt'] };
    grant(kms, { ...child, Constraints: { EncryptionContextEquals: SID } }, WORKSPACES);
    for (const Constraints of [{ EncryptionContextEquals: VOLUME }, { EncryptionContextSubset: SID }]) {
      refused(ask(kms, 'CreateGrant', { ...child, Constraints }, WORKSPACES), 'AccessDeniedException', /CreateGrant/);
    }
  });
});

describe('retiring', () => {
  const cases: [string, { Operations: string[]; RetiringPrincipal?: string }, string, boolean][] = [
    ['the retiring principal', { Operations: ['Decrypt'], RetiringPrincipal: WORKSPACES }, WORKSPACES, true],
    ['the grantee, if the grant says so', { Operations: ['Decrypt', 'RetireGrant'] }, EBS, true],
    ['the grantee otherwise', { Operations: ['Decrypt'] }, EBS, false],
    ['the account', { Operations: ['Decrypt'] }, ROOT, true],
    ['anybody else', { Operations: ['Decrypt', 'RetireGrant'], RetiringPrincipal: WORKSPACES }, ANNA, false],
  ];
  for (const [who, request, principal, may] of cases) {
    for (const by of ['token', 'id'] as const) {
      test(`by ${who}, by ${by}: ${may ? 'done' : 'refused'}`, () => {
        const kms = openEmbedded();
        const KeyId = newKey(kms);
        const { GrantId, GrantToken } = grant(kms, { ...request, KeyId, GranteePrincipal: EBS });
        const named = by === 'token' ? { GrantToken } : { KeyId: `${ARN}${KeyId}`, GrantId };
        const dry = ask(kms, 'RetireGrant', { ...named, DryRun: true }, principal);
        if (may) refused(dry, 'DryRunOperationException', /would have succeeded/, 412);
        const answer = ask(kms, 'RetireGrant', named, principal);
        if (may) assert.equal(answer.status, 200);
        else refused(answer, 'AccessDeniedException', /kms:RetireGrant/);
        assert.deepEqual(granted(kms, KeyId), may ? [] : [GrantId]);
      });
    }
  }

  test('works in every state of the key, and names its grant in one way', () => {
    const kms = openEmbedded();
    const KeyId = newKey(kms);
    const make = () => grant(kms, { KeyId, GranteePrincipal: EBS, Operations: ['Decrypt'] });
    const [one, two, three] = [make(), make(), make()];
    done(kms, 'DisableKey', { KeyId });
    done(kms, 'RetireGrant', { GrantToken: one.GrantToken });
    done(kms, 'ScheduleKeyDeletion', { KeyId });
    done(kms, 'RevokeGrant', { KeyId, GrantId: two.GrantId });
    assert.deepEqual(granted(kms, KeyId), [three.GrantId]);
    refused(ask(kms, 'RetireGrant', { GrantToken: three.GrantToken, KeyId, GrantId: three.GrantId }), 'ValidationException', /either/);
    refused(ask(kms, 'RetireGrant', { GrantId: three.GrantId }), 'ValidationException', /either/);
    refused(ask(kms, 'RetireGrant', { KeyId, GrantId: three.GrantId }), 'InvalidArnException', /Invalid arn/);
    refused(ask(kms, 'RetireGrant', { GrantToken: one.GrantToken }), 'InvalidGrantTokenException', /token/);
    const changed = Buffer.from(three.GrantToken, 'base64');
    changed[40]! ^= 1;
    refused(ask(kms, 'RetireGrant', { GrantToken: changed.toString('base64') }), 'InvalidGrantTokenException', /token/);
  });
});

describe('lists', () => {
  test('go through pages, by key, by grantee and by retiring principal', () => {
    const kms = openEmbedded();
    const [one, two] = [newKey(kms), newKey(kms)];
    for (let index = 0; index < 5; index++) {
      const GranteePrincipal = index % 2 === 0 ? EBS : ANNA;
      grant(kms, { KeyId: one, GranteePrincipal, Operations: ['Decrypt'], RetiringPrincipal: WORKSPACES, Name: `n${index}` });
    }
    grant(kms, { KeyId: two, GranteePrincipal: EBS, Operations: ['Decrypt'], RetiringPrincipal: WORKSPACES });
    const all = (operation: string, request: object): string[] => {
      const found: string[] = [];
      for (let Marker: string | undefined; ; ) {
        const page = done(kms, operation, { ...request, Limit: 2, ...(Marker === undefined ? {} : { Marker }) });
        found.push(...page.Grants.map(({ GrantId }: { GrantId: string }) => GrantId));
        assert.equal(page.Truncated, page.NextMarker !== undefined);
        if (!page.Truncated) return found;
        Marker = page.NextMarker;
      }
    };
    assert.equal(new Set(all('ListGrants', { KeyId: one })).size, 5);
    assert.equal(new Set(all('ListGrants', { KeyId: one, GranteePrincipal: EBS })).size, 3);
    assert.equal(new Set(all('ListRetirableGrants', { RetiringPrincipal: WORKSPACES })).size, 6);
    assert.deepEqual(all('ListRetirableGrants', { RetiringPrincipal: ANNA }), []);
    const [entry] = done(kms, 'ListGrants', { KeyId: two }).Grants;
    const { CreationDate, GrantId, ...rest } = entry;
    assert.ok(Math.abs(CreationDate - Date.now() / 1000) < 60);
    assert.deepEqual(rest, {
      KeyId: `${ARN}${two}`,
      GranteePrincipal: EBS,
      RetiringPrincipal: WORKSPACES,
      IssuingAccount: ROOT,
      Operations: ['Decrypt'],
    });
    assert.deepEqual(done(kms, 'ListGrants', { KeyId: two, GrantId }).Grants, [entry]);
    assert.deepEqual(done(kms, 'ListGrants', { KeyId: two, GrantId, GranteePrincipal: ANNA }).Grants, []);
    done(kms, 'ListRetirableGrants', { RetiringPrincipal: WORKSPACES }, WORKSPACES);
    refused(ask(kms, 'ListRetirableGrants', { RetiringPrincipal: WORKSPACES }, ANNA), 'AccessDeniedException', /ListRetirableGrants/);
  });
});

describe('constraints', () => {
  const grantee = { GranteePrincipal: EBS, Operations: ['GenerateDataKeyWithoutPlaintext', 'CreateGrant', 'DescribeKey'] };
  const use = (kms: EmbeddedKms, KeyId: string, EncryptionContext: object, sourceArn?: string) => {
    const body = Buffer.from(JSON.stringify({ KeyId, NumberOfBytes: 64, EncryptionContext }));
    const caller = { principalArn: EBS, ...(sourceArn === undefined ? {} : { sourceArn }) };
    return kms.handle({ target: 'TrentService.GenerateDataKeyWithoutPlaintext', headers: {}, body }, caller).status;
  };

  // Constraints, a request's context, whether the grant permits it.
  const cases: [object, object, boolean][] = [
    [{ EncryptionContextSubset: { Team: 'a' } }, { tEAM: 'a', more: 'b' }, true],
    [{ EncryptionContextSubset: { team: 'a' } }, { Team: 'A' }, false],
    [{ EncryptionContextEquals: { Team: 'a', x: 'y' } }, { X: 'y', team: 'a' }, true],
    [{ EncryptionContextEquals: { Team: 'a' } }, { team: 'a', TEAM: 'b' }, false],
    [{ EncryptionContextEquals: { Team: 'a', x: 'y' } }, { X: 'Y', team: 'a' }, false],
    [{ EncryptionContextSubset: { Team: 'a' }, EncryptionContextEquals: {} }, { team: 'a', more: 'b' }, true],
    [{ EncryptionContextSubset: {}, EncryptionContextEquals: { Team: 'a' } }, { team: 'a', more: 'b' }, false],
    [{ EncryptionContextSubset: {}, EncryptionContextEquals: {} }, { any: 'thing' }, true],
    [{ EncryptionContextEquals: {} }, { any: 'thing' }, false],
  ];
  test.each(cases)('%j and %j: %s', (Constraints, context, permitted) => {
    const kms = openEmbedded();
    const KeyId = newKey(kms);
    grant(kms, { KeyId, ...grantee, Constraints });
    assert.equal(use(kms, KeyId, context) === 200, permitted);
  });

  test('two full maps contradict each other', () => {
    const kms = openEmbedded();
    const Constraints = { EncryptionContextSubset: { a: 'b' }, EncryptionContextEquals: { a: 'b' } };
    refused(ask(kms, 'CreateGrant', { KeyId: newKey(kms), ...grantee, Constraints }), 'ValidationException', /not both/);
  });

  test('SourceArn binds uses and children of the grant', () => {
    const kms = openEmbedded();
    const KeyId = newKey(kms);
    const volume = 'arn:aws:ec2:us-east-1:000000000000:volume/vol-1';
    grant(kms, { KeyId, ...grantee, Constraints: { SourceArn: volume } });
    assert.deepEqual(
      [undefined, volume, `${volume}0`].map((arn) => use(kms, KeyId, {}, arn)),
      [400, 200, 400],
    );
    const child = (Constraints: object) => {
      const body = JSON.stringify({ KeyId, GranteePrincipal: WORKSPACES, Operations: ['DescribeKey'], Constraints });
      const caller = { principalArn: EBS, sourceArn: volume };
      return kms.handle({ target: 'TrentService.CreateGrant', headers: {}, body: Buffer.from(body) }, caller).status;
    };
    assert.deepEqual([{}, { SourceArn: `${volume}0` }, { SourceArn: volume }].map(child), [400, 400, 200]);
    assert.equal(done(kms, 'ListGrants', { KeyId, GranteePrincipal: EBS }).Grants[0].Constraints.SourceArn, volume);
    const bad = { KeyId, ...grantee, Constraints: { SourceArn: 'this is no Amazon name' } };
    refused(ask(kms, 'CreateGrant', bad), 'InvalidArnException', /Invalid arn/);
  });
});

test('principals of services have members of their own', () => {
  const kms = openEmbedded();
  const KeyId = newKey(kms);
  const Constraints = { SourceArn: 'arn:aws:ec2:us-east-1:000000000000:volume/vol-1' };
  const Operations = ['Decrypt'];
  const service = { KeyId, GranteeServicePrincipal: EBS, RetiringServicePrincipal: WORKSPACES, Operations, Constraints };
  const { GrantId } = grant(kms, service);
  grant(kms, { KeyId, GranteePrincipal: ANNA, Operations });
  const [entry, ...others] = done(kms, 'ListGrants', { KeyId, GranteeServicePrincipal: EBS }).Grants;
  assert.deepEqual(others, []);
  const { GranteeServicePrincipal, RetiringServicePrincipal, GranteePrincipal, RetiringPrincipal } = entry;
  assert.deepEqual(
    [GranteeServicePrincipal, RetiringServicePrincipal, GranteePrincipal, RetiringPrincipal],
    [EBS, WORKSPACES, undefined, undefined],
  );
  assert.equal(done(kms, 'ListRetirableGrants', { RetiringServicePrincipal: WORKSPACES }).Grants[0].GrantId, GrantId);
  const refusals: [object, RegExp][] = [
    [{ ...service, GranteePrincipal: ANNA }, /either GranteePrincipal or GranteeServicePrincipal, not both/],
    [{ ...service, RetiringPrincipal: ANNA }, /either RetiringPrincipal or RetiringServicePrincipal, not both/],
    [{ ...service, GranteeServicePrincipal: undefined }, /either GranteePrincipal or GranteeServicePrincipal/],
    [{ ...service, GranteeServicePrincipal: ANNA }, /not a service principal/],
    [{ ...service, Constraints: {} }, /must have a SourceArn/],
    [{ ...service, RetiringServicePrincipal: undefined }, /retiring principal/],
    [{ KeyId, GranteePrincipal: ANNA, Operations: ['CreateGrant'] }, /CreateGrant alone/],
  ];
  for (const [request, message] of refusals) refused(ask(kms, 'CreateGrant', request), 'ValidationException', message);
  refused(ask(kms, 'ListRetirableGrants'), 'ValidationException', /either RetiringPrincipal or RetiringServicePrincipal/);
});

test('many grants that differ in their constraints alone are told apart', () => {
  const kms = openEmbedded();
  const KeyId = newKey(kms);
  const context = (user: number, volume: number) => ({ user: `u${user}`, volume: `v${volume}` });
  for (let index = 0; index < 60; index++) {
    const EncryptionContextSubset = context(index % 6, index);
    grant(kms, { KeyId, GranteePrincipal: EBS, Operations: ['GenerateDataKeyWithoutPlaintext'], Constraints: { EncryptionContextSubset } });
  }
  for (let user = 0; user < 6; user++) {
    for (let volume = 0; volume < 60; volume++) {
      const request = { KeyId, NumberOfBytes: 32, EncryptionContext: context(user, volume) };
      assert.equal(ask(kms, 'GenerateDataKeyWithoutPlaintext', request, EBS).status === 200, volume % 6 === user);
    }
  }
});

/** What the model knows of a grant. */
interface Known {
  readonly id: string;
  readonly token: string;
  readonly grantee: string;
  readonly operations: string[];
  readonly subset: Record<string, string> | undefined;
  readonly retiring: string | undefined;
}

test('random sequences of grants and states agree with a small model', () => {
  const kms = openEmbedded();
  const principals = [ANNA, EBS, WORKSPACES];
  const contexts: Record<string, string>[] = [{}, { a: '1' }, { a: '1', b: '2' }, { b: '2', a: '1' }, { A: '1' }, { a: '12' }, { a1: '' }];
  const principal = fc.constantFrom(...principals);
  const context = fc.constantFrom(...contexts);
  const operations = fc.subarray(['Encrypt', 'GenerateDataKeyWithoutPlaintext', 'RetireGrant'], { minLength: 1 });
  const step = fc.oneof(
    fc.record({
      kind: fc.constant('grant' as const),
      grantee: principal,
      operations,
      subset: fc.option(context),
      retiring: fc.option(principal),
    }),
    fc.record({ kind: fc.constant('retire' as const), who: principal, index: fc.nat(20) }),
    fc.record({ kind: fc.constant('revoke' as const), index: fc.nat(20) }),
    fc.record({
      kind: fc.constant('use' as const),
      who: principal,
      operation: fc.constantFrom('Encrypt', 'GenerateDataKeyWithoutPlaintext'),
      context,
    }),
    fc.record({
      kind: fc.constant('state' as const),
      to: fc.constantFrom('EnableKey', 'DisableKey', 'ScheduleKeyDeletion', 'CancelKeyDeletion'),
    }),
  );
  fc.assert(
    fc.property(fc.array(step, { minLength: 5, maxLength: 30 }), (steps) => {
      const KeyId = newKey(kms);
      let state = 'Enabled';
      let known: Known[] = [];
      const unfit = { Enabled: undefined, Disabled: 'DisabledException', PendingDeletion: 'KMSInvalidStateException' };
      const outcome = (answer: { status: number; body: { __type?: string } }) => answer.body.__type;
      for (const one of steps) {
        if (one.kind === 'grant') {
          const { grantee, operations, subset, retiring } = one;
          const constraint = subset === null ? {} : { Constraints: { EncryptionContextSubset: subset } };
          const last = retiring === null ? {} : { RetiringPrincipal: retiring };
          const answer = ask(kms, 'CreateGrant', { KeyId, GranteePrincipal: grantee, Operations: operations, ...constraint, ...last });
          assert.equal(outcome(answer), unfit[state as 'Enabled']);
          if (answer.status !== 200) continue;
          const { GrantId: id, GrantToken: token } = answer.body;
          known.push({ id, token, grantee, operations, subset: subset ?? undefined, retiring: retiring ?? undefined });
        } else if (one.kind === 'state') {
          const legal: Record<string, [from: string[], to: string]> = {
            EnableKey: [['Enabled', 'Disabled'], 'Enabled'],
            DisableKey: [['Enabled', 'Disabled'], 'Disabled'],
            ScheduleKeyDeletion: [['Enabled', 'Disabled'], 'PendingDeletion'],
            CancelKeyDeletion: [['PendingDeletion'], 'Disabled'],
          };
          const [from, to] = legal[one.to]!;
          const answer = ask(kms, one.to, { KeyId });
          assert.equal(outcome(answer), from.includes(state) ? undefined : 'KMSInvalidStateException');
          if (answer.status === 200) state = to;
        } else if (one.kind === 'use') {
          const allowed = known.some(
            ({ grantee, operations, subset = {} }) =>
              grantee === one.who &&
              operations.includes(one.operation) &&
              Object.entries(subset).every(([key, value]) =>
                Object.entries(one.context).some(([other, text]) => other.toLowerCase() === key.toLowerCase() && text === value),
              ),
          );
          const request = one.operation === 'Encrypt' ? { Plaintext: 'AAAA' } : { NumberOfBytes: 16 };
          const answer = ask(kms, one.operation, { ...request, KeyId, EncryptionContext: one.context }, one.who);
          assert.equal(outcome(answer), allowed ? unfit[state as 'Enabled'] : 'AccessDeniedException');
        } else if (known.length > 0) {
          const target = known[one.index % known.length]!;
          const { id, token, grantee, operations, retiring } = target;
          const may = one.kind === 'revoke' || retiring === one.who || (grantee === one.who && operations.includes('RetireGrant'));
          const answer =
            one.kind === 'revoke'
              ? ask(kms, 'RevokeGrant', { KeyId, GrantId: id })
              : ask(kms, 'RetireGrant', { GrantToken: token }, one.who);
          assert.equal(outcome(answer), may ? undefined : 'AccessDeniedException');
          if (may) known = known.filter((other) => other !== target);
        }
        assert.deepEqual(granted(kms, KeyId), known.map(({ id }) => id).sort());
      }
    }),
    { numRuns: 60 },
  );
});
