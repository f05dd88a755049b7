/**
 * Whom volseal signs as where the KMS is not AWS's own: such servers often check no signature, and must work without set-up.
 */
import { fromEnv } from '@aws-sdk/credential-provider-env';
import { fromIni } from '@aws-sdk/credential-provider-ini';
import { chain } from '@smithy/core/config';

type Credentials = Awaited<ReturnType<ReturnType<typeof fromEnv>>>;

/** Signs a request so that it has the form KMS asks for; it identifies nobody. */
export const PLACEHOLDER = { accessKeyId: 'volseal', secretAccessKey: 'placeholder' };

/** A region that every SDK and server knows; an emulator does not care, and the embedded KMS has its own name for where it is. */
export const EMULATOR_REGION = 'us-east-1';

/** The AWS environment variables, else the profile of the shared configuration, else the placeholder. */
export function emulatorCredentials(): ReturnType<typeof fromEnv> {
  return chain<Credentials>(fromEnv(), fromIni(), async () => PLACEHOLDER);
}
