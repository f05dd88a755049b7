#include "base/store_guard.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "base/handle_table.h"
#include "base/unique_fd.h"

namespace volseal {
namespace {

// One a lock file, for all that have the store open. Closing a second descriptor of it would drop the record locks that
// LMDB has on it in this process (fcntl(2), "POSIX record locks").
struct Guard {
  dev_t device;
  ino_t inode;
  UniqueFd fd;
};
using Openings = HandleTable<Guard, HandleKind::kStore>;

std::mutex mutex;
// A thread that is terminated does not say that its store is closed: the guard then lasts as long as the process.
std::vector<std::weak_ptr<Guard>> guards;

Openings& OpeningsOfProcess() {
  static auto* const openings = new Openings;  // never destroyed: worker threads may outlive static destructors
  return *openings;
}

// The first byte, shared, for the open file and not for the process: LMDB's own locks and their end do not change it.
// A file system without such locks has none of LMDB's either.
void LockFirstByte(int fd) {
  struct flock lock = {};
  lock.l_type = F_RDLCK;
  lock.l_whence = SEEK_SET;
  lock.l_len = 1;
  while (fcntl(fd, F_OFD_SETLKW, &lock) != 0 && errno == EINTR) {
  }
}

}  // namespace

Result<uint64_t> OpenStore(const std::string& lock_path, const std::function<void()>& open) {
  const std::lock_guard<std::mutex> guarded(mutex);
  open();
  struct stat stats;
  if (stat(lock_path.c_str(), &stats) != 0) return SystemFailure(errno, "stat");
  std::erase_if(guards, [](const auto& guard) { return guard.expired(); });
  std::shared_ptr<Guard> guard;
  for (const auto& one : guards) {
    auto held = one.lock();
    if (held->device == stats.st_dev && held->inode == stats.st_ino) guard = std::move(held);
  }
  if (!guard) {
    UniqueFd fd(::open(lock_path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (!fd.valid()) return SystemFailure(errno, "open");
    LockFirstByte(fd.get());
    guard = std::make_shared<Guard>(Guard{stats.st_dev, stats.st_ino, std::move(fd)});
    guards.push_back(guard);
  }
  const uint64_t id = OpeningsOfProcess().Add(std::move(guard));
  return id != 0 ? Result<uint64_t>(id) : SystemFailure(EMFILE, "open");
}

Status StoreClosed(uint64_t id) {
  const std::lock_guard<std::mutex> guarded(mutex);
  return OpeningsOfProcess().Remove(id) ? Ok() : Failure(Code::kArgument, "id: names no store that is open");
}

}  // namespace volseal
