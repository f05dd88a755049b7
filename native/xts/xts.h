// AES-XTS over runs of sectors: the contract every kernel keeps. No instruction set appears here.
// IEEE Std 1619-2007; NIST SP 800-38E. One sector is one data unit; its tweak is the 16-byte little-endian encoding of
// its position in 512-byte units ("plain64"), so a 4096-byte sector advances the tweak by 8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace volseal::xts {

struct KeySchedule;  // expanded round keys, about 2.7 KiB (key_schedule.h); lives in the vault's locked pages only

constexpr size_t kTweakUnitBytes = 512;

constexpr bool IsSectorSize(uint64_t bytes) { return bytes == 512 || bytes == 1024 || bytes == 2048 || bytes == 4096; }

struct SectorRun {
  uint64_t first_unit;    // position of the first sector, in 512-byte units from the segment's start
  uint32_t sector_bytes;  // 512, 1024, 2048 or 4096
  size_t sector_count;    // >= 1
};

// Transforms run.sector_count * run.sector_bytes bytes from `source` to `target`.
// The two are the same address or do not overlap. No alignment is asked for. Tweaks count modulo 2^64. Never fails,
// never allocates, leaves no tweak or round key on the stack or in a vector register; takes up to 8 KiB of stack, the
// portable kernel 65 KiB (it wipes what it may have spilled). Safe from any thread.
using Transform = void (*)(const KeySchedule& key, const uint8_t* source, uint8_t* target, SectorRun run);

struct Kernel {
  std::string_view name;  // "vaes512", "vaes256", "aesni", "armv8", "portable"
  std::string_view form;  // which of the forms of that name, as a phrase for people; "" where there is one
  int vector_bits;        // of the vectors it works in
  Transform encrypt;
  Transform decrypt;

  // For benchmarks. What the AES units can do at all: passes `byte_count` bytes (in steps of 12 vectors) through
  // 14 rounds in registers, no memory touched. nullptr where the kernel uses no AES instruction.
  void (*run_rounds_only)(size_t byte_count);
  // For benchmarks. Copies with the stores that the kernel uses past the caches. `target` is 16-aligned, `byte_count` a
  // multiple of 512. nullptr where the kernel has no such stores.
  void (*stream_copy)(const uint8_t* source, uint8_t* target, size_t byte_count);
};

// Out of place and from this size on, kernels that have streaming stores write past the caches: well beyond what a
// core's share of the last-level cache holds, so that neither buffer would be found there again. Measured on Zen 5 with
// 32 MiB of L3: 8 MiB gains nothing, 64 MiB a third.
constexpr size_t kStreamFromBytes = size_t{32} << 20;

}  // namespace volseal::xts
