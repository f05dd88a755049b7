#include "base/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include "base/unique_fd.h"

namespace volseal {
namespace {

constexpr int kPipeBytes = 1 << 20;
constexpr int kFirstOther = STDERR_FILENO + 1;

#ifndef SYS_close_range
#define SYS_close_range 436  // the same on every architecture
#endif
constexpr unsigned kCloseRangeCloexec = 1U << 2;  // CLOSE_RANGE_CLOEXEC of linux/close_range.h, from Linux 5.11 on

// For older kernels: one descriptor after another.
Status CloseListedOnExec() {
  DIR* directory = opendir("/proc/self/fd");
  if (directory == nullptr) return SystemFailure(errno, "opendir");
  errno = 0;
  while (const dirent* entry = readdir(directory)) {
    const int fd = std::atoi(entry->d_name);  // "." and ".." are 0, which is left alone
    if (fd < kFirstOther) continue;
    const int flags = fcntl(fd, F_GETFD);
    // A descriptor that another thread has closed meanwhile needs nothing.
    if (flags >= 0) fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
    errno = 0;
  }
  const int error_number = errno;
  closedir(directory);
  return error_number == 0 ? Ok() : SystemFailure(error_number, "readdir");
}

// The ends that OpenPipe and ReopenPipe opened, by descriptor. Who owns an end may close it without a word, and the
// system may use its number for another file: so a descriptor is one of ours only while it still is that pipe.
class PipeEnds {
 public:
  void Add(int fd) {
    struct stat status;
    if (fstat(fd, &status) != 0) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    inodes_[fd] = status.st_ino;
  }

  // @returns whether it was one of ours, which it is no longer.
  bool Remove(int fd) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto entry = inodes_.find(fd);
    if (entry == inodes_.end()) return false;
    struct stat status;
    const bool same = fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode) && status.st_ino == entry->second;
    inodes_.erase(entry);
    return same;
  }

 private:
  std::mutex mutex_;
  std::map<int, ino_t> inodes_;
};

PipeEnds& OpenEnds() {
  static PipeEnds ends;
  return ends;
}

}  // namespace

Status CloseOthersOnExec() {
  if (syscall(SYS_close_range, kFirstOther, ~0U, kCloseRangeCloexec) == 0) return Ok();
  return CloseListedOnExec();
}

Status EndWithParent(pid_t parent) {
  if (prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) != 0) return SystemFailure(errno, "prctl(PR_SET_PDEATHSIG)");
  // It may have ended before the call: then another process has adopted this one.
  if (getppid() != parent && kill(getpid(), SIGTERM) != 0) return SystemFailure(errno, "kill");
  return Ok();
}

Status NotifyServiceManager(std::string_view address, std::string_view text) {
  sockaddr_un target = {};
  target.sun_family = AF_UNIX;
  if (address.size() < 2 || (address[0] != '/' && address[0] != '@') || address.size() >= sizeof(target.sun_path)) {
    return Failure(Code::kArgument, "the service manager's socket is neither an absolute path nor an abstract name");
  }
  std::memcpy(target.sun_path, address.data(), address.size());
  if (address[0] == '@') target.sun_path[0] = '\0';
  const UniqueFd socket_fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket_fd.valid()) return SystemFailure(errno, "socket");
  const socklen_t length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.size());
  for (;;) {
    const ssize_t sent = sendto(socket_fd.get(), text.data(), text.size(), MSG_NOSIGNAL,
                                reinterpret_cast<const sockaddr*>(&target), length);
    if (sent >= 0) return Ok();  // a datagram goes whole or not at all
    if (errno != EINTR) return SystemFailure(errno, "sendto");
  }
}

Status OpenPipe(Pipe& pipe) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return SystemFailure(errno, "pipe2");
  pipe = {.read_end = ends[0], .write_end = ends[1]};
  for (const int end : ends) OpenEnds().Add(end);
  // Fewer, larger reads; a user who has used up what pipes may take gets a smaller one.
  fcntl(ends[1], F_SETPIPE_SZ, kPipeBytes);
  return Ok();
}

Status ReopenPipe(int fd, bool for_writing, int& reopened) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  reopened = open(path.c_str(), (for_writing ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (reopened < 0) return SystemFailure(errno, "open");
  OpenEnds().Add(reopened);
  return Ok();
}

Status ClosePipeEnd(int fd) {
  if (!OpenEnds().Remove(fd)) {
    return Failure(Code::kArgument, "fd: not an open end of a pipe that openPipe() or reopenPipe() opened");
  }
  // On Linux the descriptor is closed also where a signal interrupts that (close(2)).
  return close(fd) == 0 || errno == EINTR ? Ok() : SystemFailure(errno, "close");
}

}  // namespace volseal
