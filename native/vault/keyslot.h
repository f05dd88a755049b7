// A LUKS2 keyslot with PBKDF2: a volume key that a passphrase opens (LUKS2 On-Disk Format Specification, section 3.2).
//
// PBKDF2 of the passphrase is the AES-256-XTS key of the slot's area, in which the volume key lies, split into stripes.
// Slot key, stripes and volume key stay in locked memory.
#pragma once

#include "base/bytes.h"
#include "base/status.h"
#include "vault/anti_forensic.h"
#include "vault/vault.h"

namespace volseal::vault {

constexpr size_t kAreaBytes = kStripes * kStripeBytes;  // whole sectors of 512 bytes

struct KeyslotParameters {
  Hash kdf_hash;
  Bytes salt;
  uint32_t iterations;  // at least 1
  Hash af_hash;
};

// Fills `area` (kAreaBytes) so that the passphrase opens `volume_key`. kArgument: the key has not 64 bytes.
Status SealKeyslot(Bytes passphrase, Bytes volume_key, const KeyslotParameters& parameters, MutableBytes area);

// What the passphrase makes of `area` (kAreaBytes): only a digest tells whether it is the volume key.
Result<KeyHandle> OpenKeyslot(Bytes passphrase, const KeyslotParameters& parameters, Bytes area);

}  // namespace volseal::vault
