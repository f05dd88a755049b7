// After a call no round key, no part of the key and no tweak is left, on the stack or in a register.
#include "residue.h"

#include <doctest/doctest.h>

#include <cstring>
#include <memory>

#include "harness.h"
#include "textbook_xts.h"

namespace volseal::xts_test {
namespace {

// How far kernels work ahead of the run's end: two batches of bases, at most 32 KiB each.
constexpr size_t kAheadBytes = 64 * 1024;

Secrets RoundKeysOf(const TestKey& key) {
  const size_t bytes = (key.schedule->rounds + 1) * size_t{16};
  Secrets secrets;
  secrets.Add("a round key (data, encrypt)", {key.schedule->data_encrypt[0], bytes});
  secrets.Add("a round key (data, decrypt)", {key.schedule->data_decrypt[0], bytes});
  secrets.Add("a round key (tweak)", {key.schedule->tweak_encrypt[0], bytes});
  secrets.Add("the key", key.bytes);
  secrets.Sort();
  return secrets;
}

Secrets TweaksOf(const TestKey& key, xts::SectorRun run) {
  Secrets secrets;
  for (size_t at = 0; at < run.sector_count * run.sector_bytes + kAheadBytes; at += run.sector_bytes) {
    const auto tweaks = textbook::UnitTweaks(key.bytes, run.first_unit + at / 512, run.sector_bytes / 16);
    for (const textbook::Block& tweak : tweaks) secrets.Add("a tweak", tweak);
  }
  secrets.Sort();
  return secrets;
}

struct Buffers {
  explicit Buffers(Random& random, xts::SectorRun run)
      : source(random.Take(run.sector_count * run.sector_bytes)), target(source.size() + 64) {
    aligned = target.data() + (16 - reinterpret_cast<uintptr_t>(target.data()) % 16) % 16;
  }
  std::vector<uint8_t> source;
  std::vector<uint8_t> target;
  uint8_t* aligned;  // the target, at an address from which kernels stream
};

void CheckLeavesNothing(const std::vector<const xts::Kernel*>& kernels, xts::SectorRun run, Random& random) {
  for (const size_t key_length : kKeyLengths) {
    const TestKey key = ExpandKey(random.Take(key_length));
    const Secrets round_keys = RoundKeysOf(key), tweaks = TweaksOf(key, run);
    Buffers buffers(random, run);
    for (const xts::Kernel* kernel : kernels) {
      for (const Direction direction : kDirections) {
        INFO(Describe(*kernel, direction, key, run));
        const xts::Transform transform = direction == Direction::kEncrypt ? kernel->encrypt : kernel->decrypt;
        const Remains remains = RemainsOf(transform, *key.schedule, buffers.source.data(), buffers.aligned, run);
        CHECK(round_keys.FindIn(remains.stack) == "");
        CHECK(round_keys.FindIn(remains.vector_registers) == "");
        CHECK(round_keys.FindIn(remains.general_registers) == "");
        CHECK(tweaks.FindIn(remains.stack) == "");
        CHECK(tweaks.FindIn(remains.vector_registers) == "");
        CHECK(tweaks.FindIn(remains.general_registers) == "");
        // The contract of xts.h, and a little for the call itself.
        CHECK(remains.stack_used <= (kernel->name == "portable" ? 64 + 8 : 8) * 1024 + 512);
      }
    }
  }
}

// Controls: each does its work, then leaves something behind.

const xts::Kernel* real_kernel;
textbook::Block known_tweak;

void LeaveRoundKeyOnStack(const xts::KeySchedule& key, const uint8_t* source, uint8_t* target, xts::SectorRun run) {
  real_kernel->encrypt(key, source, target, run);
  uint8_t copy[16];
  std::memcpy(copy, key.data_decrypt[3], sizeof copy);
  asm volatile("" ::"r"(copy) : "memory");
}

void LeaveHalfATweakOnStack(const xts::KeySchedule& key, const uint8_t* source, uint8_t* target, xts::SectorRun run) {
  real_kernel->encrypt(key, source, target, run);
  uint8_t copy[13];
  std::memcpy(copy + 5, known_tweak.data() + 8, 8);
  asm volatile("" ::"r"(copy) : "memory");
}

void LeaveRoundKeyInVectorRegister(const xts::KeySchedule& key, const uint8_t* source, uint8_t* target,
                                   xts::SectorRun run) {
  real_kernel->encrypt(key, source, target, run);
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) {
    asm volatile("vbroadcasti32x4 %0,%%zmm31" ::"m"(key.tweak_encrypt[9]));
  } else {
    asm volatile("movdqu %0,%%xmm15" ::"m"(key.tweak_encrypt[9]) : "xmm15");
  }
#elif defined(__aarch64__)
  asm volatile("ld1 {v31.16b},[%0]" ::"r"(key.tweak_encrypt[9]) : "v31");
#endif
}

void LeaveKeyInGeneralRegister(const xts::KeySchedule& key, const uint8_t* source, uint8_t* target,
                               xts::SectorRun run) {
  real_kernel->encrypt(key, source, target, run);
#if defined(__x86_64__)
  asm volatile("movq %0,%%r11" ::"m"(key.data_encrypt[0]) : "r11");
#elif defined(__aarch64__)
  asm volatile("ldr x17,[%0]" ::"r"(key.data_encrypt[0]) : "x17");
#endif
}

}  // namespace

TEST_CASE("no kernel leaves a key or a tweak behind") {
  Random random(Seed());
  for (const xts::SectorRun run : {xts::SectorRun{random.Next(), 512, 1}, xts::SectorRun{random.Next(), 512, 70},
                                   xts::SectorRun{random.Next(), 4096, 1}, xts::SectorRun{random.Next(), 2048, 33}}) {
    CheckLeavesNothing(UsableKernels(), run, random);
  }
}

TEST_CASE("no kernel leaves a key or a tweak behind when it streams") {
  Random random(Seed());
  std::vector<const xts::Kernel*> kernels;
  for (const xts::Kernel* kernel : UsableKernels()) {
    if (kernel->stream_copy != nullptr) kernels.push_back(kernel);
  }
  if (!kernels.empty()) CheckLeavesNothing(kernels, {random.Next(), 512, xts::kStreamFromBytes / 512 + 3}, random);
}

void ExpandKnownKey(const xts::KeySchedule&, const uint8_t* key, uint8_t* schedule, xts::SectorRun run) {
  xts::ExpandXtsKey({key, run.sector_count}, *reinterpret_cast<xts::KeySchedule*>(schedule));
}

TEST_CASE("key expansion leaves no key on the stack or in a register") {
  Random random(Seed());
  for (const size_t key_length : kKeyLengths) {
    const TestKey key = ExpandKey(random.Take(key_length));
    const auto schedule = std::make_unique<xts::KeySchedule>();
    const Remains remains = RemainsOf(ExpandKnownKey, *schedule, key.bytes.data(),
                                      reinterpret_cast<uint8_t*>(schedule.get()), {0, 0, key_length});
    REQUIRE(std::memcmp(schedule->data_encrypt, key.schedule->data_encrypt, 11 * 16) == 0);
    CHECK(RoundKeysOf(key).FindIn(remains.stack) == "");
    CHECK(RoundKeysOf(key).FindIn(remains.vector_registers) == "");
  }
}

TEST_CASE("what is left behind is found") {
  Random random(Seed());
  const xts::SectorRun run = {random.Next(), 512, 3};
  const TestKey key = ExpandKey(random.Take(64));
  const Secrets round_keys = RoundKeysOf(key), tweaks = TweaksOf(key, run);
  Buffers buffers(random, run);
  known_tweak = textbook::UnitTweaks(key.bytes, run.first_unit + 2, 32)[17];
  const auto remains_of = [&](xts::Transform transform) {
    return RemainsOf(transform, *key.schedule, buffers.source.data(), buffers.aligned, run);
  };
  for (const xts::Kernel* kernel : UsableKernels()) {
    real_kernel = kernel;
    INFO(NameOf(*kernel));
    CHECK(round_keys.FindIn(remains_of(LeaveRoundKeyOnStack).stack) != "");
    CHECK(tweaks.FindIn(remains_of(LeaveHalfATweakOnStack).stack) != "");
    CHECK(round_keys.FindIn(remains_of(LeaveRoundKeyInVectorRegister).vector_registers) != "");
    CHECK(round_keys.FindIn(remains_of(LeaveKeyInGeneralRegister).general_registers) != "");
  }
}

}  // namespace volseal::xts_test
