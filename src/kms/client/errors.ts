/** The map from errors of the SDK and the network to codes of `VolsealError`. */
import { type ErrorCode, VolsealError } from '../../errors.js';
import { KMS_DEADLINE_MS } from '../../limits.js';
import { describeContext, type EncryptionContext } from '../shared/encryption-context.js';
import { describeEndpoint, type KmsEndpoint } from '../shared/endpoint.js';

/** The call that failed: what a message must name. */
export interface KmsCall {
  readonly operation: string;
  readonly endpoint: KmsEndpoint;
  /** The key's ARN, id or alias. */
  readonly keyId?: string;
  readonly context?: EncryptionContext | undefined;
  readonly grantTokens?: readonly string[] | undefined;
  readonly grantId?: string;
  /** No credentials were found for a server at a URL: requests are signed with a placeholder. */
  readonly isUnsigned?: boolean;
}

/** The members of SDK and network errors; each may be missing. */
interface CallError {
  readonly name?: string;
  readonly message?: string;
  readonly code?: string;
  readonly $metadata?: { readonly httpStatusCode?: number };
  readonly $response?: { readonly headers?: Readonly<Record<string, string>> };
}

interface Cause {
  readonly code: ErrorCode;
  /** The meaning, and what to do next. */
  readonly advice: string;
}

const MISMATCH: Cause = {
  code: 'ERR_CONTEXT_MISMATCH',
  advice:
    'the encrypted data key was not made under this key with exactly this encryption context, or it is damaged; give the context that the volume was created with',
};
const STATE: Cause = {
  code: 'ERR_KMS_KEY_STATE',
  advice: 'the KMS key is not in a state that allows this; enable the key (or cancel its deletion), then try again',
};
const DENIED: Cause = { code: 'ERR_KMS_DENIED', advice: 'check the credentials in use and that they may use the key' };
const UNSIGNED: Cause = {
  code: 'ERR_KMS_DENIED',
  advice:
    'no AWS credentials were found, so the request was signed with a placeholder; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE',
};
const NOT_FOUND: Cause = {
  code: 'ERR_KMS_NOT_FOUND',
  advice: 'check the key id, ARN or alias, and that this KMS (and region) has the key',
};
const UNREACHABLE: Cause = {
  code: 'ERR_KMS_UNREACHABLE',
  advice: 'no usable answer came; check the address and that the server runs, then try again',
};
const UNTRUSTED: Cause = {
  code: 'ERR_KMS_REQUEST',
  advice: "the server's certificate was not accepted; add its authority with NODE_EXTRA_CA_CERTS if it is yours",
};
const REDIRECTED: Cause = {
  code: 'ERR_KMS_REQUEST',
  advice: 'the server redirects, and a KMS is asked only at the address that was given; if you trust the other address, give that one',
};
const NO_REGION: Cause = { code: 'ERR_ARGUMENT', advice: 'name the region as aws:REGION, or set AWS_REGION' };
const OTHER: Cause = { code: 'ERR_KMS_REQUEST', advice: 'KMS refused the request' };
const GARBLED: Cause = { code: 'ERR_KMS_REPLY', advice: 'the reply is not one of KMS; check that the address is that of a KMS' };

const BY_NAME: Readonly<Record<string, Cause>> = {
  InvalidGrantIdException: NOT_FOUND,
  InvalidCiphertextException: MISMATCH,
  IncorrectKeyException: MISMATCH,
  DisabledException: STATE,
  KMSInvalidStateException: STATE,
  NotFoundException: NOT_FOUND,
  AccessDenied: DENIED,
  AccessDeniedException: DENIED,
  CredentialsProviderError: DENIED,
  ExpiredToken: DENIED,
  ExpiredTokenException: DENIED,
  IncompleteSignature: DENIED,
  IncompleteSignatureException: DENIED,
  InvalidClientTokenId: DENIED,
  InvalidGrantTokenException: DENIED,
  InvalidSignatureException: DENIED,
  MissingAuthenticationToken: DENIED,
  MissingAuthenticationTokenException: DENIED,
  OptInRequired: DENIED,
  SignatureDoesNotMatch: DENIED,
  TokenProviderError: DENIED,
  UnrecognizedClientException: DENIED,
  DependencyTimeoutException: UNREACHABLE,
  KeyUnavailableException: UNREACHABLE,
  KMSInternalException: UNREACHABLE,
  RequestLimitExceeded: UNREACHABLE,
  RequestTimeout: UNREACHABLE,
  Throttling: UNREACHABLE,
  ThrottlingException: UNREACHABLE,
  TimeoutError: UNREACHABLE,
  TooManyRequestsException: UNREACHABLE,
  SyntaxError: GARBLED,
  Unknown: GARBLED,
};

/** Of a redirect's address, in a message. */
const LOCATION_CHARS_MAX = 200;

const NETWORK_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EPIPE',
  'ETIMEDOUT',
]);
const CERTIFICATE_CODE = /CERT|ERR_TLS|SELF_SIGNED|UNABLE_TO_VERIFY/;

/** How KMS says that it does not have the key of an encrypted data key (AWS KMS, Decrypt: AccessDeniedException). */
const UNKNOWN_KEY = 'The ciphertext refers to a customer master key that does not exist';

const isUnknownKey = ({ name, message }: CallError): boolean =>
  name === 'AccessDeniedException' && message?.startsWith(UNKNOWN_KEY) === true;

function causeOf(error: CallError, { endpoint, keyId = 'it', isUnsigned }: KmsCall): Cause {
  const { name = '', code = '', message = '' } = error;
  if (endpoint.kind === 'embedded' && isUnknownKey(error)) {
    const advice = `the embedded KMS in ${endpoint.home} does not have the key ${keyId}, which the volume's header names`;
    return { code: 'ERR_KMS_DENIED', advice };
  }
  const status = error.$metadata?.httpStatusCode ?? 0;
  // A load balancer or a proxy answers so as well, with a page instead of JSON.
  if (status >= 500 || status === 429) return UNREACHABLE;
  if (status >= 300 && status < 400) return REDIRECTED;
  const known = Object.hasOwn(BY_NAME, name) ? BY_NAME[name]! : undefined;
  if (known === DENIED && isUnsigned === true) return UNSIGNED;
  if (known !== undefined) return known;
  if (NETWORK_CODES.has(code)) return UNREACHABLE;
  if (CERTIFICATE_CODE.test(code)) return UNTRUSTED;
  if (code.startsWith('HPE_')) return GARBLED;
  if (message === 'Region is missing') return NO_REGION;
  return OTHER;
}

/**
 * `error`, thrown by the SDK in `call`, as a `VolsealError` whose message names the operation, the endpoint, the key
 * and the encryption context. `details.name` is the SDK's own name for it.
 */
export function kmsError(error: unknown, call: KmsCall): VolsealError {
  if (error instanceof VolsealError) {
    if (error.details.name !== 'NoStore') return error;
    return new VolsealError(error.code, `${describeCall(call)} failed: ${error.message}`, {
      cause: error,
      details: callDetails(call, 'NoStore'),
    });
  }
  const thrown = (typeof error === 'object' && error !== null ? error : { message: String(error) }) as CallError;
  const { code, advice } = causeOf(thrown, call);
  const name = call.endpoint.kind === 'embedded' && isUnknownKey(thrown) ? 'UnknownKey' : (thrown.name ?? 'Error');
  return new VolsealError(code, `${describeCall(call)} failed: ${whatWasSaid(thrown)}; ${advice}`, {
    cause: error,
    details: callDetails(call, name),
  });
}

/** The reason in the words of KMS, of the SDK or of the network. */
function whatWasSaid(thrown: CallError): string {
  const status = thrown.$metadata?.httpStatusCode ?? 0;
  // What the SDK says of a body that is not JSON of KMS is advice to programmers.
  if (thrown.name === 'SyntaxError' || thrown.name === 'Unknown' || (status >= 300 && status < 400)) {
    const location = thrown.$response?.headers?.location;
    return `HTTP status ${status}${location === undefined ? '' : `, to ${JSON.stringify(location.slice(0, LOCATION_CHARS_MAX))}`}`;
  }
  // The SDK turns an empty message into "UnknownError"; that would only repeat that nothing is known.
  return [
    thrown.name === 'Error' ? '' : (thrown.name ?? ''),
    thrown.message === 'UnknownError' ? '' : (thrown.message ?? ''),
    thrown.code ?? '',
  ]
    .filter((part, index, parts) => part !== '' && !parts.slice(0, index).some((earlier) => earlier.includes(part)))
    .join(': ');
}

/** The error of a call that the caller's signal ended. */
export function abortedError(error: unknown, call: KmsCall): VolsealError {
  return new VolsealError('ERR_ABORTED', `${describeCall(call)}: stopped on request`, {
    cause: error,
    details: callDetails(call, 'Aborted'),
  });
}

/** The error of a call that took longer than `KMS_DEADLINE_MS`. */
export function deadlineError(error: unknown, call: KmsCall): VolsealError {
  const message = `${describeCall(call)} failed: no answer within ${KMS_DEADLINE_MS / 1000} s, all tries and the fetching of credentials together; ${UNREACHABLE.advice}`;
  return new VolsealError(UNREACHABLE.code, message, { cause: error, details: callDetails(call, 'TimeoutError') });
}

/** The error for a reply that KMS must not give. `problem` says what is wrong with it. */
export function replyError(problem: string, call: KmsCall): VolsealError {
  return new VolsealError('ERR_KMS_REPLY', `${describeCall(call)}: ${problem}`, { details: callDetails(call, 'Reply') });
}

/**
 * Whether a dry run would succeed: KMS says so by an error, DryRunOperationException. Throws any other error.
 *
 * @param changing the call, where it changes something in KMS: a KMS that does not know DryRun has then done it, which
 * is an error
 * @throws {VolsealError} `ERR_KMS_REPLY`; what `sent` throws
 */
export async function succeedsDry(sent: Promise<unknown>, changing?: KmsCall): Promise<void> {
  try {
    await sent;
  } catch (error) {
    if ((error as CallError).name === 'DryRunOperationException') return;
    throw error;
  }
  if (changing !== undefined)
    throw replyError('only a dry run was asked for, but KMS has carried it out: it does not know DryRun', changing);
}

function describeCall(call: KmsCall): string {
  const key = call.keyId === undefined ? '' : ` under key ${call.keyId}`;
  const context = call.context === undefined ? '' : ` with encryption context ${describeContext(call.context)}`;
  const tokens = call.grantTokens?.length ?? 0;
  const grant =
    call.grantId === undefined
      ? tokens === 0
        ? ''
        : ` with ${tokens} grant token${tokens === 1 ? '' : 's'}`
      : ` of grant ${call.grantId}`;
  return `${call.operation}${grant}${key}${context} at ${describeEndpoint(call.endpoint)}`;
}

function callDetails(call: KmsCall, name: string): VolsealError['details'] {
  return {
    name,
    operation: call.operation,
    ...(call.keyId === undefined ? {} : { keyId: call.keyId }),
    ...(call.context === undefined ? {} : { encryptionContext: call.context }),
    ...(call.grantId === undefined ? {} : { grantId: call.grantId }),
    ...(call.endpoint.kind === 'embedded' ? { home: call.endpoint.home } : {}),
    ...(call.endpoint.principal === undefined ? {} : { principal: call.endpoint.principal }),
  };
}
