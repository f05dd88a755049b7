// Ciphertext that lies elsewhere, in a store for instance, in blocks: each is fetched when it is first read, and kept
// while there is room for it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"

namespace volseal::engine {

class BlockCache {
 public:
  // Has a block fetched, in whatever thread; then Stored or Failed is called for it. It must not block.
  using Fetch = std::function<void(uint64_t index)>;

  struct Options {
    uint64_t size_bytes;  // of what lies there
    size_t block_bytes;
    size_t blocks_max;  // that are kept; >= 1
  };

  // kArgument: a number is 0.
  static Result<std::shared_ptr<BlockCache>> Open(const Options& options, Fetch fetch);

  // Safe from any thread.

  uint64_t size_bytes() const { return options_.size_bytes; }
  // Waits until the blocks are fetched. A block that could not be is fetched again for the next reader.
  Status Read(uint64_t offset, MutableBytes target);
  // False where a block is not there; then `target` may hold a part.
  bool TryRead(uint64_t offset, MutableBytes target);
  // The range will be read soon.
  void Prefetch(uint64_t offset, uint64_t length);

  // `bytes` are copied. kArgument: nobody waits for the block, or it has another length.
  Status Stored(uint64_t index, Bytes bytes);
  void Failed(uint64_t index, Status status);

  // Who waits fails with kDetached, and nothing is fetched any more.
  void Close();

 private:
  struct Block {
    std::vector<uint8_t> bytes;  // does not change once it is there
    bool arrived = false;
    Status failure;
    std::list<uint64_t>::iterator use;  // once it has arrived
  };
  using BlockPtr = std::shared_ptr<Block>;

  BlockCache(const Options& options, Fetch fetch) : options_(options), fetch_(std::move(fetch)) {}

  size_t BlockBytes(uint64_t index) const;
  // The rest with the lock held.

  // Null where it has not arrived.
  BlockPtr Arrived(uint64_t index);
  // The block, arrived or on its way; adds it to `wanted` where it has to be fetched.
  BlockPtr Want(uint64_t index, std::vector<uint64_t>& wanted);
  // What comes next, where somebody reads one block after the other.
  void WantAhead(uint64_t index, std::vector<uint64_t>& wanted);

  const Options options_;
  const Fetch fetch_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::unordered_map<uint64_t, BlockPtr> blocks_;
  std::list<uint64_t> uses_;  // of those that have arrived; the last one was used longest ago
  size_t under_way_ = 0;
  bool closed_ = false;
};

}  // namespace volseal::engine
