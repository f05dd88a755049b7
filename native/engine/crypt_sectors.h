// Whole sectors in memory through the cipher, by a key of the vault.
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "base/status.h"
#include "vault/vault.h"

namespace volseal::engine {

enum class Zeros { kCrypted, kKept };

// `position` is that of the sectors in the image, in bytes. With `kKept`, sectors of zeros stay zeros, as in a sparse
// volume.
Status CryptSectors(vault::KeyHandle key, bool encrypts, uint64_t position, uint32_t sector_bytes, Zeros zeros,
                    MutableBytes sectors);

}  // namespace volseal::engine
