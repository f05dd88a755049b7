/**
 * Records the calls to a KMS outside this process in the audit log. AWS has a log too, but its callers may not be able
 * to read it.
 */

import { randomUUID } from 'node:crypto';
import type { KMSClient } from '@aws-sdk/client-kms';
import { AuditLog, auditDirectory, fileOwner } from '../../audit/log.js';
import { shortened, shownParameters } from '../../audit/parameters.js';
import type { AuditEvent } from '../../audit/record.js';
import { formatArn, parseKeyArn } from '../shared/arn.js';
import { type KmsEndpoint, kmsUri } from '../shared/endpoint.js';

/** Operations that change something; CloudTrail calls all others read-only. */
const CHANGING: ReadonlySet<string> = new Set([
  ...['CreateAlias', 'UpdateAlias', 'DeleteAlias', 'CreateKey', 'EnableKey', 'DisableKey'],
  ...['CreateGrant', 'RetireGrant', 'RevokeGrant'],
]);

/** The members of requests and replies that are recorded; each may be missing. */
interface Members {
  readonly KeyId?: string;
  readonly SourceKeyId?: string;
  readonly KeyMaterialId?: string;
  readonly GrantId?: string;
  readonly KeyMetadata?: { readonly Arn?: string };
}

/**
 * Makes `client` record each call after the reply has arrived and before the caller sees it. A call that cannot be
 * recorded fails. The log is in `endpoint.auditHome`, beside the one of the embedded KMS.
 * @throws {VolsealError} `ERR_AUDIT`
 */
export function auditCalls(client: KMSClient, endpoint: KmsEndpoint & { auditHome: string }): void {
  const directory = auditDirectory(endpoint.auditHome, 'calls');
  const log = new AuditLog(directory, fileOwner(directory));
  const destroy = client.destroy.bind(client);
  client.destroy = () => {
    destroy();
    log.close();
  };
  client.middlewareStack.add(
    (next, { commandName = '' }) =>
      async (args) => {
        const name = commandName.replace(/Command$/, '');
        const input = args.input as Members;
        try {
          const result = await next(args);
          const { $metadata, ...output } = result.output as Members & { $metadata: { requestId?: string } };
          await record(log, client, endpoint, { name, input, output, requestId: $metadata.requestId });
          return result;
        } catch (error) {
          const { name: code, message, $metadata } = error as { name?: string; message?: string; $metadata?: { requestId?: string } };
          if (code !== 'VolsealError')
            await record(log, client, endpoint, { name, input, error: { code, message }, requestId: $metadata?.requestId });
          throw error;
        }
      },
    { step: 'initialize', name: 'volsealAudit' },
  );
}

interface Call {
  readonly name: string;
  readonly input: Members;
  readonly output?: Members;
  readonly error?: { readonly code: string | undefined; readonly message: string | undefined };
  readonly requestId: string | undefined;
}

async function record(
  log: AuditLog,
  client: KMSClient,
  endpoint: KmsEndpoint,
  { name, input, output = {}, error, requestId }: Call,
): Promise<void> {
  const readOnly = !CHANGING.has(name);
  const names = [input.SourceKeyId, output.KeyId, input.KeyId, output.KeyMetadata?.Arn];
  const keyArns = names.flatMap((name) => parseKeyArn(name ?? '') ?? []);
  const { accessKeyId } = await client.config.credentials().catch(() => ({ accessKeyId: undefined }));
  const extra = {
    ...(output.KeyMaterialId === undefined ? {} : { keyMaterialId: output.KeyMaterialId }),
    ...(name === 'RetireGrant' ? { grantId: input.GrantId } : {}),
  };
  const shown = shownParameters(output);
  const event: AuditEvent = {
    userIdentity: {
      type: endpoint.principal === undefined ? 'Unknown' : 'AssumedRole',
      ...(endpoint.principal === undefined ? {} : { arn: endpoint.principal }),
      ...(accessKeyId === undefined ? {} : { accessKeyId }),
    },
    eventTime: new Date().toISOString().replace(/\.\d+Z$/, 'Z'),
    eventName: name,
    awsRegion: await client.config.region(),
    sourceIPAddress: 'in process',
    userAgent: 'volseal',
    ...(error === undefined ? {} : { errorCode: error.code ?? 'Error', errorMessage: shortened(error.message ?? '') }),
    requestParameters: name === 'RetireGrant' ? null : shownParameters(input, error !== undefined),
    responseElements: readOnly || error !== undefined || Object.keys(shown).length === 0 ? null : shown,
    ...(Object.keys(extra).length === 0 ? {} : { additionalEventData: extra }),
    requestID: requestId ?? '',
    eventID: randomUUID(),
    readOnly,
    resources: [...new Map(keyArns.map((arn) => [formatArn(arn), arn]))].map(([ARN, { accountId }]) => ({
      accountId,
      type: 'AWS::KMS::Key' as const,
      ARN,
    })),
    recipientAccountId: keyArns[0]?.accountId ?? '',
    volseal: { endpoint: kmsUri(endpoint) },
  };
  log.append(event);
}
