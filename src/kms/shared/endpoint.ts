/**
 * Which KMS: as a user writes it (`--kms`), as it is passed between threads, and as a volume's header records it.
 */
import { resolve } from 'node:path';
import { VolsealError } from '../../errors.js';
import { checkCredentials, type KmsCredentials, type KmsCredentialsProvider } from './credentials.js';
import { defaultHome, defaultKms } from './environment.js';

/**
 * A KMS to ask for keys; a plain value that survives a structured clone, but for a provider of credentials, which is
 * asked before (`withGivenCredentials`). Calls to it are recorded in its home, or in `auditHome`.
 */
export type KmsEndpoint = KmsCaller &
  /**
   * The KMS inside this process, with its store in `home`. `create`: makes the store where there is none; a reader
   * never does.
   */
  (
    | { readonly kind: 'embedded'; readonly home: string; readonly create?: boolean }
    /** AWS KMS; without a region the one that the AWS environment and configuration name. */
    | { readonly kind: 'aws'; readonly region?: string; readonly auditHome: string }
    /** Any server that speaks the KMS protocol; `url` has a scheme, a host and perhaps a port, nothing else. */
    | { readonly kind: 'url'; readonly url: string; readonly auditHome: string }
  );

/** The caller, where it is not the one whose credentials are in use. */
export interface KmsCaller {
  /**
   * Embedded: an ARN or the name of a service, which is believed; without it the account's root. AWS: the ARN of a
   * role, which is assumed.
   */
  readonly principal?: string;
  /** AWS, or a server at a URL: with what requests are signed, where not with what the AWS environment names. */
  readonly credentials?: KmsCredentials | KmsCredentialsProvider;
  /** A server at a URL: the region that requests are signed for. */
  readonly signingRegion?: string;
  /** Embedded: the service that asks on the principal's behalf, as `kms:ViaService` names it. */
  readonly viaService?: string;
}

/**
 * `endpoint`, asked as `caller`. @throws {VolsealError} `ERR_ARGUMENT` where a server at a URL should believe it: it
 * goes by signatures; where the embedded KMS, which signs nothing, gets credentials; for credentials that are none
 */
export function asCaller(endpoint: KmsEndpoint, caller: KmsCaller): KmsEndpoint {
  if (endpoint.kind === 'url' && caller.principal !== undefined) {
    throw new VolsealError(
      'ERR_ARGUMENT',
      `${endpoint.url}: a server knows its caller by the signature; use the credentials of ${caller.principal} instead of its name`,
    );
  }
  if (endpoint.kind === 'embedded' && caller.credentials !== undefined) {
    throw new VolsealError('ERR_ARGUMENT', 'the embedded KMS takes no credentials: name the principal that asks instead, or another KMS');
  }
  if (endpoint.kind !== 'url' && caller.signingRegion !== undefined) {
    throw new VolsealError('ERR_ARGUMENT', 'a region to sign for belongs to a KMS at a URL; for AWS itself name it as aws:REGION');
  }
  if (typeof caller.credentials === 'object') checkCredentials(caller.credentials);
  return { ...endpoint, ...caller };
}

/** Which KMS a caller chooses, and where volseal keeps its files. */
export interface KmsChoice {
  readonly kms?: string | undefined;
  readonly home?: string | undefined;
}

/**
 * The KMS that `kms` names, else `$VOLSEAL_KMS`, else `otherwise`. @throws {VolsealError} `ERR_ARGUMENT`, as
 * `parseKmsUri`
 */
export function chooseKms({ kms, home }: KmsChoice, otherwise = 'embedded'): KmsEndpoint {
  return parseKmsUri(kms ?? defaultKms() ?? otherwise, home);
}

/** `endpoint`, for a call that makes a key: the embedded KMS makes its store where there is none. */
export const forNewKeys = (endpoint: KmsEndpoint): KmsEndpoint => (endpoint.kind === 'embedded' ? { ...endpoint, create: true } : endpoint);

const FORMS = 'expected embedded, embedded:/PATH, aws, aws:REGION, http://HOST:PORT or https://HOST';

/**
 * Reads `embedded`, `embedded:/path/to/home`, `aws`, `aws:REGION`, `http://HOST:PORT` or `https://HOST[:PORT]`.
 *
 * @param home where the embedded KMS lies if `text` does not say, and where calls to other KMSs are recorded
 * @throws {VolsealError} `ERR_ARGUMENT`, also for a URL with a user, a password, a path or a query.
 */
export function parseKmsUri(text: string, home: string = defaultHome()): KmsEndpoint {
  if (text === 'embedded') return { kind: 'embedded', home: resolve(home) };
  if (text.startsWith('embedded:') && text.length > 'embedded:'.length)
    return { kind: 'embedded', home: resolve(text.slice('embedded:'.length)) };
  const auditHome = resolve(home);
  if (text === 'aws') return { kind: 'aws', auditHome };
  const region = /^aws:([a-z]{2,}(?:-[a-z]+)+-\d+)$/.exec(text)?.[1];
  if (region !== undefined) return { kind: 'aws', region, auditHome };
  if (/^https?:\/\//i.test(text)) return { kind: 'url', url: serverUrl(text), auditHome };
  throw new VolsealError('ERR_ARGUMENT', `${JSON.stringify(text)} names no KMS; ${FORMS}`);
}

function serverUrl(text: string): string {
  if (!URL.canParse(text)) throw new VolsealError('ERR_ARGUMENT', `${JSON.stringify(text)} is not a URL; ${FORMS}`);
  const url = new URL(text);
  // The text is not repeated here: it may hold a password.
  if (url.username !== '' || url.password !== '') {
    throw new VolsealError(
      'ERR_ARGUMENT',
      `the KMS URL for ${url.host} carries a user or a password; give credentials in the AWS environment variables or configuration`,
    );
  }
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '') {
    throw new VolsealError(
      'ERR_ARGUMENT',
      `the KMS URL ${JSON.stringify(text)} has a path, a query or a fragment; give the root of the server`,
    );
  }
  return url.origin;
}

/** The endpoint as a volume's header records it: no path of this machine, no credentials. `parseKmsUri` reads it. */
export function kmsUri(endpoint: KmsEndpoint): string {
  switch (endpoint.kind) {
    case 'embedded':
      return 'embedded';
    case 'aws':
      return endpoint.region === undefined ? 'aws' : `aws:${endpoint.region}`;
    case 'url':
      return endpoint.url;
  }
}

/** The endpoint as messages name it: the embedded KMS with its home, because that is where its user looks. */
export function describeEndpoint(endpoint: KmsEndpoint): string {
  const kms = endpoint.kind === 'embedded' ? `the embedded KMS in ${endpoint.home}` : `KMS ${kmsUri(endpoint)}`;
  return endpoint.principal === undefined ? kms : `${kms} as ${endpoint.principal}`;
}

/** Whether a host, as a name or address without brackets, is this machine's own, for itself alone. */
export const isLoopback = (host: string): boolean => /^(localhost|127(\.\d+){3}|::1)$/.test(host);
