#include "xts/key_schedule.h"

#include <cassert>

#include "base/wipe.h"

namespace volseal::xts {
namespace {

uint32_t LoadWord(const uint8_t* from) {
  return from[0] | from[1] << 8 | from[2] << 16 | static_cast<uint32_t>(from[3]) << 24;
}

void StoreWord(uint8_t* to, uint32_t word) {
  for (int i = 0; i < 4; ++i) to[i] = static_cast<uint8_t>(word >> (8 * i));
}

// FIPS 197, 5.2. Words are little-endian here, so RotWord is a rotation to the right and Rcon sits in the lowest byte.
int ExpandAesKey(Bytes key, RoundKeys& out) {
  assert(key.size() == 16 || key.size() == 32);
  const size_t key_words = key.size() / 4;
  const int rounds = static_cast<int>(key_words) + 6;
  uint8_t* const words = &out[0][0];
  // In blocks: a longer memcpy goes through a vector register that nothing clears afterwards.
  for (size_t i = 0; i < key.size(); i += 16) std::memcpy(words + i, key.data() + i, 16);
  uint32_t round_constant = 1;
  for (size_t i = key_words; i < 4u * (rounds + 1); ++i) {
    uint32_t word = LoadWord(words + 4 * (i - 1));
    if (i % key_words == 0) {
      word = SubWord(word >> 8 | word << 24) ^ round_constant;
      round_constant = (round_constant << 1) ^ (round_constant >> 7) * 0x11b;
    } else if (key_words == 8 && i % key_words == 4) {
      word = SubWord(word);
    }
    StoreWord(words + 4 * i, LoadWord(words + 4 * (i - key_words)) ^ word);
  }
  return rounds;
}

// Four bytes, each times x in GF(2^8).
uint32_t TimesX(uint32_t column) { return (column & 0x7f7f7f7f) << 1 ^ (column >> 7 & 0x01010101) * 0x1b; }

// InvMixColumns on one column: see InverseMixColumns in aes_portable.cc for the factorisation.
uint32_t InverseMixColumn(uint32_t column) {
  const auto rotate = [](uint32_t word, int rows) { return word >> (8 * rows) | word << (32 - 8 * rows); };
  column ^= TimesX(TimesX(column ^ rotate(column, 2)));
  const uint32_t sum = column ^ rotate(column, 1);
  return TimesX(sum) ^ rotate(column, 1) ^ rotate(sum, 2);
}

void InvertSchedule(const RoundKeys& encrypt, int rounds, RoundKeys& decrypt) {
  for (int round = 0; round <= rounds; ++round) {
    const uint8_t* const from = encrypt[rounds - round];
    for (int column = 0; column < 16; column += 4) {
      const uint32_t word = LoadWord(from + column);
      StoreWord(decrypt[round] + column, round == 0 || round == rounds ? word : InverseMixColumn(word));
    }
  }
}

}  // namespace

bool HalvesAreEqual(Bytes key) {
  const size_t half = key.size() / 2;
  uint8_t difference = 0;
  for (size_t i = 0; i < half; ++i) difference |= key[i] ^ key[half + i];
  return difference == 0;
}

int ExpandSlicedKey(Bytes key, RoundKeys& round_keys, SlicedRoundKey sliced[kRoundKeysMax]) {
  const int rounds = ExpandAesKey(key, round_keys);
  for (int round = 0; round <= rounds; ++round) SliceRoundKey(round_keys[round], sliced[round]);
  WipeUsedStack();
  return rounds;
}

void ExpandXtsKey(Bytes key, KeySchedule& schedule) {
  assert(IsXtsKeyLength(key.size()));
  const size_t half = key.size() / 2;
  schedule.rounds = ExpandSlicedKey(key.first(half), schedule.data_encrypt, schedule.data_sliced);
  ExpandSlicedKey(key.subspan(half), schedule.tweak_encrypt, schedule.tweak_sliced);
  InvertSchedule(schedule.data_encrypt, schedule.rounds, schedule.data_decrypt);
  WipeUsedStack();
}

}  // namespace volseal::xts
