// The expanded keys of AES-XTS, in the forms the kernels read. Round keys are the key: this lives in the vault's pages
// only.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "xts/aes_portable.h"

namespace volseal::xts {

constexpr int kRoundKeysMax = 15;  // AES-256: 14 rounds; AES-128 has 10

using RoundKeys = uint8_t[kRoundKeysMax][16];

struct alignas(64) KeySchedule {
  int rounds;                          // 14 or 10
  alignas(16) RoundKeys data_encrypt;  // Key1, in the order of encryption
  alignas(16) RoundKeys
      data_decrypt;  // Key1 for the equivalent inverse cipher (FIPS 197, 5.3.5), in the order of decryption
  alignas(16) RoundKeys tweak_encrypt;        // Key2
  SlicedRoundKey data_sliced[kRoundKeysMax];  // the portable kernel's: both directions read them
  SlicedRoundKey tweak_sliced[kRoundKeysMax];
};

// Whether `key_bytes` is 64 (AES-256-XTS) or 32 (AES-128-XTS).
constexpr bool IsXtsKeyLength(size_t key_bytes) { return key_bytes == 64 || key_bytes == 32; }

// Whether the two halves of an XTS key are equal, in constant time: IEEE 1619 and SP 800-38E's users must refuse such a
// key.
bool HalvesAreEqual(Bytes key);

// Expands an XTS key (Key1 then Key2, IsXtsKeyLength) into `schedule`; what it leaves on the stack it wipes.
void ExpandXtsKey(Bytes key, KeySchedule& schedule);

// Expands one AES key of 16 or 32 bytes for the portable cipher (GCM's use); returns the rounds. `round_keys` is
// scratch that the caller keeps in locked memory.
int ExpandSlicedKey(Bytes key, RoundKeys& round_keys, SlicedRoundKey sliced[kRoundKeysMax]);

}  // namespace volseal::xts
