#include "textbook_xts.h"

namespace volseal::textbook {
namespace {

// Multiplication in GF(2^8) (FIPS 197, 4.2).
uint8_t Multiply(uint8_t a, uint8_t b) {
  uint8_t product = 0;
  for (; b != 0; b >>= 1) {
    if (b & 1) product ^= a;
    a = static_cast<uint8_t>(a << 1 ^ (a & 0x80 ? 0x1b : 0));
  }
  return product;
}

// The inverse in GF(2^8), 0 for 0, then the affine map (FIPS 197, 5.1.1).
std::array<uint8_t, 256> ComputeSbox() {
  std::array<uint8_t, 256> sbox{};
  for (int value = 0; value < 256; ++value) {
    int inverse = 0;
    while (value != 0 && Multiply(static_cast<uint8_t>(value), static_cast<uint8_t>(inverse)) != 1) ++inverse;
    for (int bit = 0; bit < 8; ++bit) {
      int sum = 0x63 >> bit;
      for (int other : {0, 4, 5, 6, 7}) sum ^= inverse >> (bit + other) % 8;
      sbox[value] |= (sum & 1) << bit;
    }
  }
  return sbox;
}

const std::array<uint8_t, 256> kSbox = ComputeSbox();

void AddRoundKey(Block& state, const Block& key) {
  for (int i = 0; i < 16; ++i) state[i] ^= key[i];
}

void SubBytes(Block& state) {
  for (uint8_t& byte : state) byte = kSbox[byte];
}

// Byte `row + 4 * column` of a block is that row and column of the state (FIPS 197, 3.4).
void ShiftRows(Block& state) {
  const Block before = state;
  for (int row = 0; row < 4; ++row) {
    for (int column = 0; column < 4; ++column) state[row + 4 * column] = before[row + 4 * ((column + row) % 4)];
  }
}

uint8_t Double(uint8_t byte) { return Multiply(byte, 2); }

void MixColumns(Block& state) {
  const Block a = state;
  for (int column = 0; column < 16; column += 4) {
    for (int row = 0; row < 4; ++row) {
      const uint8_t self = a[column + row], next = a[column + (row + 1) % 4];
      state[column + row] = static_cast<uint8_t>(Double(self) ^ Double(next) ^ next ^ a[column + (row + 2) % 4] ^
                                                 a[column + (row + 3) % 4]);
    }
  }
}

}  // namespace

std::vector<Block> ExpandKey(Bytes key) {
  const size_t key_words = key.size() / 4, rounds = key_words + 6;
  std::vector<uint8_t> bytes(key.begin(), key.end());
  uint8_t round_constant = 1;
  for (size_t word = key_words; word < 4 * (rounds + 1); ++word) {
    std::array<uint8_t, 4> temp;
    for (int i = 0; i < 4; ++i) temp[i] = bytes[4 * (word - 1) + i];
    if (word % key_words == 0) {
      temp = {kSbox[temp[1]], kSbox[temp[2]], kSbox[temp[3]], kSbox[temp[0]]};
      temp[0] ^= round_constant;
      round_constant = Double(round_constant);
    } else if (key_words > 6 && word % key_words == 4) {
      for (uint8_t& byte : temp) byte = kSbox[byte];
    }
    for (int i = 0; i < 4; ++i) bytes.push_back(bytes[4 * (word - key_words) + i] ^ temp[i]);
  }
  std::vector<Block> round_keys(rounds + 1);
  for (size_t i = 0; i < bytes.size(); ++i) round_keys[i / 16][i % 16] = bytes[i];
  return round_keys;
}

Block EncryptBlock(const std::vector<Block>& round_keys, Block block) {
  AddRoundKey(block, round_keys.front());
  for (size_t round = 1; round + 1 < round_keys.size(); ++round) {
    SubBytes(block);
    ShiftRows(block);
    MixColumns(block);
    AddRoundKey(block, round_keys[round]);
  }
  SubBytes(block);
  ShiftRows(block);
  AddRoundKey(block, round_keys.back());
  return block;
}

Block TimesAlpha(Block tweak) {
  uint8_t carry = 0;
  for (uint8_t& byte : tweak) {
    const uint8_t next_carry = byte >> 7;
    byte = static_cast<uint8_t>(byte << 1 | carry);
    carry = next_carry;
  }
  if (carry) tweak[0] ^= 0x87;
  return tweak;
}

std::vector<Block> UnitTweaks(Bytes xts_key, uint64_t unit_number, size_t block_count) {
  Block tweak{};
  for (int i = 0; i < 8; ++i) tweak[i] = static_cast<uint8_t>(unit_number >> (8 * i));
  tweak = EncryptBlock(ExpandKey(xts_key.subspan(xts_key.size() / 2)), tweak);
  std::vector<Block> tweaks(block_count);
  for (Block& each : tweaks) {
    each = tweak;
    tweak = TimesAlpha(tweak);
  }
  return tweaks;
}

std::vector<uint8_t> EncryptSectors(Bytes xts_key, Bytes plaintext, size_t sector_bytes, uint64_t first_unit) {
  const std::vector<Block> data_keys = ExpandKey(xts_key.first(xts_key.size() / 2));
  std::vector<uint8_t> ciphertext;
  ciphertext.reserve(plaintext.size());
  for (size_t start = 0; start < plaintext.size(); start += sector_bytes) {
    for (const Block& tweak : UnitTweaks(xts_key, first_unit + start / 512, sector_bytes / 16)) {
      Block block;
      for (int i = 0; i < 16; ++i) block[i] = plaintext[ciphertext.size() + i] ^ tweak[i];
      block = EncryptBlock(data_keys, block);
      for (int i = 0; i < 16; ++i) ciphertext.push_back(block[i] ^ tweak[i]);
    }
  }
  return ciphertext;
}

}  // namespace volseal::textbook
