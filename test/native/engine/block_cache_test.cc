// Ciphertext that is fetched, block by block.
#include "engine/block_cache.h"

#include <doctest/doctest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace volseal::engine {
namespace {

constexpr size_t kBlockBytes = 64;
constexpr size_t kBlocks = 40;
constexpr uint64_t kSize = kBlockBytes * kBlocks - 10;  // the last block is shorter

uint8_t ByteAt(uint64_t offset) { return static_cast<uint8_t>(offset * 7 + offset / 251); }

// What lies elsewhere: answers from a thread of its own.
class Elsewhere {
 public:
  explicit Elsewhere(size_t blocks_max)
      : cache_(BlockCache::Open({kSize, kBlockBytes, blocks_max}, [this](uint64_t index) { Ask(index); }).value()),
        thread_([this] { Run(); }) {}
  ~Elsewhere() {
    {
      const std::lock_guard guard(mutex_);
      ending_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

  BlockCache& cache() { return *cache_; }
  size_t fetches() const { return fetches_; }
  void FailNext(size_t count) { failures_ = count; }
  // Nobody answers from now on, until it is held no longer.
  void Hold(bool held) {
    const std::lock_guard guard(mutex_);
    held_ = held;
    wake_.notify_all();
  }

 private:
  void Ask(uint64_t index) {
    const std::lock_guard guard(mutex_);
    asked_.push_back(index);
    wake_.notify_all();
  }

  void Run() {
    std::unique_lock guard(mutex_);
    while (true) {
      wake_.wait(guard, [this] { return ending_ || (!asked_.empty() && !held_); });
      if (ending_) return;
      const uint64_t index = asked_.front();
      asked_.erase(asked_.begin());
      guard.unlock();
      Answer(index);
      guard.lock();
    }
  }

  void Answer(uint64_t index) {
    ++fetches_;
    if (failures_ > 0) {
      --failures_;
      cache_->Failed(index, SystemFailure(EIO, "fetch"));
      return;
    }
    std::vector<uint8_t> bytes(std::min<uint64_t>(kBlockBytes, kSize - index * kBlockBytes));
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = ByteAt(index * kBlockBytes + i);
    CHECK(cache_->Stored(index, bytes).ok());
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<uint64_t> asked_;
  bool ending_ = false;
  bool held_ = false;
  std::atomic<size_t> fetches_ = 0;
  std::atomic<size_t> failures_ = 0;
  std::shared_ptr<BlockCache> cache_;
  std::thread thread_;
};

bool IsRight(uint64_t offset, const std::vector<uint8_t>& bytes) {
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] != ByteAt(offset + i)) return false;
  }
  return true;
}

TEST_CASE("what was fetched is there without waiting, and no more than the cache keeps") {
  Elsewhere elsewhere(16);
  std::vector<uint8_t> bytes(kBlockBytes * 2);
  CHECK(!elsewhere.cache().TryRead(30, bytes));
  CHECK(elsewhere.cache().Read(30, bytes).ok());
  CHECK(IsRight(30, bytes));
  CHECK(elsewhere.cache().TryRead(30, bytes));
  CHECK(IsRight(30, bytes));
  std::vector<uint8_t> all(kSize);
  CHECK(elsewhere.cache().Read(0, all).ok());
  CHECK(IsRight(0, all));
  std::vector<uint8_t> start(kBlockBytes);
  CHECK(!elsewhere.cache().TryRead(0, start));
  // Each block once, but for those that were dropped between the two reads.
  CHECK(elsewhere.fetches() <= kBlocks + 16);
}

TEST_CASE("readers of many threads see the right bytes, whatever is dropped meanwhile") {
  Elsewhere elsewhere(3);
  std::vector<std::thread> threads;
  std::atomic<size_t> wrong = 0;
  for (uint32_t seed = 1; seed <= 8; ++seed) {
    threads.emplace_back([&, seed] {
      uint32_t state = seed * 2654435761u;
      for (int turn = 0; turn < 300; ++turn) {
        state = state * 1664525u + 1013904223u;
        const uint64_t offset = state % kSize;
        std::vector<uint8_t> bytes(std::min<uint64_t>(state >> 24, kSize - offset));
        if (!elsewhere.cache().Read(offset, bytes).ok() || !IsRight(offset, bytes)) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("a failure is that of the readers that wait; the next one has the block fetched again") {
  Elsewhere elsewhere(4);
  elsewhere.FailNext(1);
  std::vector<uint8_t> bytes(10);
  CHECK(elsewhere.cache().Read(5, bytes).code == Code::kIo);
  CHECK(elsewhere.cache().Read(5, bytes).ok());
  CHECK(IsRight(5, bytes));
}

TEST_CASE("what nobody asked for, or has another length, is refused") {
  Elsewhere elsewhere(4);
  const std::vector<uint8_t> bytes(kBlockBytes);
  CHECK(elsewhere.cache().Stored(3, bytes).code == Code::kArgument);
  elsewhere.Hold(true);
  elsewhere.cache().Prefetch(kSize - 1, 1);
  CHECK(elsewhere.cache().Stored(kBlocks - 1, bytes).code == Code::kArgument);
  elsewhere.Hold(false);
  std::vector<uint8_t> last(20);
  CHECK(elsewhere.cache().Read(kSize - 20, last).ok());
  CHECK(IsRight(kSize - 20, last));
  CHECK(!BlockCache::Open({0, kBlockBytes, 1}, [](uint64_t) {}).ok());
}

TEST_CASE("closing ends who waits, and nothing is fetched after it") {
  Elsewhere elsewhere(4);
  elsewhere.Hold(true);
  std::atomic<bool> ended = false;
  std::thread reader([&] {
    std::vector<uint8_t> bytes(10);
    CHECK(elsewhere.cache().Read(0, bytes).code == Code::kDetached);
    ended = true;
  });
  elsewhere.cache().Close();
  reader.join();
  CHECK(ended);
  std::vector<uint8_t> bytes(10);
  CHECK(elsewhere.cache().Read(0, bytes).code == Code::kDetached);
  CHECK(!elsewhere.cache().TryRead(0, bytes));
  elsewhere.Hold(false);
}

}  // namespace
}  // namespace volseal::engine
