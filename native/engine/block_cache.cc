#include "engine/block_cache.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace volseal::engine {
namespace {

// Blocks that nobody waits for yet are fetched while fewer than this are under way.
constexpr size_t kFetchesAhead = 8;

}  // namespace

Result<std::shared_ptr<BlockCache>> BlockCache::Open(const Options& options, Fetch fetch) {
  if (options.size_bytes == 0 || options.block_bytes == 0 || options.blocks_max == 0)
    return Failure(Code::kArgument, "the cache has no bytes, or keeps no block");
  return std::shared_ptr<BlockCache>(new BlockCache(options, std::move(fetch)));
}

size_t BlockCache::BlockBytes(uint64_t index) const {
  return std::min<uint64_t>(options_.block_bytes, options_.size_bytes - index * options_.block_bytes);
}

BlockCache::BlockPtr BlockCache::Arrived(uint64_t index) {
  const auto found = blocks_.find(index);
  if (found == blocks_.end() || !found->second->arrived) return nullptr;
  uses_.splice(uses_.begin(), uses_, found->second->use);
  return found->second;
}

BlockCache::BlockPtr BlockCache::Want(uint64_t index, std::vector<uint64_t>& wanted) {
  if (BlockPtr block = Arrived(index)) return block;
  BlockPtr& block = blocks_[index];
  if (!block) {
    block = std::make_shared<Block>();
    ++under_way_;
    wanted.push_back(index);
  }
  return block;
}

void BlockCache::WantAhead(uint64_t index, std::vector<uint64_t>& wanted) {
  if (index == 0 || !blocks_.contains(index - 1)) return;
  const size_t most = std::min(kFetchesAhead, options_.blocks_max - 1);
  for (uint64_t next = index + 1; next * options_.block_bytes < options_.size_bytes && next <= index + most; ++next) {
    if (under_way_ >= most) return;
    Want(next, wanted);
  }
}

Status BlockCache::Read(uint64_t offset, MutableBytes target) {
  while (!target.empty()) {
    const uint64_t index = offset / options_.block_bytes;
    const size_t within = offset % options_.block_bytes;
    const size_t length = std::min(target.size(), options_.block_bytes - within);
    std::vector<uint64_t> wanted;
    std::unique_lock guard(mutex_);
    if (closed_) return Failure(Code::kDetached, "the volume is detached");
    const BlockPtr block = Want(index, wanted);
    WantAhead(index, wanted);
    guard.unlock();
    for (const uint64_t next : wanted) fetch_(next);
    guard.lock();
    arrived_.wait(guard, [&] { return closed_ || block->arrived || !block->failure.ok(); });
    if (!block->failure.ok()) return block->failure;
    if (!block->arrived) return Failure(Code::kDetached, "the volume is detached");
    guard.unlock();
    std::memcpy(target.data(), block->bytes.data() + within, length);
    offset += length;
    target = target.subspan(length);
  }
  return Ok();
}

bool BlockCache::TryRead(uint64_t offset, MutableBytes target) {
  while (!target.empty()) {
    const size_t within = offset % options_.block_bytes;
    const size_t length = std::min(target.size(), options_.block_bytes - within);
    BlockPtr block;
    {
      const std::lock_guard guard(mutex_);
      block = closed_ ? nullptr : Arrived(offset / options_.block_bytes);
    }
    if (!block) return false;
    std::memcpy(target.data(), block->bytes.data() + within, length);
    offset += length;
    target = target.subspan(length);
  }
  return true;
}

void BlockCache::Prefetch(uint64_t offset, uint64_t length) {
  std::vector<uint64_t> wanted;
  {
    const std::lock_guard guard(mutex_);
    if (closed_) return;
    const uint64_t end = offset + length;
    for (uint64_t index = offset / options_.block_bytes; index * options_.block_bytes < end; ++index) {
      if (under_way_ >= kFetchesAhead) break;
      Want(index, wanted);
    }
  }
  for (const uint64_t index : wanted) fetch_(index);
}

Status BlockCache::Stored(uint64_t index, Bytes bytes) {
  std::vector<uint8_t> copy(bytes.begin(), bytes.end());
  const std::lock_guard guard(mutex_);
  const auto found = blocks_.find(index);
  if (found == blocks_.end() || found->second->arrived) return Failure(Code::kArgument, "nobody waits for the block");
  if (bytes.size() != BlockBytes(index)) return Failure(Code::kArgument, "the block has another length");
  Block& block = *found->second;
  block.bytes = std::move(copy);
  block.arrived = true;
  block.use = uses_.insert(uses_.begin(), index);
  --under_way_;
  // A reader that still copies from one keeps it.
  while (uses_.size() > options_.blocks_max) {
    blocks_.erase(uses_.back());
    uses_.pop_back();
  }
  arrived_.notify_all();
  return Ok();
}

void BlockCache::Failed(uint64_t index, Status status) {
  const std::lock_guard guard(mutex_);
  const auto found = blocks_.find(index);
  if (found == blocks_.end() || found->second->arrived) return;
  found->second->failure = std::move(status);
  blocks_.erase(found);
  --under_way_;
  arrived_.notify_all();
}

void BlockCache::Close() {
  const std::lock_guard guard(mutex_);
  closed_ = true;
  arrived_.notify_all();
}

}  // namespace volseal::engine
