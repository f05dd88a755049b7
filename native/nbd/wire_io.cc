#include "nbd/wire_io.h"

#include <sys/socket.h>

#include <cerrno>

namespace volseal::nbd {
namespace {

Moved MovedOf(ssize_t result) {
  if (result > 0) return {Outcome::kMoved, static_cast<size_t>(result)};
  if (result == 0) return {Outcome::kEnd, 0};
  return {errno == EAGAIN || errno == EWOULDBLOCK ? Outcome::kAgain : Outcome::kFailed, 0};
}

}  // namespace

Moved SocketIo::Receive(MutableBytes target) {
  ssize_t result;
  do {
    result = recv(fd_, target.data(), target.size(), MSG_DONTWAIT);
  } while (result < 0 && errno == EINTR);
  return MovedOf(result);
}

Moved SocketIo::Send(const iovec* vectors, size_t count) {
  msghdr message = {};
  message.msg_iov = const_cast<iovec*>(vectors);
  message.msg_iovlen = count;
  ssize_t result;
  do {
    result = sendmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (result < 0 && errno == EINTR);
  return MovedOf(result);
}

}  // namespace volseal::nbd
