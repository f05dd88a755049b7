/** Spans of a job, recorded by OpenTelemetry's own SDK. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { InMemorySpanExporter, NodeTracerProvider, type ReadableSpan, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node';
import { expect, onTestFinished, test } from 'vitest';
import { runJob, VolsealError } from '../../src/index.js';

const exporter = new InMemorySpanExporter();

function prepared() {
  const directory = mkdtempSync(join(tmpdir(), 'volseal-tracing-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  writeFileSync(join(directory, 'a.raw'), Buffer.alloc(1024 * 1024, 7));
  const spec = { kind: 'encrypt' as const, source: join(directory, 'a.raw'), target: join(directory, 'a.vol') };
  return { spec, options: { home: join(directory, 'home'), kms: 'embedded' } };
}

const named = (name: string): ReadableSpan[] => exporter.getFinishedSpans().filter((span) => span.name === name);

test('without a provider nothing is recorded, and the job is done', async () => {
  const { spec, options } = prepared();
  assert.equal((await runJob(spec, options)).outcome, 'done');
});

test('a job has its calls to KMS and its data below it; a failure says its code', async () => {
  const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  provider.register();
  onTestFinished(() => provider.shutdown());
  const { spec, options } = prepared();
  await runJob(spec, options);
  const [job] = named('volseal.job');
  expect(job!.attributes).toEqual({ kind: 'encrypt', run: 'default' });
  const [kms] = named('volseal.kms');
  expect(kms!.attributes).toEqual({ operation: 'GenerateDataKey' });
  const [transform] = named('volseal.transform');
  expect(transform!.attributes).toEqual({ mode: 'encrypt', bytes: 1024 * 1024 });
  for (const span of [kms, transform]) expect(span!.parentSpanContext?.spanId).toBe(job!.spanContext().spanId);
  exporter.reset();
  await assert.rejects(runJob({ kind: 'verify', source: `${spec.target}.missing` }, options), VolsealError);
  expect(named('volseal.job')[0]!.attributes['error.type']).toBe('ERR_IO');
  // Neither keys nor contexts nor paths are in what is exported.
  expect(JSON.stringify(exporter.getFinishedSpans().map(({ attributes }) => attributes))).not.toMatch(/a\.vol|aws:ebs|arn:/);
});
