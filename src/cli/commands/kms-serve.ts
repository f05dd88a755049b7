/** `volseal kms serve`: the embedded KMS over HTTP, for `aws kms --endpoint-url` and any AWS SDK. */
import { once } from 'node:events';
import { Command, InvalidArgumentError } from 'commander';
import { isError } from '../../errors.js';
import { type Address, addressArgument, type Session, withJson } from '../options.js';
import { withExamples } from '../terminal/output.js';

interface ServeFlags {
  listen: Address;
  allowRemote?: boolean;
  host?: string[];
}

/** The command; `session` is what it runs with. It ends with status 0 at Ctrl-C or SIGTERM. */
export function serveCommand({ output, signal, rootKey }: Session): Command {
  const command = new Command('serve')
    .description('serve the embedded KMS of $VOLSEAL_HOME over HTTP until Ctrl-C, to callers with an access key')
    .requiredOption('--listen <host:port>', 'loopback address and port; port 0 takes a free one', addressArgument)
    .option('--allow-remote', 'allow an address that is not loopback: plain HTTP, so anybody who can read the network can read data keys')
    .option('--host <name...>', 'a name besides localhost under which clients call it, such as that of a container', hostArgument);
  withJson(command);
  withExamples(command, [
    'eval "$(volseal kms create-access-key root)"',
    'volseal kms serve --listen 127.0.0.1:4599',
    'aws kms list-keys --endpoint-url http://127.0.0.1:4599 --region us-east-1',
  ]);
  return command.action(async ({ listen, allowRemote = false, host: hostNames = [] }: ServeFlags) => {
    const [{ serveKms }, { defaultHome }] = await Promise.all([
      import('../../kms/embedded/http/server.js'),
      import('../../kms/shared/environment.js'),
    ]);
    const home = defaultHome();
    const onInternalError = (requestId: string, error: unknown): void =>
      output.warning(`request ${requestId} failed: ${isError(error) ? error.message : String(error)}`);
    const server = await serveKms({ home, ...listen, allowRemote, hostNames, onInternalError });
    const { url } = server;
    output.result({ url, home }, [`serving the embedded KMS in ${home} at ${url}; Ctrl-C ends it`]);
    try {
      await output.settled();
      rootKey.report();
      if (!server.hasAccessKeys) {
        output.warning('nobody has an access key yet, so nobody will be answered: volseal kms create-access-key root makes one');
      }
      if (!signal.aborted) await once(signal, 'abort');
    } finally {
      await server.close();
    }
  });
}

/** A host name, in lower case. @throws {InvalidArgumentError} */
function hostArgument(text: string, others: string[] = []): string[] {
  if (!/^[a-z0-9_]([a-z0-9_.-]{0,253}[a-z0-9_])?$/i.test(text)) throw new InvalidArgumentError('Expected a host name, such as kms.');
  return [...others, text.toLowerCase()];
}
