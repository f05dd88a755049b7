#include "harness.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>

#include "xts/dispatch.h"

namespace volseal::xts_test {
namespace {

std::map<std::string_view, size_t>& Counts() {
  static std::map<std::string_view, size_t> counts;
  return counts;
}

uint64_t NumberFrom(const char* variable, uint64_t otherwise) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 0);
}

}  // namespace

std::vector<const xts::Kernel*> UsableKernels() {
  std::vector<const xts::Kernel*> kernels;
  for (const xts::Candidate& candidate : xts::Candidates()) {
    if (candidate.kernel != nullptr) kernels.push_back(candidate.kernel);
  }
  return kernels;
}

const xts::Kernel& Portable() { return *xts::KernelByName("portable").value(); }

uint64_t Seed() {
  static const uint64_t seed = NumberFrom("VOLSEAL_TEST_SEED", std::random_device()());
  return seed;
}

size_t TestEvery() {
  static const size_t every = NumberFrom("VOLSEAL_TEST_EVERY", 1);
  return every;
}

uint64_t Random::Next() {
  uint64_t mixed = state_ += 0x9e3779b97f4a7c15;
  mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
  mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
  return mixed ^ mixed >> 31;
}

std::vector<uint8_t> Random::Take(size_t count) {
  std::vector<uint8_t> bytes((count + 7) / 8 * 8);
  for (size_t i = 0; i < bytes.size(); i += 8) StoreLittle64(bytes.data() + i, Next());
  bytes.resize(count);
  return bytes;
}

TestKey ExpandKey(std::vector<uint8_t> bytes) {
  TestKey key = {std::move(bytes), std::make_unique<xts::KeySchedule>()};
  xts::ExpandXtsKey(key.bytes, *key.schedule);
  return key;
}

void Transform(const xts::Kernel& kernel, Direction direction, const TestKey& key, const uint8_t* source,
               uint8_t* target, xts::SectorRun run) {
  (direction == Direction::kEncrypt ? kernel.encrypt : kernel.decrypt)(*key.schedule, source, target, run);
  ++Counts()[kernel.name];
}

std::string Describe(const xts::Kernel& kernel, Direction direction, const TestKey& key, xts::SectorRun run) {
  return std::string(kernel.name) + ", AES-" + std::to_string(key.bytes.size() * 4) +
         (direction == Direction::kEncrypt ? ", encrypt, " : ", decrypt, ") + std::to_string(run.sector_count) + " x " +
         std::to_string(run.sector_bytes) + " bytes from unit " + std::to_string(run.first_unit) + ", seed " +
         std::to_string(Seed());
}

void PrintCounts() {
  for (const auto& [name, count] : Counts()) {
    std::printf("ran %.*s %zu times\n", static_cast<int>(name.size()), name.data(), count);
  }
}

}  // namespace volseal::xts_test
