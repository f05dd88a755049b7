/**
 * The AWS SDK's client for the EBS direct APIs, loaded with the first request; every request goes through it. One
 * connection is for one snapshot, whose rate it keeps.
 */
import type { EBSClient } from '@aws-sdk/client-ebs';
import pLimit, { type LimitFunction } from 'p-limit';
import { EBS_NEW_SNAPSHOT_MS, EBS_REQUESTS_AT_ONCE, EBS_REQUESTS_PER_SECOND, STORE_ATTEMPTS } from '../../limits.js';
import { clientSettings, repeated } from '../aws-client.js';
import type { StoreOptions } from '../store.js';
import { isUnknown, isWorthRetry, snapshotError } from './errors.js';
import { Pace } from './pace.js';

/** The SDK, and its client. */
export interface Ebs {
  readonly sdk: typeof import('../aws-sdk.js');
  readonly client: EBSClient;
}

/** What a request is about. */
export interface EbsRequest {
  /** Of the snapshot, for messages. */
  readonly name: string;
  readonly signal: AbortSignal | undefined;
  /** We have begun the snapshot ourselves: that EBS does not know it yet passes. */
  readonly isNew?: boolean;
  /** It moves a block: these have their rate, and so many are under way at once. */
  readonly ofBlock?: boolean;
}

/** A connection to the EBS direct APIs; whoever opened it closes it. */
export class EbsConnection {
  readonly #ebs: Ebs;
  readonly #pace = new Pace(EBS_REQUESTS_PER_SECOND);
  readonly #atOnce: LimitFunction = pLimit(EBS_REQUESTS_AT_ONCE);

  private constructor(ebs: Ebs) {
    this.#ebs = ebs;
  }

  /** Loads the SDK. Nothing is sent. @throws {VolsealError} `ERR_ARGUMENT` as `clientSettings` */
  static async open({ ebsEndpointUrl, region }: StoreOptions = {}): Promise<EbsConnection> {
    const settings = await clientSettings(ebsEndpointUrl, region, EBS_REQUESTS_AT_ONCE);
    const sdk = await import('../aws-sdk.js');
    return new EbsConnection({ sdk, client: new sdk.EBSClient(settings) });
  }

  /**
   * Makes a request, again where that is worth it.
   * @param call makes it, and reads all of its reply @throws {VolsealError} as `snapshotError`; `ERR_ABORTED`
   */
  async call<Result>(
    operation: string,
    { name, signal, isNew = false, ofBlock = false }: EbsRequest,
    call: (ebs: Ebs, send: { abortSignal: AbortSignal }) => Promise<Result>,
  ): Promise<Result> {
    const repeat = () =>
      repeated(
        {
          ...{ name, signal },
          isWorthRetry: (error, attempt, sinceMs) =>
            isUnknown(error) ? isNew && sinceMs < EBS_NEW_SNAPSHOT_MS : attempt < STORE_ATTEMPTS && isWorthRetry(error),
          asError: (error) => snapshotError(error, { operation, name }),
        },
        async (send) => {
          if (ofBlock) await this.#pace.turn(send.abortSignal);
          return await call(this.#ebs, send);
        },
      );
    return await (ofBlock ? this.#atOnce(repeat) : repeat());
  }

  /** Ends its connections. */
  close(): void {
    this.#ebs.client.destroy();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
