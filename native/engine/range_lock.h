// Locks over byte ranges of one device: any number of shared holders or one exclusive holder where ranges overlap.
//
// First come, first served: a request waits for each earlier one that overlaps and conflicts, granted or not, so that
// nobody starves.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <list>
#include <mutex>

namespace volseal::engine {

class RangeLock {
 private:
  struct Entry {
    uint64_t begin;
    uint64_t end;
    bool exclusive;
  };
  using Entries = std::list<Entry>;

 public:
  // Holds [begin, end) until its scope ends.
  class Guard {
   public:
    Guard(RangeLock& lock, uint64_t begin, uint64_t end, bool exclusive);
    // Does not wait: where it would have to, it holds nothing.
    Guard(RangeLock& lock, uint64_t begin, uint64_t end, bool exclusive, std::try_to_lock_t);
    ~Guard();
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    bool holds() const { return holds_; }

   private:
    RangeLock& lock_;
    Entries::iterator entry_;
    bool holds_ = true;
  };

 private:
  bool MustWait(Entries::const_iterator entry) const;

  std::mutex mutex_;
  std::condition_variable released_;
  Entries entries_;  // in order of arrival
};

}  // namespace volseal::engine
