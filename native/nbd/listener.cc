#include "nbd/listener.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

namespace volseal::nbd {
namespace {

// Connections that wait to be accepted, dead ones too: beyond them a client on a unix socket is told EAGAIN.
constexpr int kBacklog = 1024;

Result<UniqueFd> NewSocket(int family) {
  UniqueFd fd(socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return SystemFailure(errno, "socket");
  return fd;
}

// A socket that somebody else has opened, set as this server's own are. It stays theirs where that fails.
Result<UniqueFd> TakeOver(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
    return SystemFailure(errno, "fcntl");
  return UniqueFd(fd);
}

// Removes a socket file that nobody listens on.
Status RemoveStale(const std::string& path, const sockaddr_un& address) {
  struct stat info;
  if (lstat(path.c_str(), &info) != 0) return errno == ENOENT ? Ok() : SystemFailure(errno, "lstat");
  if (!S_ISSOCK(info.st_mode)) return SystemFailure(EEXIST, "bind");
  auto probe = NewSocket(AF_UNIX);
  if (!probe.ok()) return probe.status();
  if (connect(probe.value().get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
      errno == EAGAIN) {
    return SystemFailure(EADDRINUSE, "bind", std::nullopt, Code::kBusy);
  }
  if (errno != ECONNREFUSED) return SystemFailure(errno, "connect");
  return unlink(path.c_str()) == 0 || errno == ENOENT ? Ok() : SystemFailure(errno, "unlink");
}

}  // namespace

Result<Listener> Listener::Unix(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path || path.find('\0') != std::string::npos) {
    return Failure(Code::kArgument, "the path of a unix socket has 1 to " +
                                        std::to_string(sizeof address.sun_path - 1) + " bytes, this one " +
                                        std::to_string(path.size()));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  auto fd = NewSocket(AF_UNIX);
  if (!fd.ok()) return fd.status();
  // Before bind: the file is never open to others, not for a moment.
  if (fchmod(fd.value().get(), 0600) != 0) return SystemFailure(errno, "fchmod");

  // Two servers that start at the same time must not take each other's socket for a stale one.
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  const UniqueFd lock(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock.valid()) return SystemFailure(errno, "open");
  while (flock(lock.get(), LOCK_EX) != 0) {
    if (errno != EINTR) break;  // some file systems have no locks
  }
  const auto* const name = reinterpret_cast<const sockaddr*>(&address);
  if (bind(fd.value().get(), name, sizeof address) != 0) {
    if (errno != EADDRINUSE) return SystemFailure(errno, "bind");
    if (Status status = RemoveStale(path, address); !status.ok()) return status;
    if (bind(fd.value().get(), name, sizeof address) != 0) return SystemFailure(errno, "bind");
  }
  Listener listener(std::move(fd.value()));
  struct stat info;
  if (lstat(path.c_str(), &info) != 0) return SystemFailure(errno, "lstat");
  listener.path_ = path;
  listener.device_ = info.st_dev;
  listener.inode_ = info.st_ino;
  if (listen(listener.fd(), kBacklog) != 0) {
    Status status = SystemFailure(errno, "listen");
    listener.Close();
    return status;
  }
  return listener;
}

Result<Listener> Listener::Tcp(const std::string& address, uint16_t port) {
  sockaddr_storage name = {};
  socklen_t length;
  auto& four = reinterpret_cast<sockaddr_in&>(name);
  auto& six = reinterpret_cast<sockaddr_in6&>(name);
  if (inet_pton(AF_INET, address.c_str(), &four.sin_addr) == 1) {
    four.sin_family = AF_INET;
    four.sin_port = htons(port);
    length = sizeof four;
  } else if (inet_pton(AF_INET6, address.c_str(), &six.sin6_addr) == 1) {
    six.sin6_family = AF_INET6;
    six.sin6_port = htons(port);
    length = sizeof six;
  } else {
    return Failure(Code::kArgument, "the address is neither IPv4 nor IPv6");
  }
  auto fd = NewSocket(name.ss_family);
  if (!fd.ok()) return fd.status();
  Listener listener(std::move(fd.value()));
  const int on = 1;
  setsockopt(listener.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  auto* const any = reinterpret_cast<sockaddr*>(&name);
  if (bind(listener.fd(), any, length) != 0) {
    return SystemFailure(errno, "bind", std::nullopt, errno == EADDRINUSE ? Code::kBusy : Code::kIo);
  }
  if (listen(listener.fd(), kBacklog) != 0) return SystemFailure(errno, "listen");
  if (getsockname(listener.fd(), any, &length) != 0) return SystemFailure(errno, "getsockname");
  listener.port_ = ntohs(name.ss_family == AF_INET ? four.sin_port : six.sin6_port);
  return listener;
}

Result<Listener> Listener::Adopt(int fd) {
  int listening = 0;
  socklen_t length = sizeof listening;
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) != 0)
    return SystemFailure(errno, "getsockopt", std::nullopt, Code::kArgument);
  if (!listening) return Failure(Code::kArgument, "the socket does not listen");
  auto owned = TakeOver(fd);
  if (!owned.ok()) return owned.status();
  return Listener(std::move(owned.value()));
}

void Listener::Close() {
  if (!fd_.valid()) return;
  struct stat info;
  if (!path_.empty() && lstat(path_.c_str(), &info) == 0 && info.st_dev == device_ && info.st_ino == inode_)
    unlink(path_.c_str());
  fd_.Reset();
}

Result<UniqueFd> AdoptConnected(int fd) {
  sockaddr_storage peer;
  socklen_t length = sizeof peer;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) != 0)
    return SystemFailure(errno, "getpeername", std::nullopt, Code::kArgument);
  return TakeOver(fd);
}

}  // namespace volseal::nbd
