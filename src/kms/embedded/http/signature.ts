/**
 * Checks the signature of a request: AWS Signature Version 4. (IAM User Guide, "AWS Signature Version 4 for API
 * requests".)
 *
 * The library that AWS's own clients sign with signs the request again with the secret that this KMS has; then the
 * signatures are compared.
 */
import { timingSafeEqual } from 'node:crypto';
import { HttpRequest } from '@smithy/core/protocols';
import { Hash } from '@smithy/core/serde';
import { SignatureV4 } from '@smithy/signature-v4';
import { KMS_CLOCK_SKEW_MS } from '../../../limits.js';
import { KmsFault } from '../faults.js';

/** A request as it arrived: to `/`, with POST. */
export interface SignedRequest {
  /** The service that it must be signed for. */
  readonly service: 'kms' | 'sts';
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

/** Headers that must be signed: otherwise a signature would fit another request too. Requests of STS have no target. */
const ALWAYS_SIGNED = { kms: ['host', 'x-amz-date', 'x-amz-target'], sts: ['host', 'x-amz-date'] };
const AUTHORIZATION =
  /^AWS4-HMAC-SHA256 +Credential=([^\s,/]+)\/(\d{8})\/([^\s,/]+)\/(kms|sts)\/aws4_request, *SignedHeaders=([^\s,]+), *Signature=([0-9a-f]{64})$/;

/**
 * The id of the access key that a request names. @throws {KmsFault} MissingAuthenticationTokenException,
 * IncompleteSignatureException
 */
export const accessKeyIdOf = (request: SignedRequest): string => partsOf(request).accessKeyId;

/**
 * Checks the signature of a request.
 * @param secretAccessKey Of the access key that `accessKeyIdOf` names. @param now Milliseconds since 1970.
 * @throws {KmsFault} InvalidSignatureException: another signature, or one of another time; IncompleteSignatureException
 */
export async function checkSignature(request: SignedRequest, secretAccessKey: string, now: number = Date.now()): Promise<void> {
  const { accessKeyId, day, region, signedHeaders, signature } = partsOf(request);
  const date = request.headers['x-amz-date'] ?? '';
  const [, year, month, dayOfMonth, hour, minute, second] = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(date) ?? [];
  if (second === undefined) throw incomplete('The header X-Amz-Date is missing or no date.');
  const signedAt = new Date(`${year}-${month}-${dayOfMonth}T${hour}:${minute}:${second}Z`);
  if (Number.isNaN(signedAt.getTime())) throw incomplete('The header X-Amz-Date is no date.');
  if (Math.abs(signedAt.getTime() - now) > KMS_CLOCK_SKEW_MS || !date.startsWith(day)) {
    throw invalid(`Signature expired or not yet current: ${date} is not within 5 minutes of ${new Date(now).toISOString()}.`);
  }
  const { 'x-amz-content-sha256': _, ...others } = request.headers;
  const headers = Object.fromEntries(Object.entries(others).filter(([name]) => signedHeaders.includes(name)));
  // The client's own hash of the body proves nothing: the hash of the body that arrived must have been signed.
  if (signedHeaders.includes('x-amz-content-sha256')) {
    const hash = new Hash('sha256');
    hash.update(request.body);
    headers['x-amz-content-sha256'] = Buffer.from(await hash.digest()).toString('hex');
  }
  const signer = new SignatureV4({
    credentials: { accessKeyId, secretAccessKey },
    region,
    service: request.service,
    sha256: Hash.bind(null, 'sha256'),
    applyChecksum: false,
  });
  const again = await signer.sign(new HttpRequest({ method: 'POST', path: '/', headers, body: request.body }), {
    signingDate: signedAt,
    signableHeaders: new Set(signedHeaders),
  });
  const { signature: expected } = partsOf({ ...request, headers: { authorization: again.headers.authorization ?? '' } }, signedHeaders);
  if (!timingSafeEqual(Buffer.from(signature), Buffer.from(expected))) {
    throw invalid(
      'The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.',
    );
  }
}

interface SignatureParts {
  readonly accessKeyId: string;
  readonly day: string;
  readonly region: string;
  /** Names in lower case. */
  readonly signedHeaders: readonly string[];
  readonly signature: string;
}

function partsOf({ headers, service }: SignedRequest, mustBeSigned: readonly string[] = ALWAYS_SIGNED[service]): SignatureParts {
  const { authorization } = headers;
  if (authorization === undefined) throw new KmsFault('MissingAuthenticationTokenException', 'Missing Authentication Token');
  const [, accessKeyId, day, region, signedService, list, signature] = AUTHORIZATION.exec(authorization) ?? [];
  const isWhole = day !== undefined && region !== undefined && list !== undefined && signature !== undefined;
  if (accessKeyId === undefined || !isWhole || signedService !== service) {
    throw incomplete(`The Authorization header is not one of AWS Signature Version 4 for ${service}.`);
  }
  const signedHeaders = list.split(';');
  const unsigned = mustBeSigned.filter((name) => !signedHeaders.includes(name));
  if (unsigned.length > 0) throw incomplete(`These headers must be signed: ${unsigned.join(', ')}.`);
  return { accessKeyId, day, region, signedHeaders, signature };
}

const incomplete = (message: string): KmsFault => new KmsFault('IncompleteSignatureException', message);
const invalid = (message: string): KmsFault => new KmsFault('InvalidSignatureException', message);
