// The shape that all vector kernels share, as templates over an instruction set; each xts_<isa>.cc supplies the Isa.
//
// What makes it fast, against one sector after the other:
//  - Bases. The bytes are cut into granules of eight vectors. The first tweak of a granule is its base. Bases are made
//  32
//    at a time, one batch ahead: the sector numbers of a batch are encrypted together, so that no sector waits for a
//    serial AES of its own, and inside a sector the next base is x^n times the one before.
//  - Groups. kGranulesInFlight granules go through the rounds together, each round key loaded once for all of them.
//  Between
//    the rounds, where the AES units leave issue slots free, the tweaks of the next group are made from their bases.
//  - The opening and the closing tweak ride on the first and the last round key.
// A group never asks which sector it belongs to, so one inner loop serves every sector size.
//
// Isa has: Vector; kLanes (16-byte blocks a vector); kGranulesInFlight; kPrefetchBytes; Load, Store, Stream, Xor;
// LoadKey; Units (sector numbers as blocks); Open, Round<Direction>, Closing, LoadClosing, Close<Direction>; Tweaks
// (the tweaks of one granule in order); Prefetch, Keep, Fence, ClearRegisters.
//
// Everything here is in an unnamed namespace on purpose: each kernel compiles its own copy with its own flags, and the
// linker must never take one processor's copy for another's.
#pragma once

#include "base/wipe.h"
#include "xts/key_schedule.h"
#include "xts/xts.h"

#define VOLSEAL_INLINE inline __attribute__((always_inline))

namespace volseal::xts {
namespace {

enum class Direction { kEncrypt, kDecrypt };
enum class Stores { kCached, kStreamed };

constexpr int kVectorsPerGranule = 8;
constexpr size_t kBasesPerBatch = 32;
// Tweaks are made in rounds 2 to 9, one a granule and round: AES-128 has no more.
constexpr int kFirstTweakRound = 2;

// A tweak as two halves of a little-endian 128-bit number (IEEE 1619-2007, 5.2).
struct alignas(16) Tweak {
  uint64_t low;
  uint64_t high;
};

// Times x^n in GF(2^128), n <= 56: the n bits that leave the high half come back times x^7 + x^2 + x + 1.
template <int n>
VOLSEAL_INLINE Tweak TimesXPower(Tweak tweak) {
  const uint64_t carry = tweak.high >> (64 - n);
  return {tweak.low << n ^ carry ^ carry << 1 ^ carry << 2 ^ carry << 7, tweak.high << n | tweak.low >> (64 - n)};
}

template <typename Isa>
constexpr size_t kVectorBytes = 16 * Isa::kLanes;
template <typename Isa>
constexpr size_t kGranuleBytes = kVectorsPerGranule* kVectorBytes<Isa>;
template <typename Isa>
constexpr int kVectorsInFlight = Isa::kGranulesInFlight* kVectorsPerGranule;
template <typename Isa>
constexpr size_t kBatchBytes = kBasesPerBatch* kGranuleBytes<Isa>;

// What lies on the stack while sectors are transformed, wiped at the end.
template <typename Isa>
struct Work {
  alignas(64) Tweak firsts[kBasesPerBatch];                           // of the sectors of one batch
  alignas(64) Tweak bases[2][kBasesPerBatch];                         // of this batch and of the next one
  alignas(64) typename Isa::Vector tweaks[2][kVectorsInFlight<Isa>];  // of this group and of the next one
};

// Encrypts the numbers of kVectors * kLanes sectors, from `unit` on: the first tweaks of these sectors.
template <typename Isa, int kRounds, int kVectors>
VOLSEAL_INLINE void EncryptUnits(const RoundKeys& keys, uint64_t unit, uint64_t units_per_sector, Tweak* firsts) {
  typename Isa::Vector block[kVectors];
  const auto opening = Isa::LoadKey(keys[0]);
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    block[i] = Isa::Open(Isa::Units(unit + i * Isa::kLanes * units_per_sector, units_per_sector), opening);
  }
#pragma GCC unroll 14
  for (int round = 1; round < kRounds; ++round) {
    const auto key = Isa::LoadKey(keys[round - Isa::kKeyLag]);
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) block[i] = Isa::template Round<Direction::kEncrypt>(block[i], key);
  }
  const auto closing = Isa::LoadClosing(keys, kRounds);
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    Isa::Store(reinterpret_cast<uint8_t*>(firsts + i * Isa::kLanes),
               Isa::template Close<Direction::kEncrypt>(block[i], closing));
  }
}

// The bases of one batch, from sector number `unit` on. A batch is a whole number of sectors for every sector size.
template <typename Isa, int kRounds>
VOLSEAL_INLINE void MakeBases(const RoundKeys& keys, uint64_t unit, uint32_t sector_bytes, Tweak* firsts,
                              Tweak* bases) {
  const uint64_t units_per_sector = sector_bytes / kTweakUnitBytes;
  const size_t sectors = kBatchBytes<Isa> / sector_bytes;
  const size_t granules_per_sector = sector_bytes / kGranuleBytes<Isa>;
  Tweak* const encrypted = granules_per_sector == 1 ? bases : firsts;
  switch (sectors / Isa::kLanes) {
    case 8:
      EncryptUnits<Isa, kRounds, 8>(keys, unit, units_per_sector, encrypted);
      break;
    case 4:
      EncryptUnits<Isa, kRounds, 4>(keys, unit, units_per_sector, encrypted);
      break;
    case 2:
      EncryptUnits<Isa, kRounds, 2>(keys, unit, units_per_sector, encrypted);
      break;
    default:
      EncryptUnits<Isa, kRounds, 1>(keys, unit, units_per_sector, encrypted);
  }
  if (granules_per_sector == 1) return;
  for (size_t sector = 0; sector < sectors; ++sector) {
    Tweak tweak = firsts[sector];
    for (size_t granule = 0; granule < granules_per_sector; ++granule) {
      *bases++ = tweak;
      tweak = TimesXPower<kVectorsPerGranule * Isa::kLanes>(tweak);
    }
  }
}

// The tweaks of the first kGranules granules: what later groups get from the group before them.
template <typename Isa>
VOLSEAL_INLINE void MakeTweaks(const Tweak* bases, typename Isa::Vector* tweaks) {
#pragma GCC unroll 2
  for (int granule = 0; granule < Isa::kGranulesInFlight; ++granule) {
    typename Isa::Tweaks series(bases[granule]);
#pragma GCC unroll 8
    for (int i = 0; i < kVectorsPerGranule; ++i) tweaks[granule * kVectorsPerGranule + i] = series.Next();
  }
}

// kGranules granules with their `tweaks`. A full group makes the next group's tweaks meanwhile.
template <typename Isa, Direction kDirection, int kRounds, Stores kStores, int kGranules>
VOLSEAL_INLINE void TransformGroup(const RoundKeys& keys, const typename Isa::Vector* tweaks, const Tweak* next_bases,
                                   typename Isa::Vector* next_tweaks, const uint8_t* source, uint8_t* target) {
  constexpr int kVectors = kGranules * kVectorsPerGranule;
  constexpr bool kMakesNext = kGranules == Isa::kGranulesInFlight;
  typename Isa::Vector block[kVectors];
  typename Isa::Tweaks series[2] = {typename Isa::Tweaks(next_bases[0]),
                                    typename Isa::Tweaks(next_bases[kGranules - 1])};
  const auto opening = Isa::LoadKey(keys[0]);
#pragma GCC unroll 16
  for (int i = 0; i < kVectors; ++i) {
    block[i] = Isa::Open(Isa::Load(source + i * kVectorBytes<Isa>), tweaks[i], opening);
  }
#pragma GCC unroll 14
  for (int round = 1; round < kRounds; ++round) {
    const auto key = Isa::LoadKey(keys[round - Isa::kKeyLag]);
    const int step = round - kFirstTweakRound;
#pragma GCC unroll 2
    for (int granule = 0; granule < kGranules; ++granule) {
#pragma GCC unroll 8
      for (int i = 0; i < kVectorsPerGranule; ++i) {
        auto& vector = block[granule * kVectorsPerGranule + i];
        vector = Isa::template Round<kDirection>(vector, key);
      }
      if (kMakesNext && 0 <= step && step < kVectorsPerGranule) {
        const int vector = granule * kVectorsPerGranule + step;
        next_tweaks[vector] = series[granule].Next();
        if (vector * kVectorBytes<Isa> % 64 == 0) {
          Isa::Prefetch(source + vector * kVectorBytes<Isa> + Isa::kPrefetchBytes);
        }
      }
    }
  }
  const auto closing = Isa::LoadClosing(keys, kRounds);
#pragma GCC unroll 16
  for (int i = 0; i < kVectors; ++i) {
    const auto out = Isa::template Close<kDirection>(block[i], tweaks[i], closing);
    if (kStores == Stores::kStreamed) {
      Isa::Stream(target + i * kVectorBytes<Isa>, out);
    } else {
      Isa::Store(target + i * kVectorBytes<Isa>, out);
    }
  }
}

// Not inlined: what the compiler spills then lies below the frame of the caller, who wipes there.
template <typename Isa, Direction kDirection, int kRounds, Stores kStores>
__attribute__((noinline)) void RunSectors(const KeySchedule& schedule, const uint8_t* source, uint8_t* target,
                                          const SectorRun& run, Work<Isa>& work) {
  constexpr size_t kInFlight = Isa::kGranulesInFlight;
  constexpr size_t kGroupBytes = kInFlight * kGranuleBytes<Isa>;
  const RoundKeys& keys = kDirection == Direction::kEncrypt ? schedule.data_encrypt : schedule.data_decrypt;
  const auto make_bases = [&](uint64_t unit, Tweak * bases) __attribute__((always_inline)) {
    MakeBases<Isa, kRounds>(schedule.tweak_encrypt, unit, run.sector_bytes, work.firsts, bases);
  };
  size_t granules_left = run.sector_count * (run.sector_bytes / kGranuleBytes<Isa>);
  uint64_t batch_unit = run.first_unit;
  size_t batch = 0, group = 0, in_batch = 0;
  make_bases(batch_unit, work.bases[0]);
  MakeTweaks<Isa>(work.bases[0], work.tweaks[0]);
  for (; granules_left >= kInFlight; granules_left -= kInFlight) {
    if (in_batch == 0 && granules_left > kBasesPerBatch) {
      batch_unit += kBatchBytes<Isa> / kTweakUnitBytes;
      make_bases(batch_unit, work.bases[batch ^ 1]);
    }
    in_batch += kInFlight;
    if (in_batch == kBasesPerBatch) {
      in_batch = 0;
      batch ^= 1;
    }
    // After the last group these are stale bases: the tweaks made from them are never used.
    TransformGroup<Isa, kDirection, kRounds, kStores, kInFlight>(keys, work.tweaks[group], work.bases[batch] + in_batch,
                                                                 work.tweaks[group ^ 1], source, target);
    group ^= 1;
    source += kGroupBytes;
    target += kGroupBytes;
  }
  if (kInFlight > 1 && granules_left > 0) {
    TransformGroup<Isa, kDirection, kRounds, kStores, 1>(keys, work.tweaks[group], work.bases[batch], nullptr, source,
                                                         target);
  }
  if (kStores == Stores::kStreamed) Isa::Fence();
}

template <typename Isa, Direction kDirection, int kRounds>
void RunAndForget(const KeySchedule& schedule, const uint8_t* source, uint8_t* target, const SectorRun& run) {
  Work<Isa> work;
  const bool streams = Isa::kCanStream && source != target && run.sector_count * run.sector_bytes >= kStreamFromBytes &&
                       reinterpret_cast<uintptr_t>(target) % 16 == 0;
  if (streams) {
    RunSectors<Isa, kDirection, kRounds, Stores::kStreamed>(schedule, source, target, run, work);
  } else {
    RunSectors<Isa, kDirection, kRounds, Stores::kCached>(schedule, source, target, run, work);
  }
  Wipe(&work, sizeof work);
  WipeStackBelow();
  Isa::ClearRegisters();
}

template <typename Isa, Direction kDirection>
void TransformSectors(const KeySchedule& key, const uint8_t* source, uint8_t* target, SectorRun run) {
  if (key.rounds == 14) {
    RunAndForget<Isa, kDirection, 14>(key, source, target, run);
  } else {
    RunAndForget<Isa, kDirection, 10>(key, source, target, run);
  }
}

// 12 vectors a step: enough to hide the latency of the rounds (4 cycles, 2 a cycle, on the fastest processors there
// are), few enough to stay in 16 registers.
template <typename Isa>
void RunRoundsOnly(size_t byte_count) {
  constexpr int kIndependent = 12;
  typename Isa::Vector block[kIndependent] = {};
  typename Isa::Vector key = {};
  for (size_t done = 0; done < byte_count; done += kIndependent * kVectorBytes<Isa>) {
#pragma GCC unroll 14
    for (int round = 0; round < 14; ++round) {
#pragma GCC unroll 12
      for (int i = 0; i < kIndependent; ++i) {
        block[i] = Isa::template Round<Direction::kEncrypt>(block[i], key);
        Isa::Keep(block[i]);
      }
    }
  }
}

template <typename Isa>
void StreamCopy(const uint8_t* source, uint8_t* target, size_t byte_count) {
  for (size_t done = 0; done < byte_count; done += kVectorBytes<Isa>) {
    if (done % 64 == 0) Isa::Prefetch(source + done + Isa::kPrefetchBytes);
    Isa::Stream(target + done, Isa::Load(source + done));
  }
  Isa::Fence();
}

template <typename Isa>
constexpr Kernel MakeKernel(std::string_view name) {
  return {name,
          8 * static_cast<int>(kVectorBytes<Isa>),
          TransformSectors<Isa, Direction::kEncrypt>,
          TransformSectors<Isa, Direction::kDecrypt>,
          RunRoundsOnly<Isa>,
          Isa::kCanStream ? StreamCopy<Isa> : nullptr};
}

}  // namespace
}  // namespace volseal::xts
