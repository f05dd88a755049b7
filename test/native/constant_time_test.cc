// Constant time: under valgrind the key and the plaintext count as undefined, and memcheck complains about every branch
// and every address that depends on them. (Adam Langley's method, "ctgrind".)
// Valgrind's processor knows AES-NI and AVX2 and neither VAES nor AVX-512, so the kernels with wide vectors, whose
// source is the same template as AES-NI's, are not run here.
#include <doctest/doctest.h>
#include <valgrind/memcheck.h>

#include <algorithm>

#include "harness.h"
#include "xts/dispatch.h"

namespace volseal::xts_test {
namespace {

// Complaints while `work` runs.
template <typename Work>
unsigned ComplaintsDuring(Work work) {
  const unsigned before = VALGRIND_COUNT_ERRORS;
  work();
  return VALGRIND_COUNT_ERRORS - before;
}

bool UnderValgrind() {
  if (RUNNING_ON_VALGRIND) return true;
  MESSAGE("looks at nothing: not under valgrind");
  return false;
}

// Without a complaint, unlike VALGRIND_CHECK_MEM_IS_DEFINED.
bool IsUndefined(const void* memory, size_t byte_count) {
  std::vector<uint8_t> bits(byte_count);
  return VALGRIND_GET_VBITS(memory, bits.data(), byte_count) == 1 &&
         std::all_of(bits.begin(), bits.end(), [](uint8_t undefined) { return undefined == 0xff; });
}

constexpr size_t kBytesMax = 9 * 4096;

}  // namespace

TEST_SUITE("constant time") {
#if defined(__x86_64__)
  TEST_CASE("valgrind's processor runs AES-NI and portable") {
    if (!UnderValgrind()) return;
    CHECK(xts::KernelByName("aesni").ok());
    CHECK(xts::KernelByName("portable").ok());
    CHECK_FALSE(xts::KernelByName("vaes256").ok());
    CHECK_FALSE(xts::KernelByName("vaes512").ok());
  }
#endif

  TEST_CASE("no branch and no address depends on the key or the plaintext") {
    if (!UnderValgrind()) return;
    Random random(Seed());
    std::vector<uint8_t> bytes(kBytesMax), apart(kBytesMax);
    for (const size_t key_length : kKeyLengths) {
      TestKey key = ExpandKey(random.Take(key_length));
      const unsigned complaints = ComplaintsDuring([&] {
        VALGRIND_MAKE_MEM_UNDEFINED(key.bytes.data(), key.bytes.size());
        xts::ExpandXtsKey(key.bytes, *key.schedule);
      });
      CHECK(complaints == 0);
      // The expanded key is undefined indeed, or the rest would show nothing.
      CHECK(IsUndefined(key.schedule->data_encrypt[9], 16));
      for (const xts::Kernel* kernel : UsableKernels()) {
        for (const uint32_t sector_bytes : {512, 4096}) {
          for (const size_t count : {1, 9}) {
            for (const Direction direction : kDirections) {
              INFO(NameOf(*kernel) << ", AES-" << key_length * 4 << ", " << count << " x " << sector_bytes);
              const unsigned in_run = ComplaintsDuring([&] {
                VALGRIND_MAKE_MEM_UNDEFINED(bytes.data(), bytes.size());
                Transform(*kernel, direction, key, bytes.data(), bytes.data(), {77, sector_bytes, count});
                VALGRIND_MAKE_MEM_UNDEFINED(bytes.data(), bytes.size());
                Transform(*kernel, direction, key, bytes.data(), apart.data(), {77, sector_bytes, count});
              });
              CHECK(in_run == 0);
            }
          }
        }
      }
      VALGRIND_MAKE_MEM_DEFINED(key.bytes.data(), key.bytes.size());
      VALGRIND_MAKE_MEM_DEFINED(key.schedule.get(), sizeof *key.schedule);
    }
  }

  TEST_CASE("key halves are compared without a branch") {
    if (!UnderValgrind()) return;
    Random random(Seed());
    for (const size_t key_length : kKeyLengths) {
      std::vector<uint8_t> key = random.Take(key_length);
      bool equal = true;
      const unsigned complaints = ComplaintsDuring([&] {
        VALGRIND_MAKE_MEM_UNDEFINED(key.data(), key.size());
        equal = xts::HalvesAreEqual(key);
        VALGRIND_MAKE_MEM_DEFINED(&equal, sizeof equal);
      });
      CHECK(complaints == 0);
      CHECK_FALSE(equal);
      VALGRIND_MAKE_MEM_DEFINED(key.data(), key.size());
    }
  }
}

// Controls: valgrind complains here, so these run apart.
TEST_SUITE("leaks") {
  TEST_CASE("an address that depends on a key byte is noticed") {
    if (!UnderValgrind()) return;
    Random random(Seed());
    const std::vector<uint8_t> table = random.Take(256);
    std::vector<uint8_t> key = random.Take(64);
    VALGRIND_MAKE_MEM_UNDEFINED(key.data(), key.size());
    [[maybe_unused]] volatile uint8_t looked_up;
    CHECK(ComplaintsDuring([&] { looked_up = table[key[5]]; }) > 0);
  }

  TEST_CASE("a branch on a bit of an expanded key is noticed") {
    if (!UnderValgrind()) return;
    Random random(Seed());
    TestKey key = ExpandKey(random.Take(64));
    VALGRIND_MAKE_MEM_UNDEFINED(key.bytes.data(), key.bytes.size());
    xts::ExpandXtsKey(key.bytes, *key.schedule);
    volatile int branches = 0;
    CHECK(ComplaintsDuring([&] {
            if (key.schedule->tweak_encrypt[14][3] & 1) branches = branches + 1;
          }) > 0);
  }

  TEST_CASE("a branch on what a kernel gives is noticed") {
    if (!UnderValgrind()) return;
    Random random(Seed());
    TestKey key = ExpandKey(random.Take(64));
    VALGRIND_MAKE_MEM_UNDEFINED(key.bytes.data(), key.bytes.size());
    xts::ExpandXtsKey(key.bytes, *key.schedule);
    for (const xts::Kernel* kernel : UsableKernels()) {
      INFO(NameOf(*kernel));
      std::vector<uint8_t> sector(512);
      Transform(*kernel, Direction::kEncrypt, key, sector.data(), sector.data(), {0, 512, 1});
      volatile int branches = 0;
      CHECK(ComplaintsDuring([&] {
              if (sector[500] & 1) branches = branches + 1;
            }) > 0);
    }
  }
}

}  // namespace volseal::xts_test
