// Every kernel against the textbook: runs of 1 to 200 sectors, at any address, in place and out of place, across the
// sector numbers where a counter of 32 or 64 bits wraps.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "harness.h"
#include "textbook_xts.h"

namespace volseal::xts_test {
namespace {

constexpr size_t kSectorsMax = 200;
constexpr size_t kMarginBytes = 160;
constexpr uint8_t kCanary = 0xe7;

// A stretch of sectors and what it encrypts to.
struct Sample {
  TestKey key;
  uint32_t sector_bytes;
  uint64_t first_unit;
  std::vector<uint8_t> plaintext;
  std::vector<uint8_t> ciphertext;
};

// The wrap comes about in the middle of the stretch; not always between two sectors, which are numbered by their first
// 512 bytes.
std::vector<Sample> MakeSamples(Random& random, size_t key_length, uint32_t sector_bytes) {
  const uint64_t units = kSectorsMax * (sector_bytes / xts::kTweakUnitBytes);
  const uint64_t first_units[] = {random.Next(), (uint64_t{1} << 32) - units / 2 - random.Below(8),
                                  0 - units / 2 - random.Below(8)};
  std::vector<Sample> samples;
  for (const uint64_t first_unit : first_units) {
    TestKey key = ExpandKey(random.Take(key_length));
    std::vector<uint8_t> plaintext = random.Take(kSectorsMax * sector_bytes);
    std::vector<uint8_t> ciphertext = textbook::EncryptSectors(key.bytes, plaintext, sector_bytes, first_unit);
    samples.push_back({std::move(key), sector_bytes, first_unit, std::move(plaintext), std::move(ciphertext)});
  }
  return samples;
}

// What is wrong with one run of `count` sectors of the sample, chosen at random; "" where nothing is.
std::string TryRun(const xts::Kernel& kernel, Direction direction, const Sample& sample, size_t count, Random& random) {
  const size_t start = random.Below(kSectorsMax - count + 1) * sample.sector_bytes;
  const size_t byte_count = count * sample.sector_bytes;
  const bool encrypts = direction == Direction::kEncrypt;
  const uint8_t* const input = (encrypts ? sample.plaintext : sample.ciphertext).data() + start;
  const uint8_t* const expected = (encrypts ? sample.ciphertext : sample.plaintext).data() + start;
  const bool in_place = random.Below(2) == 0;
  const size_t source_offset = random.Below(65), target_offset = random.Below(65);

  alignas(64) static uint8_t source_area[kSectorsMax * 4096 + kMarginBytes];
  alignas(64) static uint8_t target_area[kSectorsMax * 4096 + kMarginBytes];
  const size_t area_bytes = byte_count + kMarginBytes;
  std::memset(target_area, kCanary, area_bytes);
  uint8_t* const target = target_area + target_offset;
  uint8_t* const source = in_place ? target : source_area + source_offset;
  std::memcpy(source, input, byte_count);

  const xts::SectorRun run = {sample.first_unit + start / xts::kTweakUnitBytes, sample.sector_bytes, count};
  Transform(kernel, direction, sample.key, source, target, run);

  const auto is_canary = [](uint8_t byte) { return byte == kCanary; };
  const char* what = "";
  if (std::memcmp(target, expected, byte_count) != 0) {
    what = "other bytes than the textbook's: ";
  } else if (!in_place && std::memcmp(source, input, byte_count) != 0) {
    what = "the source changed: ";
  } else if (!std::all_of(target_area, target, is_canary) ||
             !std::all_of(target + byte_count, target_area + area_bytes, is_canary)) {
    what = "bytes outside the target changed: ";
  } else {
    return "";
  }
  return what + Describe(kernel, direction, sample.key, run) +
         (in_place ? ", in place" : ", source at " + std::to_string(source_offset)) + ", target at " +
         std::to_string(target_offset);
}

}  // namespace

TEST_CASE("every kernel agrees with the textbook on runs of 1 to 200 sectors") {
  for (const size_t key_length : kKeyLengths) {
    for (const uint32_t sector_bytes : kSectorSizes) {
      Random random(Seed() + key_length + sector_bytes);
      const std::vector<Sample> samples = MakeSamples(random, key_length, sector_bytes);
      for (const xts::Kernel* kernel : UsableKernels()) {
        for (size_t count = 1; count <= kSectorsMax; ++count) {
          const bool chosen = (count + Seed()) % TestEvery() == 0 || count == 1 || count == kSectorsMax;
          if (!chosen) continue;
          for (const Direction direction : kDirections) {
            const Sample& sample = samples[random.Below(samples.size())];
            const std::string wrong = TryRun(*kernel, direction, sample, count, random);
            CHECK_MESSAGE(wrong.empty(), wrong);
          }
        }
      }
    }
  }
}

TEST_CASE("every kernel agrees with the textbook at every address from 0 to 64") {
  Random random(Seed());
  const TestKey key = ExpandKey(random.Take(64));
  constexpr size_t kBytes = 3 * 1024;
  const std::vector<uint8_t> plaintext = random.Take(kBytes);
  const std::vector<uint8_t> ciphertext = textbook::EncryptSectors(key.bytes, plaintext, 1024, 7);
  alignas(64) static uint8_t source_area[kBytes + 64], target_area[kBytes + 64];
  for (const xts::Kernel* kernel : UsableKernels()) {
    for (size_t source = 0; source <= 64; source += TestEvery()) {
      for (size_t target = 0; target <= 64; target += TestEvery()) {
        INFO(NameOf(*kernel) << ", source at " << source << ", target at " << target << ", seed " << Seed());
        std::memcpy(source_area + source, plaintext.data(), kBytes);
        Transform(*kernel, Direction::kEncrypt, key, source_area + source, target_area + target, {7, 1024, 3});
        CHECK(std::memcmp(target_area + target, ciphertext.data(), kBytes) == 0);
      }
    }
  }
}

// Few enough for valgrind, which sees a read or write of one byte outside an allocation.
TEST_CASE("every kernel agrees with the textbook in buffers of exactly the run's size") {
  Random random(Seed());
  for (const size_t key_length : kKeyLengths) {
    const TestKey key = ExpandKey(random.Take(key_length));
    for (const uint32_t sector_bytes : kSectorSizes) {
      for (const size_t count : {1, 2, 3, 9}) {
        const xts::SectorRun run = {random.Next(), sector_bytes, count};
        const std::vector<uint8_t> plaintext = random.Take(count * sector_bytes);
        const std::vector<uint8_t> ciphertext =
            textbook::EncryptSectors(key.bytes, plaintext, sector_bytes, run.first_unit);
        for (const xts::Kernel* kernel : UsableKernels()) {
          INFO(Describe(*kernel, Direction::kEncrypt, key, run));
          std::vector<uint8_t> target(plaintext.size());
          Transform(*kernel, Direction::kEncrypt, key, plaintext.data(), target.data(), run);
          CHECK(target == ciphertext);
          Transform(*kernel, Direction::kDecrypt, key, target.data(), target.data(), run);
          CHECK(target == plaintext);
        }
      }
    }
  }
}

}  // namespace volseal::xts_test
