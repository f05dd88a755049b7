/** What the SDK must be told where nobody will look at it. */

/** Signs a request so that it has the form KMS asks for; it identifies nobody. */
export const PLACEHOLDER = { accessKeyId: 'volseal', secretAccessKey: 'placeholder' };

/** A region that every SDK and server knows; an emulator does not care, and the embedded KMS has its own name for where it is. */
export const EMULATOR_REGION = 'us-east-1';
