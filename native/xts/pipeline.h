// The shape that all vector kernels share, as templates over an instruction set; each xts_<isa>.cc supplies the Isa.
//
// What makes it fast, against one sector after the other:
//  - The sector numbers of a whole batch (see below) are encrypted together, one batch ahead, so that no sector waits
//    for a serial AES of its own.
//  - The bytes are cut into granules of four or eight vectors. The first tweak of a granule is its base, and the others
//    are x^n times it. A group of kGranulesInFlight granules goes through the rounds together, each round key loaded
//    once for all; between the rounds, where the AES units leave issue slots free, the tweaks of the next group are
//    made from its bases.
//  - The opening and the closing tweak ride on the first and the last round key.
// A group never asks which sector it belongs to, so one inner loop serves every sector size.
//
// Isa has: Vector; kLanes (16-byte blocks a vector); kVectorsPerGranule; kGranulesInFlight (up to 3); kKeyLag;
// kPrefetchBytes; kCanStream; Load, Store, Stream, Fence, Keep; LoadKey; Units (sector numbers as blocks); Open, Round,
// Closing, LoadClosing, Close; Base, LoadBase, NextGranule (the base behind a base, in one sector), Tweaks (of one
// granule, in order: Next gives a vector; or Store, which writes it to memory); ClearRegisters.
//
// Everything here is in an unnamed namespace on purpose: each kernel compiles its own copy with its own flags, and the
// linker must never take one processor's copy for another's.
#pragma once

#include <algorithm>

#include "base/wipe.h"
#include "xts/key_schedule.h"
#include "xts/tweak.h"
#include "xts/xts.h"

namespace volseal::xts {
namespace {

enum class Direction { kEncrypt, kDecrypt };
enum class Stores { kCached, kStreamed };

// Tweaks are made in rounds 2 to 9, one a granule and round: AES-128 has no more.
constexpr int kFirstTweakRound = 2;

template <typename Isa>
constexpr size_t kVectorBytes = 16 * Isa::kLanes;
template <typename Isa>
constexpr size_t kGranuleBytes = kVectorBytes<Isa>* Isa::kVectorsPerGranule;
template <typename Isa>
constexpr int kVectorsInFlight = Isa::kVectorsPerGranule* Isa::kGranulesInFlight;
// A whole number of sectors of any size; where they have 512 bytes, their numbers fill eight vectors.
template <typename Isa>
constexpr size_t kBatchBytes = 4096 * Isa::kLanes;
template <typename Isa>
constexpr size_t kSectorsPerBatchMax = kBatchBytes<Isa> / 512;

// How far to shift both halves of a base to get the vectors of its granule: lane l of vector i is
// base * x^(kLanes * i + l). x86's variable shifts take `left` as it is, and `right`, 64 less it, for the bits that
// leave (which are none for a count of 64, as x^0 needs).
template <int kLanes, int kVectors>
struct alignas(16 * kLanes) ShiftCounts {
  uint64_t left[kVectors][2 * kLanes];
  uint64_t right[kVectors][2 * kLanes];
};

template <int kLanes, int kVectors>
constexpr ShiftCounts<kLanes, kVectors> MakeShiftCounts() {
  ShiftCounts<kLanes, kVectors> counts = {};
  for (int vector = 0; vector < kVectors; ++vector) {
    for (int half = 0; half < 2 * kLanes; ++half) {
      counts.left[vector][half] = kLanes * vector + half / 2;
      counts.right[vector][half] = 64 - counts.left[vector][half];
    }
  }
  return counts;
}

// The same by carry-less multiplication, for processors whose shifts wait for the AES units: x^(kLanes * i + l), in
// both halves of lane l of vector i.
template <int kLanes, int kVectors>
struct alignas(16 * kLanes) Powers {
  uint64_t of_x[kVectors][2 * kLanes];
};

template <int kLanes, int kVectors>
constexpr Powers<kLanes, kVectors> MakePowers() {
  Powers<kLanes, kVectors> powers = {};
  for (int vector = 0; vector < kVectors; ++vector) {
    for (int half = 0; half < 2 * kLanes; ++half)
      powers.of_x[vector][half] = uint64_t{1} << (kLanes * vector + half / 2);
  }
  return powers;
}

// What lies on the stack while sectors are transformed, wiped at the end: of two batches and two groups by turns.
template <typename Isa>
struct Work {
  struct Turn {
    alignas(64) Tweak firsts[kSectorsPerBatchMax<Isa>];              // the first tweaks of a batch's sectors
    alignas(64) typename Isa::Vector tweaks[kVectorsInFlight<Isa>];  // the tweaks of a group
  };
  Turn turns[2];
};

// What is read past the caches' size is not wanted there a second time: fetched so that it leaves them first.
template <typename Isa, Stores kStores>
VOLSEAL_INLINE void Prefetch(const uint8_t* from) {
  __builtin_prefetch(from + Isa::kPrefetchBytes, 0, kStores == Stores::kStreamed ? 0 : 3);
}

// The same keys, of which the compiler knows nothing: else it would load them once for the whole run, more than the
// registers hold, and spill them to the stack.
VOLSEAL_INLINE const RoundKeys& Anew(const RoundKeys& keys) {
  const RoundKeys* same = &keys;
  asm volatile("" : "+r"(same));
  return *same;
}

// Encrypts the numbers of kVectors * kLanes sectors, from `unit` on: the first tweaks of these sectors.
template <typename Isa, int kRounds, int kVectors>
VOLSEAL_INLINE void EncryptUnits(const RoundKeys& same_keys, uint64_t unit, uint64_t units_per_sector, Tweak* firsts) {
  const RoundKeys& keys = Anew(same_keys);
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

// The bases of a run's granules, in order.
template <typename Isa, int kRounds>
class Bases {
 public:
  VOLSEAL_INLINE Bases(const RoundKeys& keys, const SectorRun& run, Work<Isa>& work)
      : keys_(keys),
        work_(work),
        units_per_sector_(run.sector_bytes / kTweakUnitBytes),
        // A division would hold up the first round of every call.
        sectors_per_batch_(kBatchBytes<Isa> >> __builtin_ctz(run.sector_bytes)),
        granules_per_sector_(run.sector_bytes / kGranuleBytes<Isa>),
        sectors_to_encrypt_(run.sector_count),
        unit_(run.first_unit) {
    EncryptBatch(0);
  }

  // Behind the run's last granule: any base.
  VOLSEAL_INLINE typename Isa::Base Next() {
    if (granules_left_ > 0) {
      --granules_left_;
      return base_ = Isa::NextGranule(base_);
    }
    if (first_ == batch_end_) TurnBatch();
    granules_left_ = granules_per_sector_ - 1;
    return base_ = Isa::LoadBase(*first_++);
  }

 private:
  // On to the batch that was encrypted ahead; the one behind it is encrypted.
  VOLSEAL_INLINE void TurnBatch() {
    first_ = work_.turns[batch_].firsts;
    batch_end_ = first_ + sectors_per_batch_;
    batch_ ^= 1;
    if (sectors_to_encrypt_ > 0) EncryptBatch(batch_);
  }

  VOLSEAL_INLINE void EncryptBatch(size_t batch) {
    Tweak* const firsts = work_.turns[batch].firsts;
    const size_t sectors = std::min(sectors_to_encrypt_, sectors_per_batch_);
    if (sectors > 4 * Isa::kLanes) {
      EncryptUnits<Isa, kRounds, 8>(keys_, unit_, units_per_sector_, firsts);
    } else if (sectors > 2 * Isa::kLanes) {
      EncryptUnits<Isa, kRounds, 4>(keys_, unit_, units_per_sector_, firsts);
    } else if (sectors > Isa::kLanes) {
      EncryptUnits<Isa, kRounds, 2>(keys_, unit_, units_per_sector_, firsts);
    } else {
      EncryptUnits<Isa, kRounds, 1>(keys_, unit_, units_per_sector_, firsts);
    }
    unit_ += kBatchBytes<Isa> / kTweakUnitBytes;
    sectors_to_encrypt_ -= sectors;
  }

  const RoundKeys& keys_;
  Work<Isa>& work_;
  const uint64_t units_per_sector_;
  const size_t sectors_per_batch_;
  const size_t granules_per_sector_;
  size_t sectors_to_encrypt_;
  uint64_t unit_;  // of the next batch
  size_t batch_ = 0, granules_left_ = 0;
  const Tweak *first_ = nullptr, *batch_end_ = nullptr;
  typename Isa::Base base_ = {};
};

// kGranules granules with their `tweaks`. A full group makes the next group's tweaks meanwhile.
template <typename Isa, Direction kDirection, int kRounds, Stores kStores, int kGranules>
VOLSEAL_INLINE void TransformGroup(const RoundKeys& same_keys, const typename Isa::Vector* tweaks,
                                   const typename Isa::Base* next_bases, typename Isa::Vector* next_tweaks,
                                   const uint8_t* source, uint8_t* target) {
  constexpr int kVectors = kGranules * Isa::kVectorsPerGranule;
  constexpr bool kMakesNext = kGranules == Isa::kGranulesInFlight;
  const RoundKeys& keys = Anew(same_keys);
  typename Isa::Vector block[kVectors];
  using Tweaks = typename Isa::Tweaks;  // of up to three granules
  Tweaks series[] = {Tweaks(next_bases[0]), Tweaks(next_bases[kGranules / 2]), Tweaks(next_bases[kGranules - 1])};
  const auto opening = Isa::LoadKey(keys[0]);
#pragma GCC unroll 16
  for (int i = 0; i < kVectors; ++i) {
    block[i] = Isa::Open(Isa::Load(source + i * kVectorBytes<Isa>), tweaks[i], opening);
  }
#pragma GCC unroll 14
  for (int round = 1; round < kRounds; ++round) {
    const auto key = Isa::LoadKey(keys[round - Isa::kKeyLag]);
    const int step = round - kFirstTweakRound;
#pragma GCC unroll 3
    for (int granule = 0; granule < kGranules; ++granule) {
#pragma GCC unroll 8
      for (int i = 0; i < Isa::kVectorsPerGranule; ++i) {
        auto& vector = block[granule * Isa::kVectorsPerGranule + i];
        vector = Isa::template Round<kDirection>(vector, key);
      }
      if (kMakesNext && 0 <= step && step < Isa::kVectorsPerGranule) {
        const int vector = granule * Isa::kVectorsPerGranule + step;
        if constexpr (requires { series[granule].Store(next_tweaks); }) {
          series[granule].Store(next_tweaks + vector);
        } else {
          next_tweaks[vector] = series[granule].Next();
        }
        // In the order of their addresses memory gives up to a tenth more; the caches give 2 % less.
        const size_t ahead = (kStores == Stores::kStreamed ? step * kGranules + granule : vector) * kVectorBytes<Isa>;
        if (ahead % 64 == 0) Prefetch<Isa, kStores>(source + ahead);
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

// Not inlined: what the compiler spills then lies below the frame of the caller, who wipes there (frames of 0.2 KiB
// with g++ 12, 1.2 KiB with clang 14). Tweaks that were in general registers are gone when it returns, where the
// compiler knows how to (g++ 11, clang 15); elsewhere until the next calls have used these registers.
#if __has_attribute(zero_call_used_regs)
#define VOLSEAL_RUN __attribute__((noinline, zero_call_used_regs("used-gpr")))
#else
#define VOLSEAL_RUN __attribute__((noinline))
#endif
template <typename Isa, Direction kDirection, int kRounds, Stores kStores>
VOLSEAL_RUN void RunSectors(const KeySchedule& schedule, const uint8_t* source, uint8_t* target, const SectorRun& run,
                            Work<Isa>& work) {
  constexpr size_t kInFlight = Isa::kGranulesInFlight;
  constexpr size_t kGroupBytes = kInFlight * kGranuleBytes<Isa>;
  const RoundKeys& keys = kDirection == Direction::kEncrypt ? schedule.data_encrypt : schedule.data_decrypt;
  Bases<Isa, kRounds> bases(schedule.tweak_encrypt, run, work);
  typename Isa::Base next_bases[kInFlight] = {};
  size_t granules_left = run.sector_count * (run.sector_bytes / kGranuleBytes<Isa>);
#pragma GCC unroll 3
  for (size_t granule = 0; granule < kInFlight && granule < granules_left; ++granule) {
    typename Isa::Tweaks series(bases.Next());
#pragma GCC unroll 8
    for (int i = 0; i < Isa::kVectorsPerGranule; ++i)
      if constexpr (requires { series.Store(work.turns[0].tweaks); }) {
        series.Store(work.turns[0].tweaks + granule * Isa::kVectorsPerGranule + i);
      } else {
        work.turns[0].tweaks[granule * Isa::kVectorsPerGranule + i] = series.Next();
      }
  }
  size_t group = 0;
  for (; granules_left >= kInFlight; granules_left -= kInFlight) {
#pragma GCC unroll 3
    for (size_t granule = 0; granule < kInFlight; ++granule) next_bases[granule] = bases.Next();
    TransformGroup<Isa, kDirection, kRounds, kStores, kInFlight>(keys, work.turns[group].tweaks, next_bases,
                                                                 work.turns[group ^ 1].tweaks, source, target);
    group ^= 1;
    source += kGroupBytes;
    target += kGroupBytes;
  }
  if constexpr (kInFlight > 1) {
    const typename Isa::Vector* tweaks = work.turns[group].tweaks;
    for (; granules_left > 0; --granules_left) {
      TransformGroup<Isa, kDirection, kRounds, kStores, 1>(keys, tweaks, next_bases, nullptr, source, target);
      tweaks += Isa::kVectorsPerGranule;
      source += kGranuleBytes<Isa>;
      target += kGranuleBytes<Isa>;
    }
  }
  if (kStores == Stores::kStreamed) Isa::Fence();
}

// explicit_bzero would take 40 ns for these 3 KiB, more than the rounds of a sector. A run of less than a group has
// used one turn.
template <typename Isa>
VOLSEAL_INLINE void WipeWork(Work<Isa>& work, bool one_turn) {
  typename Isa::Vector zero = {};
  const size_t length = one_turn ? sizeof work.turns[0] : sizeof work;
  for (size_t done = 0; done < length; done += kVectorBytes<Isa>) {
    Isa::Keep(zero);  // else it is a memset, and one that nobody reads
    Isa::Store(reinterpret_cast<uint8_t*>(&work) + done, zero);
  }
  asm volatile("" ::"r"(&work) : "memory");
}

template <typename Isa, Direction kDirection, int kRounds>
void RunAndForget(const KeySchedule& schedule, const uint8_t* source, uint8_t* target, const SectorRun& run) {
  Work<Isa> work;
  const size_t byte_count = run.sector_count * run.sector_bytes;
  const bool streams = Isa::kCanStream && source != target && byte_count >= kStreamFromBytes &&
                       reinterpret_cast<uintptr_t>(target) % 16 == 0;
  if (streams) {
    RunSectors<Isa, kDirection, kRounds, Stores::kStreamed>(schedule, source, target, run, work);
  } else {
    RunSectors<Isa, kDirection, kRounds, Stores::kCached>(schedule, source, target, run, work);
  }
  WipeWork(work, byte_count < Isa::kGranulesInFlight * kGranuleBytes<Isa>);
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
    if (done % 64 == 0) Prefetch<Isa, Stores::kStreamed>(source + done);
    Isa::Stream(target + done, Isa::Load(source + done));
  }
  Isa::Fence();
}

template <typename Isa>
constexpr Kernel MakeKernel(std::string_view name, std::string_view form = "") {
  return {name,
          form,
          8 * static_cast<int>(kVectorBytes<Isa>),
          TransformSectors<Isa, Direction::kEncrypt>,
          TransformSectors<Isa, Direction::kDecrypt>,
          RunRoundsOnly<Isa>,
          Isa::kCanStream ? StreamCopy<Isa> : nullptr};
}

}  // namespace
}  // namespace volseal::xts
