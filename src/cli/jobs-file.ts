/** A file of jobs, as `jobs run` and `jobs submit` take it. */
import { readFile } from 'node:fs/promises';
import { namingPath } from '../errors.js';
import { type BadLine, type JobLine, parseJobLines } from '../fleet/spec.js';

/** The jobs in a file or a pipe, and what is none. @throws {VolsealError} `ERR_IO` */
export async function readJobs(path: string): Promise<{ jobs: JobLine[]; bad: BadLine[] }> {
  return parseJobLines(await namingPath(path, () => readFile(path, 'utf8')));
}
