// What the tests of the cipher share: the kernels to test, keys and bytes that a seed repeats, and a count of what was
// judged, which the program prints at its end.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "xts/key_schedule.h"
#include "xts/xts.h"

namespace volseal::xts_test {

// The kernels this machine can run, in the order of preference, each in all its forms: first the one that it would run.
std::vector<const xts::Kernel*> UsableKernels();

// "vaes512, tweaks by shifts".
std::string NameOf(const xts::Kernel& kernel);

// The kernel that needs no instruction set.
const xts::Kernel& Portable();

// VOLSEAL_TEST_SEED, or a new one.
uint64_t Seed();

// Long loops test one in so many cases: VOLSEAL_TEST_EVERY, else 1. For emulators.
size_t TestEvery();

// Numbers that a seed decides (SplitMix64).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next();
  uint64_t Below(uint64_t limit) { return Next() % limit; }
  std::vector<uint8_t> Take(size_t count);

 private:
  uint64_t state_;
};

struct TestKey {
  std::vector<uint8_t> bytes;  // Key1 then Key2
  std::unique_ptr<xts::KeySchedule> schedule;
};

TestKey ExpandKey(std::vector<uint8_t> bytes);

inline constexpr size_t kKeyLengths[] = {64, 32};
inline constexpr uint32_t kSectorSizes[] = {512, 1024, 2048, 4096};

enum class Direction { kEncrypt, kDecrypt };
inline constexpr Direction kDirections[] = {Direction::kEncrypt, Direction::kDecrypt};

// Calls the kernel, and counts the call for PrintCounts.
void Transform(const xts::Kernel& kernel, Direction direction, const TestKey& key, const uint8_t* source,
               uint8_t* target, xts::SectorRun run);

// "vaes512, AES-256, decrypt, 70 x 512 bytes from unit 4294967290, seed 5".
std::string Describe(const xts::Kernel& kernel, Direction direction, const TestKey& key, xts::SectorRun run);

// One line for each kernel that ran: "ran vaes512 4711 times".
void PrintCounts();

}  // namespace volseal::xts_test
