#include "harness.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>

#include "xts/dispatch.h"
#include "xts/kernels.h"

namespace volseal::xts_test {
namespace {

std::map<const xts::Kernel*, size_t>& Counts() {
  static std::map<const xts::Kernel*, size_t> counts;
  return counts;
}

// What other processors would run under that name.
std::vector<const xts::Kernel*> OtherForms(const xts::Kernel& kernel) {
  std::vector<const xts::Kernel*> others;
#if defined(__x86_64__)
  for (const xts::Kernel* const other :
       {&xts::kVaes512Kernel, &xts::kVaes512IntelKernel, &xts::kVaes256Kernel, &xts::kVaes256IntelKernel,
        &xts::kVaes256Zen3Kernel, &xts::kAesniKernel, &xts::kAesniZen3Kernel}) {
    if (other != &kernel && other->name == kernel.name) others.push_back(other);
  }
#endif
  static_cast<void>(kernel);
  return others;
}

uint64_t NumberFrom(const char* variable, uint64_t otherwise) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 0);
}

}  // namespace

std::vector<const xts::Kernel*> UsableKernels() {
  std::vector<const xts::Kernel*> kernels;
  for (const xts::Candidate& candidate : xts::Candidates()) {
    if (candidate.kernel == nullptr) continue;
    kernels.push_back(candidate.kernel);
    for (const xts::Kernel* const other : OtherForms(*candidate.kernel)) kernels.push_back(other);
  }
  return kernels;
}

std::string NameOf(const xts::Kernel& kernel) {
  return std::string(kernel.name) + (kernel.form.empty() ? "" : ", " + std::string(kernel.form));
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
  ++Counts()[&kernel];
}

std::string Describe(const xts::Kernel& kernel, Direction direction, const TestKey& key, xts::SectorRun run) {
  return NameOf(kernel) + ", AES-" + std::to_string(key.bytes.size() * 4) +
         (direction == Direction::kEncrypt ? ", encrypt, " : ", decrypt, ") + std::to_string(run.sector_count) + " x " +
         std::to_string(run.sector_bytes) + " bytes from unit " + std::to_string(run.first_unit) + ", seed " +
         std::to_string(Seed());
}

void PrintCounts() {
  for (const auto& [kernel, count] : Counts()) std::printf("ran %s %zu times\n", NameOf(*kernel).c_str(), count);
}

}  // namespace volseal::xts_test
