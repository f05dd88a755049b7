// No kernel reads or writes a byte outside its buffers, however far ahead it works.
#include "guarded_pages.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "harness.h"
#include "textbook_xts.h"

namespace volseal::xts_test {
namespace {

constexpr size_t kCounts[] = {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65};
constexpr size_t kSectorsMax = 65;
constexpr size_t kRoomBytes = size_t{kSectorsMax + 15} * 4096;

enum class Place { kFront, kBack };

uint8_t* At(const GuardedPages& pages, Place place, size_t byte_count) {
  return place == Place::kFront ? pages.Front() : pages.Back(byte_count);
}

struct Expectation {
  TestKey key;
  std::vector<uint8_t> plaintext;
  std::vector<uint8_t> ciphertext;
};

bool IsRight(const xts::Kernel& kernel, Direction direction, const Expectation& expected, const uint8_t* source,
             uint8_t* target, xts::SectorRun run) {
  const size_t byte_count = run.sector_count * run.sector_bytes;
  const bool encrypts = direction == Direction::kEncrypt;
  // Through a pointer of another name: `source` may be `target`.
  std::memcpy(const_cast<uint8_t*>(source), (encrypts ? expected.plaintext : expected.ciphertext).data(), byte_count);
  Transform(kernel, direction, expected.key, source, target, run);
  return std::memcmp(target, (encrypts ? expected.ciphertext : expected.plaintext).data(), byte_count) == 0;
}

}  // namespace

TEST_CASE("buffers may touch pages that may not be touched") {
  Random random(Seed());
  const GuardedPages sources(kRoomBytes), targets(kRoomBytes);
  const uint64_t unit = random.Next();
  for (const size_t key_length : kKeyLengths) {
    for (const uint32_t sector_bytes : kSectorSizes) {
      Expectation expected = {ExpandKey(random.Take(key_length)), random.Take(kSectorsMax * sector_bytes), {}};
      expected.ciphertext = textbook::EncryptSectors(expected.key.bytes, expected.plaintext, sector_bytes, unit);
      for (const xts::Kernel* kernel : UsableKernels()) {
        for (const size_t count : kCounts) {
          const xts::SectorRun run = {unit, sector_bytes, count};
          const size_t byte_count = count * sector_bytes;
          for (const Direction direction : kDirections) {
            for (const Place place : {Place::kFront, Place::kBack}) {
              uint8_t* const source = At(sources, place, byte_count);
              INFO(Describe(*kernel, direction, expected.key, run) << (place == Place::kFront ? ", front" : ", back"));
              CHECK(IsRight(*kernel, direction, expected, source, source, run));
              for (const Place target : {Place::kFront, Place::kBack}) {
                CHECK(IsRight(*kernel, direction, expected, source, At(targets, target, byte_count), run));
              }
            }
          }
        }
      }
    }
  }
}

// A control: the pages would end a program that strays.
TEST_CASE("a byte outside the guarded pages ends the program") {
  for (const bool behind : {false, true}) {
    const pid_t child = fork();
    if (child == 0) {
      // doctest's own handler of the signal would report a failed test.
      signal(SIGSEGV, SIG_DFL);
      const GuardedPages pages(65536);
      const volatile uint8_t* const stray = behind ? pages.Back(0) : pages.Front() - 1;
      _exit(*stray);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGSEGV);
  }
}

}  // namespace volseal::xts_test
