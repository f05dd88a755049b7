// AES-XTS word for word from the standards: one byte after the other, no thought for speed, and nothing shared with the
// kernels. The IEEE 1619 vectors check it; it checks the kernels. FIPS 197, section 5; IEEE Std 1619-2007, section 5.
// Not constant in time: for tests only.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/bytes.h"

namespace volseal::textbook {

using Block = std::array<uint8_t, 16>;

// The rounds + 1 round keys of AES-128 or AES-256, in the order of encryption (FIPS 197, 5.2).
std::vector<Block> ExpandKey(Bytes key);

// One block through AES (FIPS 197, 5.1).
Block EncryptBlock(const std::vector<Block>& round_keys, Block block);

// Times the primitive element of GF(2^128) (IEEE 1619-2007, 5.2).
Block TimesAlpha(Block tweak);

// The tweaks T_0, T_1, ... of one data unit: the number encrypted under Key2, then times alpha again and again.
std::vector<Block> UnitTweaks(Bytes xts_key, uint64_t unit_number, size_t block_count);

// Encrypts whole sectors of `sector_bytes`; the first one's number is `first_unit`, in units of 512 bytes and modulo
// 2^64. `xts_key` is Key1 then Key2, 32 or 64 bytes.
std::vector<uint8_t> EncryptSectors(Bytes xts_key, Bytes plaintext, size_t sector_bytes, uint64_t first_unit);

}  // namespace volseal::textbook
