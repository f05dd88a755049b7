/** A client of the AWS SDK that the caller has, as the options by which volseal asks the same KMS. */
import { VolsealError } from '../../errors.js';
import type { KmsCredentials } from '../shared/credentials.js';

/** What volseal needs of a `KMSClient`, of whatever version of the AWS SDK. */
export interface KmsClientLike {
  /** The client's settings, as the SDK has completed them. */
  readonly config: {
    readonly region: () => Promise<string>;
    readonly credentials: () => Promise<KmsCredentials>;
    /** Where the client is not to ask AWS's own servers. */
    readonly endpoint?: (() => Promise<ClientEndpoint>) | undefined;
    readonly useFipsEndpoint?: (() => Promise<boolean>) | undefined;
    readonly useDualstackEndpoint?: (() => Promise<boolean>) | undefined;
  };
}

/** A server, as the SDK keeps it. */
export interface ClientEndpoint {
  /** `http:` or `https:`. */
  readonly protocol: string;
  /** Its name or address. */
  readonly hostname: string;
  /** Default: that of the protocol. */
  readonly port?: number | undefined;
  /** What paths of requests begin with, `/` where nothing. */
  readonly path: string;
}

/** Options of volseal's functions, to be spread into them. */
export interface KmsClientOptions {
  /** `aws:REGION`, or the URL of the client's own endpoint. */
  readonly kms: string;
  /** The client's credentials, fetched anew before each call. */
  readonly kmsAccess: { readonly credentials: () => Promise<KmsCredentials>; readonly signingRegion?: string };
}

/**
 * The KMS that a client of the AWS SDK asks, with its region, its endpoint and its credentials.
 *
 *     const client = new KMSClient({ region: 'eu-central-1', credentials: fromSSO() });
 *     await encryptImage('disk.raw', 'disk.vol', await fromKmsClient(client));
 *
 * Its middleware, its proxy and its request handler are not used: volseal takes data keys out of replies before
 * JavaScript sees them, which another handler cannot do. (AWS SDK for JavaScript v3)
 *
 * @throws {VolsealError} `ERR_ARGUMENT` for a client of FIPS or dual-stack endpoints, which the AWS environment chooses
 */
export async function fromKmsClient(client: KmsClientLike): Promise<KmsClientOptions> {
  const { config } = client;
  for (const [option, variable] of [
    ['useFipsEndpoint', 'AWS_USE_FIPS_ENDPOINT'],
    ['useDualstackEndpoint', 'AWS_USE_DUALSTACK_ENDPOINT'],
  ] as const) {
    if ((await config[option]?.()) === true) {
      throw new VolsealError(
        'ERR_ARGUMENT',
        `the client has ${option}: set ${variable}=true, which volseal obeys, and name the region as kms`,
      );
    }
  }
  const region = await config.region();
  const credentials = async (): Promise<KmsCredentials> => config.credentials();
  if (config.endpoint === undefined) return { kms: `aws:${region}`, kmsAccess: { credentials } };
  return { kms: urlOf(await config.endpoint()), kmsAccess: { credentials, signingRegion: region } };
}

function urlOf({ protocol, hostname, port, path }: ClientEndpoint): string {
  return `${protocol}//${hostname}${port === undefined ? '' : `:${port}`}${path === '/' ? '' : path}`;
}
