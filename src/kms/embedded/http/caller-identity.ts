/**
 * `GetCallerIdentity` of AWS STS, the one call of another service that SDKs and Terraform make before they use KMS. It
 * needs no permission. (AWS STS API Reference, GetCallerIdentity; the query protocol of AWS.)
 */
import type { KmsFault } from '../faults.js';
import { accountOf, type Caller, userIdOf } from '../policy/caller.js';

/** The content type of requests of the query protocol. */
export const QUERY_CONTENT_TYPE = 'application/x-www-form-urlencoded';
const XML_CONTENT_TYPE = 'text/xml';
const NAMESPACE = 'https://sts.amazonaws.com/doc/2011-06-15/';

const ACTION = 'Action=GetCallerIdentity';

/**
 * Whether a request of the query protocol asks for the caller's identity. No string is made of it: it may be another,
 * with a key.
 */
export function asksForIdentity(body: Buffer): boolean {
  const start = body.indexOf(ACTION);
  const isField = (offset: number): boolean => offset === -1 || offset === body.length || body[offset] === '&'.charCodeAt(0);
  return start !== -1 && isField(start - 1) && isField(start + ACTION.length);
}

/** The reply: who signed the request. */
export function identityReply({ principalArn }: Caller, requestId: string): QueryReply {
  const result =
    element('Arn', principalArn) + element('UserId', userIdOf(principalArn) ?? '') + element('Account', accountOf(principalArn) ?? '');
  const inner = `<GetCallerIdentityResult>${result}</GetCallerIdentityResult>`;
  const text = `<GetCallerIdentityResponse xmlns="${NAMESPACE}">${inner}${metadata(requestId)}</GetCallerIdentityResponse>`;
  return { status: 200, headers: { 'content-type': XML_CONTENT_TYPE }, body: Buffer.from(text) };
}

/** A refusal in the form of the query protocol. */
export function queryErrorReply(fault: KmsFault, requestId: string): QueryReply {
  const error = `<Error>${element('Type', 'Sender')}${element('Code', fault.name)}${element('Message', fault.message)}</Error>`;
  const text = `<ErrorResponse xmlns="${NAMESPACE}">${error}${element('RequestId', requestId)}</ErrorResponse>`;
  return { status: fault.status, headers: { 'content-type': XML_CONTENT_TYPE }, body: Buffer.from(text) };
}

interface QueryReply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

const metadata = (requestId: string): string => `<ResponseMetadata>${element('RequestId', requestId)}</ResponseMetadata>`;

const element = (name: string, text: string): string =>
  `<${name}>${text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')}</${name}>`;
