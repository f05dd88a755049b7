#include "base/store_guard.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <map>
#include <mutex>
#include <utility>

#include "base/unique_fd.h"

namespace volseal {
namespace {

// One a lock file. Closing a second descriptor of it would drop the record locks that LMDB has on it in this process
// (fcntl(2), "POSIX record locks").
struct Guard {
  dev_t device;
  ino_t inode;
  UniqueFd fd;
  int stores_open;
};

std::mutex mutex;
// By id. A thread that is terminated does not say that its store is closed: the guard then lasts as long as the
// process.
std::map<uint32_t, Guard> guards;
uint32_t last_id = 0;

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

Result<uint32_t> OpenStore(const std::string& lock_path, const std::function<void()>& open) {
  const std::lock_guard<std::mutex> guarded(mutex);
  open();
  struct stat stats;
  if (stat(lock_path.c_str(), &stats) != 0) return SystemFailure(errno, "stat");
  for (auto& [id, guard] : guards) {
    if (guard.device != stats.st_dev || guard.inode != stats.st_ino) continue;
    guard.stores_open++;
    return id;
  }
  UniqueFd fd(::open(lock_path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) return SystemFailure(errno, "open");
  LockFirstByte(fd.get());
  guards.emplace(++last_id, Guard{stats.st_dev, stats.st_ino, std::move(fd), 1});
  return last_id;
}

void StoreClosed(uint32_t id) {
  const std::lock_guard<std::mutex> guarded(mutex);
  const auto found = guards.find(id);
  if (found != guards.end() && --found->second.stores_open == 0) guards.erase(found);
}

}  // namespace volseal
