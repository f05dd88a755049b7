/** The AWS SDK's client for S3, loaded with the first request; every request goes through it. */
import type { S3Client } from '@aws-sdk/client-s3';
import { STORE_ATTEMPTS, STORE_SOCKETS } from '../../limits.js';
import { clientSettings, repeated } from '../aws-client.js';
import type { S3Location } from '../location.js';
import type { StoreOptions } from '../store.js';
import { sendInSlices } from './body.js';
import { isWorthRetry, type S3Call, storeError } from './errors.js';

/** The SDK, and its client. */
export interface S3 {
  readonly sdk: typeof import('../aws-sdk.js');
  readonly client: S3Client;
}

/** A connection to S3; whoever opened it closes it. */
export class S3Connection {
  readonly #s3: S3;

  private constructor(s3: S3) {
    this.#s3 = s3;
  }

  /** Loads the SDK. Nothing is sent. @throws {VolsealError} `ERR_ARGUMENT` as `clientSettings` */
  static async open({ endpointUrl, pathStyle, region }: StoreOptions = {}): Promise<S3Connection> {
    const settings = await clientSettings(endpointUrl, region, STORE_SOCKETS);
    const sdk = await import('../aws-sdk.js');
    const client = new sdk.S3Client({
      ...settings,
      forcePathStyle: pathStyle ?? endpointUrl !== undefined,
      followRegionRedirects: endpointUrl === undefined,
      // Each part carries the CRC-32 that was computed when it was made (upload.ts).
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
    });
    sendInSlices(client);
    return new S3Connection({ sdk, client });
  }

  /**
   * Makes a request, again where that is worth it, with random waits between.
   * @param call makes it, and reads all of its reply @throws {VolsealError} as `storeError`; `ERR_ABORTED`
   */
  async call<Result>(
    operation: string,
    action: string,
    location: S3Location,
    call: (s3: S3, send: { abortSignal: AbortSignal }) => Promise<Result>,
    signal?: AbortSignal,
  ): Promise<Result> {
    const named: S3Call = { operation, action, location };
    return await repeated(
      {
        ...{ name: location.name, signal },
        isWorthRetry: (error, attempt) => attempt < STORE_ATTEMPTS && isWorthRetry(error),
        asError: (error) => storeError(error, named),
      },
      (send) => call(this.#s3, send),
    );
  }

  /** Ends its connections. */
  close(): void {
    this.#s3.client.destroy();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
