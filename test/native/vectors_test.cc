// The vectors of IEEE Std 1619-2007, annex B: they check the textbook, which checks the kernels elsewhere, and each
// kernel as well.
#include <doctest/doctest.h>

#include <cstring>
#include <string>

#include "harness.h"
#include "textbook_xts.h"

namespace volseal::xts_test {
namespace {

struct Vector {
  int number;
  uint64_t unit;
  const char* key1;
  const char* key2;
  const char* plaintext;
  const char* ciphertext;
};

constexpr Vector kVectors[] = {
#include "ieee_vectors.inc"
};

std::vector<uint8_t> FromHex(const std::string& text) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i < text.size(); i += 2) {
    bytes.push_back(static_cast<uint8_t>(std::stoi(text.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

// Those whose data unit is a sector.
std::vector<Vector> SectorVectors() {
  std::vector<Vector> vectors;
  for (const Vector& vector : kVectors) {
    if (std::strlen(vector.plaintext) == 2 * 512) vectors.push_back(vector);
  }
  return vectors;
}

}  // namespace

TEST_CASE("the textbook agrees with every IEEE vector") {
  REQUIRE(std::size(kVectors) == 14);
  for (const Vector& vector : kVectors) {
    INFO("vector " << vector.number);
    const std::vector<uint8_t> plaintext = FromHex(vector.plaintext);
    const std::vector<uint8_t> key = FromHex(std::string(vector.key1) + vector.key2);
    CHECK(textbook::EncryptSectors(key, plaintext, plaintext.size(), vector.unit) == FromHex(vector.ciphertext));
  }
}

TEST_CASE("the textbook agrees with FIPS 197, appendices B and C.3") {
  const auto encrypt = [](const char* key, const char* block) {
    textbook::Block bytes;
    std::memcpy(bytes.data(), FromHex(block).data(), bytes.size());
    bytes = textbook::EncryptBlock(textbook::ExpandKey(FromHex(key)), bytes);
    return std::vector<uint8_t>(bytes.begin(), bytes.end());
  };
  CHECK(encrypt("2b7e151628aed2a6abf7158809cf4f3c", "3243f6a8885a308d313198a2e0370734") ==
        FromHex("3925841d02dc09fbdc118597196a0b32"));
  CHECK(encrypt("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
                "00112233445566778899aabbccddeeff") == FromHex("8ea2b7ca516745bfeafc49904b496089"));
}

TEST_CASE("every kernel agrees with the IEEE vectors of 512-byte data units, both ways") {
  REQUIRE(SectorVectors().size() == 11);  // 4 to 14
  for (const Vector& vector : SectorVectors()) {
    const TestKey key = ExpandKey(FromHex(std::string(vector.key1) + vector.key2));
    const std::vector<uint8_t> plaintext = FromHex(vector.plaintext), ciphertext = FromHex(vector.ciphertext);
    for (const xts::Kernel* kernel : UsableKernels()) {
      INFO(NameOf(*kernel) << ", vector " << vector.number);
      std::vector<uint8_t> target(512);
      Transform(*kernel, Direction::kEncrypt, key, plaintext.data(), target.data(), {vector.unit, 512, 1});
      CHECK(target == ciphertext);
      Transform(*kernel, Direction::kDecrypt, key, target.data(), target.data(), {vector.unit, 512, 1});
      CHECK(target == plaintext);
    }
  }
}

// A block of a data unit depends on no later one, so vectors 2 and 3, of two blocks, say how a sector begins.
TEST_CASE("every kernel begins a sector as the IEEE vectors 2 and 3 do") {
  for (const Vector& vector : {kVectors[1], kVectors[2]}) {
    const TestKey key = ExpandKey(FromHex(std::string(vector.key1) + vector.key2));
    const std::vector<uint8_t> expected = FromHex(vector.ciphertext);
    for (const xts::Kernel* kernel : UsableKernels()) {
      for (const uint32_t sector_bytes : kSectorSizes) {
        INFO(NameOf(*kernel) << ", vector " << vector.number << ", " << sector_bytes << "-byte sectors");
        std::vector<uint8_t> sector = FromHex(vector.plaintext);
        sector.resize(sector_bytes, 0x5a);
        Transform(*kernel, Direction::kEncrypt, key, sector.data(), sector.data(), {vector.unit, sector_bytes, 1});
        CHECK(std::memcmp(sector.data(), expected.data(), expected.size()) == 0);
      }
    }
  }
}

}  // namespace volseal::xts_test
