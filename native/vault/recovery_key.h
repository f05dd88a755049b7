// Recovery keys as people read and type them, and passphrases from files: texts that open a keyslot. They are kept as
// vault keys, so that they are in locked memory only. And the one way for a volume key out of this process.
//
// A recovery key is 32 random bytes in 64 letters, and a checksum of 4 bytes in 8 letters: nine groups of eight, with
// "-" between them. The letters are those of modhex (cbdefghijklnrtuv), which lie on the same keys of nearly all
// keyboards: the text can be typed where the layout of the keyboard is not set yet. systemd-cryptenroll does the same.
// The checksum is the first 4 bytes of SHA-256 over "volseal recovery key v1" and the 32 bytes.
#pragma once

#include "base/bytes.h"
#include "base/status.h"
#include "vault/vault.h"

namespace volseal::vault {

constexpr size_t kRecoveryKeyBytes = 32;
constexpr size_t kRecoveryTextBytes = 80;
constexpr size_t kPassphraseBytesMax = 512;  // cryptsetup's own limit

// A new one: the vault key is its text, kRecoveryTextBytes.
Result<KeyHandle> GenerateRecoveryKey();

// Reads `fd` (file or pipe) to its end: a recovery key, in any case, with any spaces, line ends and hyphens; the vault
// key is its text as GenerateRecoveryKey writes it. kArgument: it is none, or its checksum does not match.
Result<KeyHandle> ReadRecoveryKey(int fd);

// The same of a passphrase of 1 to 512 bytes; one line end at its end is not part of it. kArgument: empty, too long.
Result<KeyHandle> ReadPassphrase(int fd);

// Writes the text of a recovery key to `fd`, all of it. kArgument: the key is no such text.
Status WriteRecoveryKey(int fd, Bytes text);

// Writes a volume key to the pipe, socket or file `fd`, for a program that is handed the key. kArgument: a terminal.
Status WriteVolumeKey(int fd, Bytes key);

}  // namespace volseal::vault
