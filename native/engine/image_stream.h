// A pipe, socket, terminal, or file at the place where it stands: bytes in order, once. A wait for the other end can be
// stopped.
#pragma once

#include <cstdint>
#include <functional>

#include "base/bytes.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "engine/file.h"

namespace volseal::engine {

class ImageStream {
 public:
  using Stopped = std::function<bool()>;

  ImageStream() = default;  // no stream
  static Result<ImageStream> Open(int fd, Access access);

  // Reads exactly target.size() bytes. kIo with ENODATA where the stream ends before that, kStopped once `stopped`.
  // `position` is for messages.
  Status Read(uint64_t position, MutableBytes target, const Stopped& stopped) const;
  Status Write(uint64_t position, Bytes source, const Stopped& stopped) const;
  // kIo with EFBIG where the stream goes on.
  Status ExpectEnd(uint64_t position, const Stopped& stopped) const;

  bool valid() const { return fd_.valid(); }

 private:
  // Moves some bytes: at least one, 0 at the end of the stream.
  template <typename Move>
  Result<size_t> Some(short event, const char* syscall, uint64_t position, const Stopped& stopped, Move move) const;

  UniqueFd fd_;
  bool is_socket_ = false;
  // The descriptor is shared and blocks: poll(2) says when to call, and a write then takes PIPE_BUF bytes without
  // waiting.
  bool may_block_ = false;
};

}  // namespace volseal::engine
