// What a server counts, for all of its connections together.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "nbd/wire.h"

namespace volseal::nbd {

// How long requests took. Bucket i has those of up to 2^i microseconds that no earlier one has, the last all longer
// ones.
class Latencies {
 public:
  static constexpr size_t kBuckets = 25;

  void Add(std::chrono::nanoseconds time) {
    const auto nanoseconds = static_cast<uint64_t>(std::max<int64_t>(time.count(), 1));
    const size_t bucket = std::bit_width((nanoseconds - 1) / 1000);
    counts_[std::min(bucket, kBuckets - 1)].fetch_add(1, std::memory_order_relaxed);
    nanoseconds_.fetch_add(nanoseconds, std::memory_order_relaxed);
  }
  uint64_t count(size_t bucket) const { return counts_[bucket].load(std::memory_order_relaxed); }
  uint64_t nanoseconds() const { return nanoseconds_.load(std::memory_order_relaxed); }

 private:
  std::array<std::atomic<uint64_t>, kBuckets> counts_ = {};
  std::atomic<uint64_t> nanoseconds_ = 0;
};

struct Counters {
  std::atomic<uint64_t> requests = 0;
  std::atomic<uint64_t> errors = 0;
  std::atomic<uint64_t> bytes_read = 0;
  std::atomic<uint64_t> bytes_written = 0;
  std::array<Latencies, kCommandCount> latencies;  // by Command
};

}  // namespace volseal::nbd
