// Sockets that clients connect to.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/status.h"
#include "base/unique_fd.h"

namespace volseal::nbd {

class Listener {
 public:
  // A new unix socket at `path`, which only its owner may connect to. One on which nobody listens any more is replaced;
  // kBusy where somebody does, kIo with EEXIST where the file is no socket.
  static Result<Listener> Unix(const std::string& path);
  // `address`: numeric, IPv4 or IPv6. Port 0: a free one.
  static Result<Listener> Tcp(const std::string& address, uint16_t port);
  // A stream socket that listens already.
  static Result<Listener> Adopt(int fd);

  Listener() = default;
  Listener(Listener&& other) noexcept = default;
  Listener& operator=(Listener&&) = default;

  int fd() const { return fd_.get(); }
  // Of TCP; 0 of others.
  uint16_t port() const { return port_; }
  // Closes; a unix socket's file is removed, unless it is another's by now.
  void Close();

 private:
  explicit Listener(UniqueFd fd) : fd_(std::move(fd)) {}

  UniqueFd fd_;
  uint16_t port_ = 0;
  std::string path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

// A connected stream socket, the caller's until now.
Result<UniqueFd> AdoptConnected(int fd);

}  // namespace volseal::nbd
