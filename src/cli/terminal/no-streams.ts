/** `-` where no stream is taken: it would be a file of that name, which nobody means. */
import type { Command } from 'commander';
import { VolsealError } from '../../errors.js';
import { STREAM_ARGUMENT } from '../options.js';

/** Arguments that are streams as `-`, by command and name. */
const STREAMS = new Set(['encrypt image', 'encrypt volume', 'decrypt image']);
/** Of options that name a file. */
const PLACEHOLDERS = /<(file|path|image|directory)>/;

/**
 * Refuses `-` as the name of a file.
 * @param name of the command: `recovery add` @throws {VolsealError} `ERR_ARGUMENT`
 */
export function refuseStreams(command: Command, name: string): void {
  const inPlace = command.opts<{ inPlace?: boolean }>().inPlace === true;
  command.registeredArguments.forEach((argument, index) => {
    const isStream = !inPlace && STREAMS.has(`${name} ${argument.name()}`);
    if (!isStream && [command.processedArgs[index]].flat().includes(STREAM_ARGUMENT)) throw noStream(argument.name());
  });
  for (const option of command.options) {
    const value: unknown = command.opts()[option.attributeName()];
    if (PLACEHOLDERS.test(option.flags) && [value].flat().includes(STREAM_ARGUMENT)) throw noStream(option.long ?? option.flags);
  }
}

const noStream = (what: string): VolsealError =>
  new VolsealError(
    'ERR_ARGUMENT',
    `${what}: ${STREAM_ARGUMENT} is a stream only as the image or volume of encrypt, or the image of decrypt; a file of that name is ./${STREAM_ARGUMENT}`,
  );
