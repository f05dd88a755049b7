// The AES-NI kernel: 128-bit vectors, for every x86-64 processor since 2010 that has no VAES.
//
// Eight blocks are in flight, which covers the latency of aesenc; the next eight tweaks are made between the rounds of
// this group, where the AES unit leaves issue slots free; and the first tweaks of eight sectors are encrypted together,
// so that no sector waits for a serial AES of its own. 16 registers: 8 data, 1 round key, 1 tweak, 3 for the doubling.
// No inline function of the standard library may be compiled here: the linker could keep that copy for all processors.
#include <immintrin.h>

#include "base/wipe.h"
#include "xts/kernels.h"
#include "xts/key_schedule.h"

namespace volseal::xts {
namespace {

#define VOLSEAL_INLINE inline __attribute__((always_inline))

constexpr int kBlocks = 8;
constexpr size_t kGroupBytes = kBlocks * 16;

enum class Direction { kEncrypt, kDecrypt };

struct Work {
  alignas(64) __m128i bases[2][kBlocks];   // first tweaks of eight sectors, and of the next eight
  alignas(64) __m128i tweaks[2][kBlocks];  // of the group in flight, and of the next one
};

// Loads a round key once a round. The barrier behind the load keeps the key in its register for all eight blocks; the
// one before it keeps compilers from loading a key once for the whole run and spilling it to the stack.
VOLSEAL_INLINE __m128i LoadKey(const uint8_t* key) {
  asm volatile("" : "+r"(key));
  __m128i value = _mm_load_si128(reinterpret_cast<const __m128i*>(key));
  asm volatile("" : "+x"(value));
  return value;
}

// Times x in GF(2^128) (IEEE 1619, 5.2): doubles both halves, then adds 0x87 for the bit that left the high half and 1
// to the high half for the bit that left the low one.
VOLSEAL_INLINE __m128i Double(__m128i tweak) {
  const __m128i signs = _mm_srai_epi32(_mm_shuffle_epi32(tweak, 0x13), 31);
  return _mm_xor_si128(_mm_add_epi64(tweak, tweak), _mm_and_si128(signs, _mm_set_epi64x(1, 0x87)));
}

// The first tweaks of eight sectors, from sector number `unit` (in 512-byte units) on.
template <int kRounds>
VOLSEAL_INLINE void EncryptBases(const RoundKeys& keys, uint64_t unit, uint64_t units_per_sector, __m128i* bases) {
  __m128i block[kBlocks];
  const __m128i first = LoadKey(keys[0]);
#pragma GCC unroll 8
  for (int i = 0; i < kBlocks; ++i) {
    block[i] = _mm_xor_si128(_mm_set_epi64x(0, static_cast<long long>(unit + i * units_per_sector)), first);
  }
#pragma GCC unroll 14
  for (int round = 1; round < kRounds; ++round) {
    const __m128i key = LoadKey(keys[round]);
#pragma GCC unroll 8
    for (int i = 0; i < kBlocks; ++i) block[i] = _mm_aesenc_si128(block[i], key);
  }
  const __m128i last = LoadKey(keys[kRounds]);
#pragma GCC unroll 8
  for (int i = 0; i < kBlocks; ++i) bases[i] = _mm_aesenclast_si128(block[i], last);
}

template <Direction kDirection>
VOLSEAL_INLINE __m128i Round(__m128i block, __m128i key) {
  return kDirection == Direction::kEncrypt ? _mm_aesenc_si128(block, key) : _mm_aesdec_si128(block, key);
}

template <Direction kDirection>
VOLSEAL_INLINE __m128i LastRound(__m128i block, __m128i key) {
  return kDirection == Direction::kEncrypt ? _mm_aesenclast_si128(block, key) : _mm_aesdeclast_si128(block, key);
}

// One group of eight blocks with `tweaks`; meanwhile makes the next group's tweaks, `next` and seven doublings of it.
template <Direction kDirection, int kRounds>
VOLSEAL_INLINE void TransformGroup(const RoundKeys& keys, const __m128i* tweaks, __m128i next, __m128i* next_tweaks,
                                   const uint8_t* source, uint8_t* target) {
  __m128i block[kBlocks];
  const __m128i first = LoadKey(keys[0]);
#pragma GCC unroll 8
  for (int i = 0; i < kBlocks; ++i) {
    const __m128i data = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + 16 * i));
    block[i] = _mm_xor_si128(_mm_xor_si128(data, _mm_load_si128(tweaks + i)), first);
  }
#pragma GCC unroll 14
  for (int round = 1; round < kRounds; ++round) {
    const __m128i key = LoadKey(keys[round]);
#pragma GCC unroll 8
    for (int i = 0; i < kBlocks; ++i) block[i] = Round<kDirection>(block[i], key);
    if (round <= kBlocks) {
      _mm_store_si128(next_tweaks + round - 1, next);
      next = Double(next);
    }
  }
  // The last round adds its key after everything else, so the closing tweak can ride on it.
  const __m128i last = LoadKey(keys[kRounds]);
#pragma GCC unroll 8
  for (int i = 0; i < kBlocks; ++i) {
    const __m128i out = LastRound<kDirection>(block[i], _mm_xor_si128(last, _mm_load_si128(tweaks + i)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target + 16 * i), out);
  }
}

template <Direction kDirection, int kRounds>
VOLSEAL_INLINE void RunSectors(const KeySchedule& schedule, const uint8_t* source, uint8_t* target, SectorRun run,
                               Work& work) {
  const RoundKeys& keys = kDirection == Direction::kEncrypt ? schedule.data_encrypt : schedule.data_decrypt;
  const uint64_t units_per_sector = run.sector_bytes / kTweakUnitBytes;
  uint64_t batch_unit = run.first_unit;
  int batch = 0, group = 0, in_batch = 0;
  EncryptBases<kRounds>(schedule.tweak_encrypt, batch_unit, units_per_sector, work.bases[0]);
  __m128i tweak = work.bases[0][0];
#pragma GCC unroll 8
  for (int i = 0; i < kBlocks; ++i) {
    work.tweaks[0][i] = tweak;
    tweak = Double(tweak);
  }
  for (size_t sectors_left = run.sector_count; sectors_left > 0; --sectors_left) {
    const bool batch_ends = in_batch == kBlocks - 1;
    if (in_batch == 0 && sectors_left > kBlocks) {
      batch_unit += kBlocks * units_per_sector;
      EncryptBases<kRounds>(schedule.tweak_encrypt, batch_unit, units_per_sector, work.bases[batch ^ 1]);
    }
    const __m128i* const next_base = batch_ends ? &work.bases[batch ^ 1][0] : &work.bases[batch][in_batch + 1];
    for (size_t done = 0; done < run.sector_bytes; done += kGroupBytes) {
      const bool sector_goes_on = done + kGroupBytes < run.sector_bytes;
      // After the last sector this is a stale base: the tweaks made from it are never used.
      const __m128i next = sector_goes_on ? Double(work.tweaks[group][kBlocks - 1]) : *next_base;
      TransformGroup<kDirection, kRounds>(keys, work.tweaks[group], next, work.tweaks[group ^ 1], source, target);
      group ^= 1;
      source += kGroupBytes;
      target += kGroupBytes;
    }
    in_batch = batch_ends ? 0 : in_batch + 1;
    if (batch_ends) batch ^= 1;
  }
}

VOLSEAL_INLINE void ClearVectorRegisters() {
  asm volatile(
      "pxor %%xmm0,%%xmm0\npxor %%xmm1,%%xmm1\npxor %%xmm2,%%xmm2\npxor %%xmm3,%%xmm3\n"
      "pxor %%xmm4,%%xmm4\npxor %%xmm5,%%xmm5\npxor %%xmm6,%%xmm6\npxor %%xmm7,%%xmm7\n"
      "pxor %%xmm8,%%xmm8\npxor %%xmm9,%%xmm9\npxor %%xmm10,%%xmm10\npxor %%xmm11,%%xmm11\n"
      "pxor %%xmm12,%%xmm12\npxor %%xmm13,%%xmm13\npxor %%xmm14,%%xmm14\npxor %%xmm15,%%xmm15\n" ::
          : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
            "xmm13", "xmm14", "xmm15");
}

template <Direction kDirection, int kRounds>
__attribute__((noinline)) void RunAndForget(const KeySchedule& key, const uint8_t* source, uint8_t* target,
                                            SectorRun run) {
  Work work;
  RunSectors<kDirection, kRounds>(key, source, target, run, work);
  Wipe(&work, sizeof work);
  ClearVectorRegisters();
}

template <Direction kDirection>
void TransformSectors(const KeySchedule& key, const uint8_t* source, uint8_t* target, SectorRun run) {
  if (key.rounds == 14) {
    RunAndForget<kDirection, 14>(key, source, target, run);
  } else {
    RunAndForget<kDirection, 10>(key, source, target, run);
  }
}

}  // namespace

const Kernel kAesniKernel = {"aesni", TransformSectors<Direction::kEncrypt>, TransformSectors<Direction::kDecrypt>};

}  // namespace volseal::xts
