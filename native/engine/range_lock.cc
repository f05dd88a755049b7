#include "engine/range_lock.h"

namespace volseal::engine {

bool RangeLock::MustWait(Entries::const_iterator entry) const {
  for (auto earlier = entries_.begin(); earlier != entry; ++earlier) {
    const bool overlap = earlier->begin < entry->end && entry->begin < earlier->end;
    if (overlap && (earlier->exclusive || entry->exclusive)) return true;
  }
  return false;
}

RangeLock::Guard::Guard(RangeLock& lock, uint64_t begin, uint64_t end, bool exclusive) : lock_(lock) {
  std::unique_lock guard(lock_.mutex_);
  entry_ = lock_.entries_.insert(lock_.entries_.end(), Entry{begin, end, exclusive});
  lock_.released_.wait(guard, [&] { return !lock_.MustWait(entry_); });
}

RangeLock::Guard::Guard(RangeLock& lock, uint64_t begin, uint64_t end, bool exclusive, std::try_to_lock_t)
    : lock_(lock) {
  const std::lock_guard guard(lock_.mutex_);
  entry_ = lock_.entries_.insert(lock_.entries_.end(), Entry{begin, end, exclusive});
  holds_ = !lock_.MustWait(entry_);
  if (!holds_) lock_.entries_.erase(entry_);
}

RangeLock::Guard::~Guard() {
  if (!holds_) return;
  const std::lock_guard guard(lock_.mutex_);
  lock_.entries_.erase(entry_);
  lock_.released_.notify_all();
}

}  // namespace volseal::engine
