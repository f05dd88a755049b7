// AES without AES instructions and without tables: bitsliced, so that neither branches nor addresses depend on data or
// keys. FIPS 197; the S-box is the depth-16 circuit of Boyar and Peralta (2011, IACR ePrint 2011/332).
#pragma once

#include <cstddef>
#include <cstdint>

namespace volseal::xts {

// Two lanes of 64 bits: plain SSE2 on x86-64, plain NEON on Arm; each lane holds one bit of each byte of four blocks.
using Plane = uint64_t __attribute__((vector_size(16)));

constexpr size_t kPortableBlocks = 8;  // what one pass works on
constexpr size_t kPortableBytes = kPortableBlocks * 16;

// A round key, bitsliced: bit b of byte j stands in bit j of planes[b], repeated for each of a lane's four blocks.
struct SlicedRoundKey {
  uint64_t planes[8];
};

// Bitslices one 16-byte round key.
void SliceRoundKey(const uint8_t round_key[16], SlicedRoundKey& sliced);

// Eight blocks in place; `keys` are rounds + 1 round keys in the order of encryption, for both directions.
void EncryptBlocks(const SlicedRoundKey* keys, int rounds, uint8_t blocks[kPortableBytes]);
void DecryptBlocks(const SlicedRoundKey* keys, int rounds, uint8_t blocks[kPortableBytes]);

// The S-box on each of four bytes (key expansion).
uint32_t SubWord(uint32_t word);

}  // namespace volseal::xts
