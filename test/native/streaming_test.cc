// Large runs out of place, which the kernels that can store past the caches.
#include <doctest/doctest.h>

#include <cstring>

#include "guarded_pages.h"
#include "harness.h"
#include "textbook_xts.h"

namespace volseal::xts_test {
namespace {

constexpr size_t kPageBytes = 65536;
constexpr size_t kRoomBytes = xts::kStreamFromBytes + 2 * kPageBytes;
constexpr uint8_t kCanary = 0xe7;

bool AllAre(const uint8_t* from, const uint8_t* to, uint8_t value) {
  while (from != to && *from == value) ++from;
  return from == to;
}

// Whether single sectors of a run, the outermost ones and some between, are the textbook's.
bool SectorsAreRight(const TestKey& key, const uint8_t* plaintext, const uint8_t* ciphertext, xts::SectorRun run,
                     Random& random) {
  std::vector<size_t> sectors = {0, 1, run.sector_count - 2, run.sector_count - 1};
  for (int i = 0; i < 60; ++i) sectors.push_back(random.Below(run.sector_count));
  for (const size_t sector : sectors) {
    const size_t start = sector * run.sector_bytes;
    const std::vector<uint8_t> expected =
        textbook::EncryptSectors(key.bytes, Bytes(plaintext + start, run.sector_bytes), run.sector_bytes,
                                 run.first_unit + start / xts::kTweakUnitBytes);
    if (std::memcmp(ciphertext + start, expected.data(), run.sector_bytes) != 0) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("runs large enough for streaming stores give the bytes of an in-place run, wherever they lie") {
  Random random(Seed());
  const std::vector<uint8_t> content = random.Take(kRoomBytes);
  const GuardedPages sources(kRoomBytes), targets(kRoomBytes);
  std::vector<uint8_t> in_place(kRoomBytes);
  for (const xts::Kernel* kernel : UsableKernels()) {
    if (kernel->stream_copy == nullptr) continue;
    struct Case {
      size_t key_length;
      uint32_t sector_bytes;
      size_t extra_sectors;  // beyond kStreamFromBytes
      size_t target_offset;  // from a page's start: 16 is where Node's large Buffers lie
    };
    for (const Case& each : {Case{64, 512, 0, 0}, Case{64, 512, 3, 16}, Case{32, 512, 33, 48}, Case{64, 4096, 1, 16},
                             Case{32, 4096, 0, 1}, Case{64, 1024, 5, 1}, Case{32, 2048, 2, 16}}) {
      const TestKey key = ExpandKey(random.Take(each.key_length));
      const xts::SectorRun run = {random.Next(), each.sector_bytes,
                                  xts::kStreamFromBytes / each.sector_bytes + each.extra_sectors};
      const size_t byte_count = run.sector_count * run.sector_bytes;
      const uint8_t* const source =
          static_cast<const uint8_t*>(std::memcpy(sources.Back(byte_count), content.data(), byte_count));
      for (const Direction direction : kDirections) {
        INFO(Describe(*kernel, direction, key, run) << ", target at " << each.target_offset);
        std::memcpy(in_place.data(), content.data(), byte_count);
        Transform(*kernel, direction, key, in_place.data(), in_place.data(), run);

        std::memset(targets.Front(), kCanary, kRoomBytes);
        uint8_t* const target = targets.Front() + each.target_offset;
        Transform(*kernel, direction, key, source, target, run);
        CHECK(std::memcmp(target, in_place.data(), byte_count) == 0);
        CHECK(std::memcmp(source, content.data(), byte_count) == 0);
        CHECK(AllAre(targets.Front(), target, kCanary));
        CHECK(AllAre(target + byte_count, targets.Front() + kRoomBytes, kCanary));
        const bool encrypts = direction == Direction::kEncrypt;
        CHECK(SectorsAreRight(key, encrypts ? source : target, encrypts ? target : source, run, random));

        // The last byte before the page behind; byte_count is a multiple of 16, so this one streams as well.
        Transform(*kernel, direction, key, source, targets.Back(byte_count), run);
        CHECK(std::memcmp(targets.Back(byte_count), in_place.data(), byte_count) == 0);
      }
    }
  }
}

TEST_CASE("stream_copy copies, and touches nothing else") {
  Random random(Seed());
  const GuardedPages sources(kPageBytes), targets(kPageBytes);
  for (const xts::Kernel* kernel : UsableKernels()) {
    if (kernel->stream_copy == nullptr) continue;
    for (const size_t byte_count : {512, 1024, 4096 - 512, 65536}) {
      const std::vector<uint8_t> content = random.Take(byte_count);
      std::memcpy(sources.Back(byte_count), content.data(), byte_count);
      std::memset(targets.Front(), kCanary, kPageBytes);
      kernel->stream_copy(sources.Back(byte_count), targets.Back(byte_count), byte_count);
      INFO(NameOf(*kernel) << ", " << byte_count);
      CHECK(std::memcmp(targets.Back(byte_count), content.data(), byte_count) == 0);
      CHECK(AllAre(targets.Front(), targets.Back(byte_count), kCanary));
    }
  }
}

}  // namespace volseal::xts_test
