// Key expansion against the textbook's, and the comparison of key halves.
#include "xts/key_schedule.h"

#include <doctest/doctest.h>

#include <cstring>

#include "harness.h"
#include "textbook_xts.h"

namespace volseal::xts_test {
namespace {

bool SameKeys(const xts::RoundKeys& actual, const std::vector<textbook::Block>& expected) {
  for (size_t round = 0; round < expected.size(); ++round) {
    if (std::memcmp(actual[round], expected[round].data(), 16) != 0) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("round keys are FIPS 197's") {
  Random random(Seed());
  for (const size_t key_length : kKeyLengths) {
    for (int i = 0; i < 20; ++i) {
      const TestKey key = ExpandKey(random.Take(key_length));
      const Bytes bytes = key.bytes;
      CHECK(key.schedule->rounds == (key_length == 64 ? 14 : 10));
      CHECK(SameKeys(key.schedule->data_encrypt, textbook::ExpandKey(bytes.first(key_length / 2))));
      CHECK(SameKeys(key.schedule->tweak_encrypt, textbook::ExpandKey(bytes.subspan(key_length / 2))));
    }
  }
}

TEST_CASE("equal key halves are noticed, one bit of difference as well") {
  for (const size_t key_length : kKeyLengths) {
    std::vector<uint8_t> key(key_length, 0xc3);
    CHECK(xts::HalvesAreEqual(key));
    for (size_t bit = 0; bit < key_length * 8; ++bit) {
      key[bit / 8] ^= 1 << bit % 8;
      CHECK_FALSE(xts::HalvesAreEqual(key));
      key[bit / 8] ^= 1 << bit % 8;
    }
  }
}

}  // namespace volseal::xts_test
