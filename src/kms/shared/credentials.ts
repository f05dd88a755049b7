/** AWS credentials that a caller of the library gives, instead of those that the AWS environment names. */
import { VolsealError } from '../../errors.js';

/** With what requests are signed (Signature Version 4). Not kept longer than a call takes, and never shown. */
export interface KmsCredentials {
  /** The id of the access key. */
  readonly accessKeyId: string;
  /** Its secret. */
  readonly secretAccessKey: string;
  /** Of temporary credentials (AWS STS). */
  readonly sessionToken?: string;
}

/**
 * Gives credentials that are valid now; asked before each call to KMS, in the thread of the caller. Those of the AWS
 * SDK fit (`fromSSO()`, `fromTemporaryCredentials()`, `client.config.credentials`); most of them keep what they have
 * until it expires.
 */
export type KmsCredentialsProvider = () => Promise<KmsCredentials>;

/** The three texts alone, of what claims to be credentials. @throws {VolsealError} `ERR_ARGUMENT` where it is not */
export function checkCredentials(given: KmsCredentials): KmsCredentials {
  const { accessKeyId, secretAccessKey, sessionToken } = given ?? {};
  // Printable, without spaces: they become parts of a header.
  const isToken = (text: unknown): text is string => typeof text === 'string' && /^[\x21-\x7e]+$/.test(text);
  if (!isToken(accessKeyId) || !isToken(secretAccessKey) || (sessionToken !== undefined && !isToken(sessionToken))) {
    throw new VolsealError(
      'ERR_ARGUMENT',
      'credentials for KMS must have accessKeyId and secretAccessKey, and for temporary ones sessionToken, as texts without spaces',
    );
  }
  return { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) };
}
