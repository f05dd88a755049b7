// Prints what vitest's JSON reports say, as the last line of a CI run: "N passed, N failed, N skipped".
//
//   node .ci/totals.mjs REPORT...
//
// Fails unless every report is there, each has a test that passed, and nothing failed or was skipped: CI has all that
// tests need.
import { existsSync, readFileSync } from 'node:fs';
import { relative } from 'node:path';

const reports = process.argv.slice(2);
const total = { passed: 0, failed: 0, skipped: 0 };
const problems = [];

for (const path of reports) {
  if (!existsSync(path)) {
    problems.push(`${path}: there is no report, so the run was not finished`);
    continue;
  }
  const report = JSON.parse(readFileSync(path, 'utf8'));
  const tests = report.testResults.flatMap(({ name, assertionResults }) =>
    assertionResults.map(({ fullName, status }) => ({ what: `${relative('', name)} > ${fullName}`, status })),
  );
  const of = (wanted) => tests.filter(({ status }) => status === wanted);
  // A file that fails before its first test has no failed test.
  const files = report.testResults.filter(
    ({ status, assertionResults }) => status === 'failed' && !assertionResults.some((test) => test.status === 'failed'),
  );
  total.passed += of('passed').length;
  total.failed += of('failed').length + files.length;
  const skipped = tests.filter(({ status }) => status !== 'passed' && status !== 'failed');
  total.skipped += skipped.length;
  if (of('passed').length === 0) problems.push(`${path}: no test passed`);
  problems.push(...of('failed').map(({ what }) => `failed: ${what}`), ...files.map(({ name }) => `failed: ${relative('', name)}`));
  problems.push(...skipped.map(({ what }) => `skipped: ${what}`));
  if (!report.success && total.failed === 0) problems.push(`${path}: vitest reports an error outside the tests`);
}

// Not a problem of its own: vitest reports an error then.
const lost = 'build/reports/lost-processes.txt';
if (problems.length > 0 && existsSync(lost)) console.log(readFileSync(lost, 'utf8').trimEnd());

for (const problem of problems) console.log(problem);
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = problems.length === 0 && reports.length > 0 ? 0 : 1;
