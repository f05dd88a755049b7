/** Everything that can end a command early, in one shape: message, hint, details and exit status. */
import { CommanderError } from 'commander';
import { asVolsealError, type ErrorCode, type ErrorDetails, VolsealError } from '../errors.js';
import { exitStatusOfJob } from './exit-status.js';
import { hintFor } from './hints/hints.js';

export interface Failure {
  code: ErrorCode;
  message: string;
  /** What to do next. */
  hint: string | undefined;
  details: ErrorDetails;
  status: number;
}

/**
 * @param command the command that failed, as it is called: `encrypt`, `kms serve`
 * @returns undefined for an error that no input, disk or KMS can cause: a bug
 */
export function describeFailure(thrown: unknown, command: string): Failure | undefined {
  const error = thrown instanceof CommanderError ? usageError(thrown) : asVolsealError(thrown);
  if (!(error instanceof VolsealError)) return undefined;
  const { code, message, details } = error;
  return { code, message, hint: hintFor({ code, details, command }), details, status: exitStatusOfJob(code, details.verdict) };
}

/** Commander's refusal of a command line, without its own label. */
function usageError(error: CommanderError): VolsealError {
  return new VolsealError('ERR_ARGUMENT', error.message.replace(/^error: /, '').replaceAll('\n', ' '), { details: { usage: error.code } });
}
