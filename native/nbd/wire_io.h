// How a connection's bytes come and go: over the socket as they are, or through TLS.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <string>

#include "base/bytes.h"
#include "base/status.h"

namespace volseal::nbd {

enum class Outcome {
  kMoved,  // `count` bytes, one at least
  kAgain,  // would block
  kEnd,    // the other side has closed
  kFailed  // or is gone, or broke TLS
};

struct Moved {
  Outcome outcome;
  size_t count;
};

// Does not block.
class WireIo {
 public:
  virtual ~WireIo() = default;
  virtual Moved Receive(MutableBytes target) = 0;
  virtual Moved Send(const iovec* vectors, size_t count) = 0;
  // Whether less than asked for means that nothing more is there now.
  virtual bool short_means_empty() const = 0;
  // Whether it waits for room to send, with nothing of the caller's to be sent: TLS itself speaks.
  virtual bool wants_to_send() const { return false; }
  // The name by which the client has proved itself; empty where it has not.
  virtual std::string identity() const { return {}; }
};

// The socket itself; the caller closes it.
class SocketIo final : public WireIo {
 public:
  explicit SocketIo(int fd) : fd_(fd) {}
  Moved Receive(MutableBytes target) override;
  Moved Send(const iovec* vectors, size_t count) override;
  bool short_means_empty() const override { return true; }

 private:
  const int fd_;
};

}  // namespace volseal::nbd
