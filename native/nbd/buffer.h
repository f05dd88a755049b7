// Memory of a client's connection, counted against its share.
//
// Only for the thread of the connection's loop; the bytes themselves may be a request's, in another thread, as long as
// a reference is kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "base/bytes.h"

namespace volseal::nbd {

// One piece of a read or write: small enough for a processor's own cache, large enough for few system calls.
constexpr size_t kPieceBytes = 256 << 10;
// A piece, and what stands before or behind it.
constexpr size_t kBufferBytes = kPieceBytes + 4096;
// What a connection holds at most; 64 of them hold 128 MiB.
constexpr size_t kShareBytes = 2 << 20;

class BufferShare;

class Buffer {
 public:
  Buffer(BufferShare& share, uint8_t* bytes, size_t capacity) : share_(share), bytes_(bytes), capacity_(capacity) {}
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  uint8_t* data() const { return bytes_; }
  size_t capacity() const { return capacity_; }

 private:
  BufferShare& share_;
  uint8_t* const bytes_;
  const size_t capacity_;
};

// Outlives its buffers.
class BufferShare {
 public:
  ~BufferShare() {
    for (uint8_t* bytes : spare_) std::free(bytes);
  }

  // A buffer of `capacity` bytes; nullptr where that is more than the share has left, or than the system has.
  std::shared_ptr<Buffer> Take(size_t capacity) {
    return held_ + capacity > kShareBytes ? nullptr : TakeAlways(capacity);
  }

  // The same whatever the share has left.
  std::shared_ptr<Buffer> TakeAlways(size_t capacity) {
    uint8_t* bytes = nullptr;
    if (capacity == kBufferBytes && !spare_.empty()) {
      bytes = spare_.back();
      spare_.pop_back();
    } else {
      bytes = static_cast<uint8_t*>(std::aligned_alloc(64, (capacity + 63) / 64 * 64));
    }
    if (!bytes) return nullptr;
    held_ += capacity;
    return std::make_shared<Buffer>(*this, bytes, capacity);
  }

  size_t held() const { return held_; }

 private:
  friend class Buffer;
  // Kept for the next piece: the last one used is still in the cache.
  static constexpr size_t kSpareMax = 2;

  void GiveBack(uint8_t* bytes, size_t capacity) {
    held_ -= capacity;
    if (capacity == kBufferBytes && spare_.size() < kSpareMax) {
      spare_.push_back(bytes);
    } else {
      std::free(bytes);
    }
  }

  size_t held_ = 0;
  std::vector<uint8_t*> spare_;
};

inline Buffer::~Buffer() { share_.GiveBack(bytes_, capacity_); }

}  // namespace volseal::nbd
