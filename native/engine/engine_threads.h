// The process's own I/O threads: a fixed number of loops that watch descriptors and run short tasks, about one a
// processor, and up to kHelpersMax helpers for what blocks. They start with the first user and end with the last.
//
// A child that forks without exec has none of these threads and must not use this; Node always execs. All signals are
// blocked in them: they go to Node's threads.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"

namespace volseal::engine {

// One thread around epoll(7). A task or a watcher that blocks holds up everything else in its loop.
class EngineLoop {
 public:
  using Task = std::function<void()>;                    // two words of captures need no allocation
  using Watcher = std::function<void(uint32_t events)>;  // of epoll

  ~EngineLoop();
  EngineLoop(const EngineLoop&) = delete;
  EngineLoop& operator=(const EngineLoop&) = delete;

  // From any thread. Tasks run in the order in which they came, all of them before the loop looks at descriptors.
  void Post(Task task);
  // Whether the calling thread is this loop's.
  bool IsCurrent() const { return std::this_thread::get_id() == thread_.get_id(); }

  // The rest only in the loop's own thread, that is in a task or a watcher.

  // Calls `watcher` for each of `events` (level-triggered unless EPOLLET is among them; EPOLLERR and EPOLLHUP always).
  // `fd` is the caller's, who unwatches it before closing it.
  Status Watch(int fd, uint32_t events, Watcher watcher);
  Status Change(int fd, uint32_t events);
  // No call of its watcher comes after this, not even for events that are already on their way.
  void Unwatch(int fd);

 private:
  friend class EngineThreads;

  struct Watched {
    uint64_t id;  // never used again, as descriptors are
    std::shared_ptr<Watcher> watcher;
  };

  EngineLoop() = default;
  static Result<std::unique_ptr<EngineLoop>> Start(size_t index);
  Status Open();
  void Run();
  // Takes the tasks; where there are none, the next Post wakes the loop. False once the loop is to end.
  bool TakeTasks(std::vector<Task>& tasks);
  void Poll(bool wait);

  UniqueFd epoll_;
  UniqueFd wake_;
  std::thread thread_;
  std::map<int, Watched> watched_;       // by descriptor
  std::map<uint64_t, int> descriptors_;  // by id
  uint64_t next_id_ = 1;                 // 0 is `wake_`
  std::mutex mutex_;
  std::vector<Task> tasks_;
  bool sleeping_ = false;
  bool ending_ = false;
};

class EngineThreads {
 public:
  using Task = EngineLoop::Task;
  static constexpr size_t kHelpersMax = 8;

  static EngineThreads& OfProcess();

  // For users, who hold an EngineUse.

  size_t loop_count() const { return loops_.size(); }
  // The loops in turn: for a new connection or device, or for a task that any loop can do.
  EngineLoop& NextLoop();
  // Runs `task` in a helper: first come, first served. It may block.
  void Help(Task task);

 private:
  friend class EngineUse;

  EngineThreads() = default;
  Status Enter();
  void Leave();
  Status Start();
  void Stop();
  void RunHelper();

  std::mutex users_mutex_;
  size_t users_ = 0;
  std::vector<std::unique_ptr<EngineLoop>> loops_;  // changes only while there is no user
  std::atomic<size_t> next_loop_ = 0;

  std::mutex helpers_mutex_;
  std::condition_variable helpers_wake_;
  std::deque<Task> waiting_;
  std::vector<std::thread> helpers_;
  size_t idle_helpers_ = 0;
  bool stopping_ = false;
};

// A claim on the threads; while one lives they run. It never ends in one of them, which cannot wait for itself; its
// owner has ended before that whatever it posted, watched or asked help for.
class EngineUse {
 public:
  // kIo with EAGAIN, EMFILE and the like where the system has no thread or descriptor.
  static Result<EngineUse> Begin();
  EngineUse(EngineUse&& other) noexcept : threads_(std::exchange(other.threads_, nullptr)) {}
  EngineUse& operator=(EngineUse&&) = delete;
  ~EngineUse();

 private:
  explicit EngineUse(EngineThreads* threads) : threads_(threads) {}
  EngineThreads* threads_;
};

}  // namespace volseal::engine
