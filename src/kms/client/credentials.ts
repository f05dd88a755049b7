/**
 * The credentials for a KMS that is not AWS's own: such servers often check no signature, and must work without set-up.
 */
import { fromEnv } from '@aws-sdk/credential-provider-env';
import { fromIni } from '@aws-sdk/credential-provider-ini';
import { chain, DEFAULT_PROFILE, getProfileName } from '@smithy/core/config';
import { PLACEHOLDER } from './placeholder.js';

type Credentials = Awaited<ReturnType<ReturnType<typeof fromEnv>>>;

/**
 * The AWS environment variables, else the profile of the shared configuration, else the placeholder. A profile that the
 * user names (`AWS_PROFILE`) must exist: with the placeholder, the server would refuse a signature that nobody made.
 */
export function emulatorCredentials(): ReturnType<typeof fromEnv> {
  const isNamed = getProfileName({}) !== DEFAULT_PROFILE;
  return chain<Credentials>(fromEnv(), fromIni(), ...(isNamed ? [] : [async () => PLACEHOLDER]));
}
