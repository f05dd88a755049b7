// A LUKS2 keyslot with PBKDF2: a volume key that a passphrase opens (LUKS2 On-Disk Format Specification, section 3.2).
//
// PBKDF2 of the passphrase is the AES-XTS key of the slot's area, in which the volume key lies, split into stripes.
// Slot key, stripes and volume key stay in locked memory.
#pragma once

#include "base/bytes.h"
#include "base/status.h"
#include "vault/anti_forensic.h"
#include "vault/vault.h"

namespace volseal::vault {

// Of an area for a volume key of so many bytes: whole sectors of 512 bytes.
constexpr size_t AreaBytes(size_t volume_key_bytes) { return kStripes * volume_key_bytes; }

struct KeyslotParameters {
  Hash kdf_hash;
  Bytes salt;
  uint32_t iterations;  // at least 1
  Hash af_hash;
  size_t slot_key_bytes;  // 64 (AES-256-XTS) or 32 (AES-128-XTS), whatever the volume key has
};

// Fills `area` (AreaBytes) so that the passphrase opens `volume_key`. kArgument: the key has neither 64 nor 32 bytes.
Status SealKeyslot(Bytes passphrase, Bytes volume_key, const KeyslotParameters& parameters, MutableBytes area);

// What the passphrase makes of `area` (AreaBytes of 64 or 32): only a digest tells whether it is the volume key.
Result<KeyHandle> OpenKeyslot(Bytes passphrase, const KeyslotParameters& parameters, Bytes area);

}  // namespace volseal::vault
