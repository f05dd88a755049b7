// Replies on their way to a client: bytes in order, in pieces of memory that one sendmsg(2) gathers.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <utility>

#include "base/bytes.h"
#include "nbd/buffer.h"

namespace volseal::nbd {

class Output {
 public:
  explicit Output(BufferShare& share) : share_(share) {}

  // Room for `length` (at most kSmallBytes) bytes behind all others, which count once Commit says so; nullptr where the
  // share is used up.
  static constexpr size_t kSmallBytes = 64 << 10;
  uint8_t* Reserve(size_t length) { return HasRoom(length) ? Room() : Begin(share_.Take(kBufferBytes)); }
  // The same whatever the share has left; nullptr where there is no memory.
  uint8_t* ReserveAlways(size_t length) { return HasRoom(length) ? Room() : Begin(share_.TakeAlways(kBufferBytes)); }
  void Commit(size_t length) {
    const uint8_t* const start = arena_->data() + arena_end_;
    if (!pieces_.empty() && pieces_.back().start + pieces_.back().length == start && pieces_.back().buffer == arena_) {
      pieces_.back().length += length;
    } else {
      pieces_.push_back({arena_, start, length});
    }
    arena_end_ += length;
    length_ += length;
  }
  // Bytes that lie in `buffer`.
  void Append(std::shared_ptr<Buffer> buffer, const uint8_t* start, size_t length) {
    pieces_.push_back({std::move(buffer), start, length});
    length_ += length;
  }

  // The first bytes, as at most `count_max` vectors; returns how many.
  size_t Gather(iovec* vectors, size_t count_max) const {
    size_t count = 0;
    for (auto piece = pieces_.begin(); piece != pieces_.end() && count < count_max; ++piece, ++count) {
      vectors[count] = {const_cast<uint8_t*>(piece->start), piece->length};
    }
    return count;
  }
  // The first `length` bytes are gone.
  void Sent(size_t length) {
    length_ -= length;
    while (length > 0) {
      Piece& first = pieces_.front();
      const size_t step = std::min(length, first.length);
      first.start += step;
      first.length -= step;
      length -= step;
      if (first.length == 0) pieces_.pop_front();
    }
    if (length_ == 0 && arena_) {
      // Nobody looks at what was sent: the next reply takes its place.
      if (arena_.use_count() == 1) arena_end_ = 0;
    }
  }

  size_t length() const { return length_; }

 private:
  struct Piece {
    std::shared_ptr<Buffer> buffer;
    const uint8_t* start;
    size_t length;
  };

  bool HasRoom(size_t length) const { return arena_ && kBufferBytes - arena_end_ >= length; }
  uint8_t* Room() const { return arena_->data() + arena_end_; }
  uint8_t* Begin(std::shared_ptr<Buffer> fresh) {
    if (!fresh) return nullptr;
    arena_ = std::move(fresh);
    arena_end_ = 0;
    return Room();
  }

  BufferShare& share_;
  std::deque<Piece> pieces_;
  std::shared_ptr<Buffer> arena_;  // where small replies go
  size_t arena_end_ = 0;
  size_t length_ = 0;
};

}  // namespace volseal::nbd
