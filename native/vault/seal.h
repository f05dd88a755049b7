// AES-256-GCM (NIST SP 800-38D) from vault key to sealed bytes and back into the vault.
//
// The mode is OpenSSL's (its gcm128 functions take the block cipher as a function); the block cipher is the portable
// AES over round keys in locked memory. So neither the master key nor what it seals is ever in an OpenSSL context; the
// hash key and one block of key stream are, on the heap, until the context is cleared at the end of the call.
#pragma once

#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "vault/vault.h"

namespace volseal::vault {

constexpr size_t kMasterKeyBytes = 32;
constexpr size_t kGcmIvBytes = 12;
constexpr size_t kGcmTagBytes = 16;

// IV (random, so at most 2^32 seals a master key: SP 800-38D, 8.3), ciphertext, tag. kArgument where `master` has not
// 32 bytes; kSelfTest where the cipher gives wrong bytes (Open too).
Result<std::vector<uint8_t>> Seal(Bytes master, Bytes payload, Bytes aad);

// The handle of the payload, or nothing where the tag does not hold.
Result<std::optional<KeyHandle>> Open(Bytes master, Bytes sealed, Bytes aad);

}  // namespace volseal::vault
