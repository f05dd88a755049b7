/** `volseal adopt`: a volume of cryptsetup under KMS. */
import { Command } from 'commander';
import { VOLUME_ID_CONTEXT_KEY } from '../../context-keys.js';
import type { EncryptionContext } from '../../kms/shared/encryption-context.js';
import { type KmsFlags, type Session, withContext, withHeader, withJson, withKms } from '../options.js';
import { withExamples } from '../terminal/output.js';
import { keyslotLine, newVolumeLines } from '../terminal/volume-lines.js';

interface AdoptFlags extends KmsFlags {
  key?: string;
  context?: EncryptionContext;
  header?: string;
  passphraseFile?: string;
  volumeKeyFile?: string;
  removeKeyslots?: boolean;
  anyData?: boolean;
}

/** The command; `session` is what it runs with. */
export function adoptCommand({ output, signal }: Session): Command {
  const command = new Command('adopt')
    .description('bring a LUKS2 volume of cryptsetup under KMS: KMS wraps its volume key, and the data is not touched')
    .argument('<volume>', 'the volume: aes-xts-plain64 with a key of 512 bits, one segment, no integrity')
    .option('--passphrase-file <file>', 'the passphrase of one of its keyslots (PBKDF2); this keyslot counts as added by volseal')
    .option('--volume-key-file <file>', 'the volume key itself, 64 bytes (32 of AES-128)')
    .option('--remove-keyslots', 'remove every keyslot then, so that only KMS opens the volume (default: they stay)')
    .option('--key <key>', 'KMS key id, ARN or alias that wraps the volume key (default: alias/aws/ebs)')
    .option('--any-data', 'with --header: this is its data, although it is empty or random: LUKS2 does not say whose data it is');
  withKms(command, 'embedded');
  withContext(command, `pair of the encryption context, besides ${VOLUME_ID_CONTEXT_KEY}; repeatable`);
  withJson(withHeader(command, 'the file with the header, if it is detached'));
  withExamples(command, [
    'printf secret > passphrase && truncate -s 20M old.img && cryptsetup luksFormat -q --pbkdf pbkdf2 old.img passphrase',
    'volseal adopt old.img --passphrase-file passphrase',
  ]);
  return command.action(async (volume: string, flags: AdoptFlags) => {
    const { context: encryptionContext, ...options } = flags;
    const { adoptVolume } = await import('../../jobs/adopt.js');
    const adopted = await adoptVolume(volume, { ...options, encryptionContext, signal });
    const keyslots = adopted.keyslotList.map((slot) => `keyslot ${keyslotLine(slot)}`);
    output.result(adopted, [...newVolumeLines(`adopted ${volume}`, adopted), ...keyslots]);
  });
}
