/**
 * Whom volseal signs as where the KMS is not AWS's own: such servers often check no signature, and must work without set-up.
 */
import { fromEnv } from '@aws-sdk/credential-provider-env';
import { fromIni } from '@aws-sdk/credential-provider-ini';
import { chain } from '@smithy/core/config';
import { PLACEHOLDER } from './placeholder.js';

type Credentials = Awaited<ReturnType<ReturnType<typeof fromEnv>>>;

/** The AWS environment variables, else the profile of the shared configuration, else the placeholder. */
export function emulatorCredentials(): ReturnType<typeof fromEnv> {
  return chain<Credentials>(fromEnv(), fromIni(), async () => PLACEHOLDER);
}
