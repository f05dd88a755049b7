/** Settings that the SDK requires where no server looks at them. */

/** Credentials that give a request the form that KMS requires; they identify nobody. */
export const PLACEHOLDER = { accessKeyId: 'volseal', secretAccessKey: 'placeholder' };

/**
 * A region that every SDK and server knows; an emulator does not care, and the embedded KMS has its own name for where
 * it is.
 */
export const EMULATOR_REGION = 'us-east-1';
