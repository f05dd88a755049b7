/**
 * The errors of the KMS API as the embedded KMS answers them: AWS's names and AWS's texts. (AWS KMS API Reference,
 * "Errors" of each operation and "Common Errors"; the texts are those that AWS really sends.)
 */

/** An error reply. Any part of an operation throws it; the service turns it into a reply. */
export class KmsFault extends Error {
  override readonly name: string;
  readonly status: number;

  /** @param name The error name in `__type`. @param status HTTP status: 400 for all but a few. */
  constructor(name: string, message: string, status = 400) {
    super(message);
    this.name = name;
    this.status = status;
  }

  /**
   * The body of the reply. AWS spells the member `Message` in one error, and leaves it out where there is nothing to
   * say.
   */
  toJson(): Record<string, string> {
    if (this.message === '') return { __type: this.name };
    return this.name === 'AccessDeniedException' && this.message === UNKNOWN_KEY_TEXT
      ? { __type: this.name, Message: this.message }
      : { __type: this.name, message: this.message };
  }
}

const UNKNOWN_KEY_TEXT =
  'The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.';

/** A blob that names a key this KMS does not have. */
export const unknownCiphertextKey = (): KmsFault => new KmsFault('AccessDeniedException', UNKNOWN_KEY_TEXT);

/** A wrong encryption context or a damaged blob. KMS does not tell which, and its message is empty. */
export const invalidCiphertext = (): KmsFault => new KmsFault('InvalidCiphertextException', '');

/** The blob was made under another key than the request names. */
export const incorrectKey = (): KmsFault =>
  new KmsFault('IncorrectKeyException', 'The key ID in the request does not identify a CMK that can perform this operation.');

/** No key has this ARN. */
export const keyNotFound = (keyArn: string): KmsFault => new KmsFault('NotFoundException', `Key '${keyArn}' does not exist`);

/** No alias has this ARN. */
export const aliasNotFound = (aliasArn: string): KmsFault => new KmsFault('NotFoundException', `Alias ${aliasArn} is not found.`);

/** The text names no key in any form. */
export const invalidKeyId = (keyId: string): KmsFault => new KmsFault('NotFoundException', `Invalid keyId '${keyId}'`);

/** The ARN is of another region, account or service. */
export const invalidArn = (region: string): KmsFault => new KmsFault('NotFoundException', `Invalid arn ${region}`);

/** The key is disabled. */
export const keyDisabled = (keyArn: string): KmsFault => new KmsFault('DisabledException', `${keyArn} is disabled.`);

/** The key is pending deletion. */
export const keyPendingDeletion = (keyArn: string): KmsFault => new KmsFault('KMSInvalidStateException', `${keyArn} is pending deletion.`);

/** There is no deletion to cancel. */
export const keyNotPendingDeletion = (keyArn: string): KmsFault =>
  new KmsFault('KMSInvalidStateException', `${keyArn} is not pending deletion.`);

/** A quota of KMS. */
export const limitExceeded = (message: string): KmsFault => new KmsFault('LimitExceededException', message);

/** A request that is well-formed JSON and breaks a rule of its operation. */
export const validation = (message: string): KmsFault => new KmsFault('ValidationException', message);

/** `problems` in AWS's wording of them: "Value '0' at 'numberOfBytes' failed to satisfy constraint: ...". */
export function constraintsBroken(problems: readonly string[]): KmsFault {
  return validation(`${problems.length} validation error${problems.length === 1 ? '' : 's'} detected: ${problems.join('; ')}`);
}

/** A body that is not JSON, a member of the wrong type, bad base64. */
export const serialization = (message: string): KmsFault => new KmsFault('SerializationException', message);

/** A feature of AWS KMS that the embedded one does not have. It is refused, never ignored. */
export const unsupported = (what: string): KmsFault =>
  new KmsFault('UnsupportedOperationException', `The embedded KMS does not support ${what}.`);

/** The reply to a request with DryRun that would have succeeded. */
export const dryRunSucceeded = (): KmsFault =>
  new KmsFault('DryRunOperationException', 'The request would have succeeded, but the DryRun option is set.', 412);
