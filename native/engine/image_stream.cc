#include "engine/image_stream.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

namespace volseal::engine {
namespace {

// How soon a wait for the other end sees that it was stopped.
constexpr int kPollMilliseconds = 50;
// As large as an unprivileged process may make a pipe: fewer switches between writer and reader.
constexpr int kPipeBytes = 1 << 20;

}  // namespace

Result<ImageStream> ImageStream::Open(int fd, Access access) {
  struct stat info {};
  if (fstat(fd, &info) != 0) return SystemFailure(errno, "fstat");
  if (S_ISDIR(info.st_mode)) return Failure(Code::kArgument, "a directory is not a stream");
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || flags & O_PATH) return Failure(Code::kArgument, "the file descriptor is not open");
  const int wrong = access == Access::kRead ? O_WRONLY : O_RDONLY;
  if ((flags & O_ACCMODE) == wrong) return Failure(Code::kArgument, "the stream is open for the other direction only");
  ImageStream stream;
  stream.is_socket_ = S_ISSOCK(info.st_mode);
  if (S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode)) {
    // Opened once more, so that O_NONBLOCK does not reach everybody who shares the descriptor.
    const std::string path = "/proc/self/fd/" + std::to_string(fd);
    stream.fd_ = UniqueFd(
        open(path.c_str(), (access == Access::kRead ? O_RDONLY : O_WRONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    if (!stream.fd_.valid()) {
      if (errno == ENXIO) return SystemFailure(EPIPE, "open");
      // Another user's pipe (sudo, su), or no /proc: the shared descriptor has to do.
      auto copy = Duplicate(fd);
      if (!copy.ok()) return copy.status();
      stream.fd_ = std::move(copy.value());
      stream.may_block_ = (flags & O_NONBLOCK) == 0;
    }
    // Fails where the user's pipes are full of pages already: the pipe keeps its size.
    if (S_ISFIFO(info.st_mode)) fcntl(stream.fd_.get(), F_SETPIPE_SZ, kPipeBytes);
    return stream;
  }
  auto copy = Duplicate(fd);
  if (!copy.ok()) return copy.status();
  stream.fd_ = std::move(copy.value());
  return stream;
}

template <typename Move>
Result<size_t> ImageStream::Some(short event, const char* syscall, uint64_t position, const Stopped& stopped,
                                 Move move) const {
  for (;;) {
    if (stopped()) return Failure(Code::kStopped, "the transform was stopped");
    if (may_block_) {
      pollfd ready = {fd_.get(), event, 0};
      const int count = poll(&ready, 1, kPollMilliseconds);
      if (count < 0 && errno != EINTR) return SystemFailure(errno, "poll", position);
      if (count <= 0) continue;
    }
    const ssize_t count = move();
    if (count >= 0) return static_cast<size_t>(count);
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return SystemFailure(errno, syscall, position);
    pollfd waiting = {fd_.get(), event, 0};
    if (poll(&waiting, 1, kPollMilliseconds) < 0 && errno != EINTR) return SystemFailure(errno, "poll", position);
  }
}

Status ImageStream::Read(uint64_t position, MutableBytes target, const Stopped& stopped) const {
  while (!target.empty()) {
    auto count = Some(POLLIN, "read", position, stopped, [&] {
      return is_socket_ ? recv(fd_.get(), target.data(), target.size(), MSG_DONTWAIT)
                        : read(fd_.get(), target.data(), target.size());
    });
    if (!count.ok()) return count.status();
    if (count.value() == 0) {
      Status status = SystemFailure(ENODATA, "read", position);
      status.message += " (the stream ends here)";
      return status;
    }
    position += count.value();
    target = target.subspan(count.value());
  }
  return Ok();
}

Status ImageStream::Write(uint64_t position, Bytes source, const Stopped& stopped) const {
  while (!source.empty()) {
    auto count = Some(POLLOUT, "write", position, stopped, [&] {
      return is_socket_ ? send(fd_.get(), source.data(), source.size(), MSG_DONTWAIT | MSG_NOSIGNAL)
                        : write(fd_.get(), source.data(),
                                may_block_ ? std::min<size_t>(source.size(), PIPE_BUF) : source.size());
    });
    if (!count.ok()) return count.status();
    if (count.value() == 0) return SystemFailure(ENOSPC, "write", position);
    position += count.value();
    source = source.subspan(count.value());
  }
  return Ok();
}

Status ImageStream::ExpectEnd(uint64_t position, const Stopped& stopped) const {
  uint8_t byte;
  auto count = Some(POLLIN, "read", position, stopped,
                    [&] { return is_socket_ ? recv(fd_.get(), &byte, 1, MSG_DONTWAIT) : read(fd_.get(), &byte, 1); });
  if (!count.ok()) return count.status();
  if (count.value() == 0) return Ok();
  Status status = SystemFailure(EFBIG, "read", position);
  status.message += " (the stream goes on where it should end)";
  return status;
}

}  // namespace volseal::engine
