#include "xts/self_test.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "base/wipe.h"
#include "xts/key_schedule.h"

namespace volseal::xts {
namespace {

// IEEE 1619-2007, annex B: the plaintext is 00 01 .. ff 00 01 .. ff; of the ciphertext the first and the last 32 bytes.
struct KnownAnswer {
  const char* name;
  uint8_t key[64];
  size_t key_bytes;
  uint64_t unit;
  uint8_t first[32];
  uint8_t last[32];
};

constexpr KnownAnswer kKnownAnswers[] = {
    {"vector 10 (AES-256)",
     {0x27, 0x18, 0x28, 0x18, 0x28, 0x45, 0x90, 0x45, 0x23, 0x53, 0x60, 0x28, 0x74, 0x71, 0x35, 0x26,
      0x62, 0x49, 0x77, 0x57, 0x24, 0x70, 0x93, 0x69, 0x99, 0x59, 0x57, 0x49, 0x66, 0x96, 0x76, 0x27,
      0x31, 0x41, 0x59, 0x26, 0x53, 0x58, 0x97, 0x93, 0x23, 0x84, 0x62, 0x64, 0x33, 0x83, 0x27, 0x95,
      0x02, 0x88, 0x41, 0x97, 0x16, 0x93, 0x99, 0x37, 0x51, 0x05, 0x82, 0x09, 0x74, 0x94, 0x45, 0x92},
     64,
     0xff,
     {0x1c, 0x3b, 0x3a, 0x10, 0x2f, 0x77, 0x03, 0x86, 0xe4, 0x83, 0x6c, 0x99, 0xe3, 0x70, 0xcf, 0x9b,
      0xea, 0x00, 0x80, 0x3f, 0x5e, 0x48, 0x23, 0x57, 0xa4, 0xae, 0x12, 0xd4, 0x14, 0xa3, 0xe6, 0x3b},
     {0x77, 0x3d, 0xad, 0x38, 0x01, 0x4b, 0xd2, 0x09, 0x2f, 0xa7, 0x55, 0xc8, 0x24, 0xbb, 0x5e, 0x54,
      0xc4, 0xf3, 0x6f, 0xfd, 0xa9, 0xfc, 0xea, 0x70, 0xb9, 0xc6, 0xe6, 0x93, 0xe1, 0x48, 0xc1, 0x51}},
    {"vector 4 (AES-128)",
     {0x27, 0x18, 0x28, 0x18, 0x28, 0x45, 0x90, 0x45, 0x23, 0x53, 0x60, 0x28, 0x74, 0x71, 0x35, 0x26,
      0x31, 0x41, 0x59, 0x26, 0x53, 0x58, 0x97, 0x93, 0x23, 0x84, 0x62, 0x64, 0x33, 0x83, 0x27, 0x95},
     32,
     0,
     {0x27, 0xa7, 0x47, 0x9b, 0xef, 0xa1, 0xd4, 0x76, 0x48, 0x9f, 0x30, 0x8c, 0xd4, 0xcf, 0xa6, 0xe2,
      0xa9, 0x6e, 0x4b, 0xbe, 0x32, 0x08, 0xff, 0x25, 0x28, 0x7d, 0xd3, 0x81, 0x96, 0x16, 0xe8, 0x9c},
     {0xeb, 0x4a, 0x42, 0x7d, 0x19, 0x23, 0xce, 0x3f, 0xf2, 0x62, 0x73, 0x57, 0x79, 0xa4, 0x18, 0xf2,
      0x0a, 0x28, 0x2d, 0xf9, 0x20, 0x14, 0x7b, 0xea, 0xbe, 0x42, 0x1e, 0xe5, 0x31, 0x9d, 0x05, 0x68}}};

constexpr size_t kAnswerBytes = 512;
// Runs that go through every part of a kernel: more than two batches and an odd end of the smallest sectors, and a
// batch and an end of the others, whose tweaks are made in another way. The sector numbers cross 2^32.
constexpr SectorRun kRuns[] = {
    {0xfffffff8, 512, 67}, {0xfffffff8, 1024, 19}, {0xfffffff8, 2048, 11}, {0xfffffff8, 4096, 6}};

Status Wrong(const Kernel& kernel, const std::string& what) {
  return Failure(Code::kSelfTest, "the self-test of the cipher failed: kernel " + std::string(kernel.name) + ", " +
                                      what + ": the processor, its memory or this build gives wrong bytes");
}

std::vector<uint8_t> CountingBytes(size_t count) {
  std::vector<uint8_t> bytes(count);
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<uint8_t>(i);
  return bytes;
}

Status TestKnownAnswer(const Kernel& kernel, const KnownAnswer& answer, const KeySchedule& schedule) {
  const auto plaintext = CountingBytes(kAnswerBytes);
  std::vector<uint8_t> bytes(kAnswerBytes);
  const SectorRun run = {answer.unit, kAnswerBytes, 1};
  kernel.encrypt(schedule, plaintext.data(), bytes.data(), run);
  if (std::memcmp(bytes.data(), answer.first, sizeof answer.first) != 0 ||
      std::memcmp(bytes.data() + kAnswerBytes - sizeof answer.last, answer.last, sizeof answer.last) != 0) {
    return Wrong(kernel, std::string("encrypting IEEE 1619 ") + answer.name);
  }
  kernel.decrypt(schedule, bytes.data(), bytes.data(), run);
  if (bytes != plaintext) return Wrong(kernel, std::string("decrypting IEEE 1619 ") + answer.name);
  return Ok();
}

// All kernels on one run, the last one's ciphertext being right.
Status TestRun(std::span<const Kernel* const> kernels, const KnownAnswer& answer, const KeySchedule& schedule,
               const SectorRun& run) {
  const auto plaintext = CountingBytes(run.sector_count * run.sector_bytes);
  std::vector<uint8_t> expected(plaintext.size()), bytes(plaintext.size());
  kernels.back()->encrypt(schedule, plaintext.data(), expected.data(), run);
  for (const Kernel* kernel : kernels) {
    const std::string what = " sectors of " + std::to_string(run.sector_bytes) + " bytes, key of " + answer.name;
    kernel->encrypt(schedule, plaintext.data(), bytes.data(), run);
    if (bytes != expected) return Wrong(*kernel, "encrypting" + what);
    kernel->decrypt(schedule, bytes.data(), bytes.data(), run);
    if (bytes != plaintext) return Wrong(*kernel, "decrypting" + what);
  }
  return Ok();
}

}  // namespace

Status TestKernels(std::span<const Kernel* const> kernels) {
  const auto schedule = std::make_unique<KeySchedule>();  // of public keys: no locked memory needed
  for (const KnownAnswer& answer : kKnownAnswers) {
    ExpandXtsKey({answer.key, answer.key_bytes}, *schedule);
    for (const Kernel* kernel : kernels) {
      if (Status status = TestKnownAnswer(*kernel, answer, *schedule); !status.ok()) return status;
    }
    for (const SectorRun& run : kRuns) {
      if (Status status = TestRun(kernels, answer, *schedule, run); !status.ok()) return status;
    }
  }
  return Ok();
}

Status SelfTest() {
  static const Status outcome = [] {
    std::vector<const Kernel*> kernels;
    for (const Candidate& candidate : Candidates()) {
      if (candidate.kernel) kernels.push_back(candidate.kernel);
    }
    return TestKernels(kernels);
  }();
  return outcome;
}

}  // namespace volseal::xts
