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
// The two are the same address or do not overlap. No alignment is asked for. Never fails, never allocates, leaves no
// tweak or round key on the stack; takes about 1 KiB of stack, the portable kernel 64 KiB (it wipes what it may have
// spilled). Safe from any thread.
using Transform = void (*)(const KeySchedule& key, const uint8_t* source, uint8_t* target, SectorRun run);

struct Kernel {
  std::string_view name;  // "aesni", "portable"
  Transform encrypt;
  Transform decrypt;
};

// The kernels this processor and operating system can run, fastest first; decided once, never empty.
std::span<const Kernel> Kernels();

// The kernel of that name, or nullptr where this machine cannot run it (tests force each one through here).
const Kernel* KernelByName(std::string_view name);

}  // namespace volseal::xts
