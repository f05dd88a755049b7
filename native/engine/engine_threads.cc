#include "engine/engine_threads.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <system_error>

namespace volseal::engine {
namespace {

constexpr size_t kLoopsMax = 16;
constexpr size_t kEventsAtOnce = 64;

// A thread with this name and without signals.
template <typename Run>
Result<std::thread> StartThread(const std::string& name, Run run) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  Result<std::thread> result = SystemFailure(EAGAIN, "pthread_create");
  try {
    std::thread thread(run);
    pthread_setname_np(thread.native_handle(), name.c_str());
    result = std::move(thread);
  } catch (const std::system_error& error) {
    result = SystemFailure(error.code().value(), "pthread_create");
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return result;
}

}  // namespace

EngineLoop::~EngineLoop() {
  if (!thread_.joinable()) return;
  Post([this] { ending_ = true; });
  thread_.join();
}

Result<std::unique_ptr<EngineLoop>> EngineLoop::Start(size_t index) {
  std::unique_ptr<EngineLoop> loop(new EngineLoop);
  if (Status status = loop->Open(); !status.ok()) return status;
  auto thread = StartThread("volseal-io-" + std::to_string(index), [loop = loop.get()] { loop->Run(); });
  if (!thread.ok()) return thread.status();
  loop->thread_ = std::move(thread.value());
  return loop;
}

Status EngineLoop::Open() {
  epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) return SystemFailure(errno, "epoll_create1");
  wake_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_.valid()) return SystemFailure(errno, "eventfd");
  // Edge-triggered, so that nobody needs to read it: each write is an edge.
  epoll_event event = {.events = EPOLLIN | EPOLLET, .data = {.u64 = 0}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event) != 0) return SystemFailure(errno, "epoll_ctl");
  return Ok();
}

void EngineLoop::Post(Task task) {
  bool wake;
  {
    const std::lock_guard guard(mutex_);
    tasks_.push_back(std::move(task));
    wake = std::exchange(sleeping_, false);
  }
  if (!wake) return;
  const uint64_t one = 1;
  // It fails only where the counter is full, and then the loop is awake.
  while (write(wake_.get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
}

bool EngineLoop::TakeTasks(std::vector<Task>& tasks) {
  const std::lock_guard guard(mutex_);
  if (tasks_.empty() && ending_) return false;
  tasks.swap(tasks_);
  sleeping_ = tasks.empty();
  return true;
}

void EngineLoop::Run() {
  std::vector<Task> tasks;
  while (TakeTasks(tasks)) {
    const bool idle = tasks.empty();
    for (Task& task : tasks) task();
    tasks.clear();
    if (idle || !watched_.empty()) Poll(idle);
  }
}

void EngineLoop::Poll(bool wait) {
  std::array<epoll_event, kEventsAtOnce> events;
  const int count = epoll_wait(epoll_.get(), events.data(), kEventsAtOnce, wait ? -1 : 0);
  if (wait) {
    const std::lock_guard guard(mutex_);
    sleeping_ = false;
  }
  for (int i = 0; i < count; ++i) {
    // One of this batch may have been unwatched by an earlier watcher, and its descriptor be another file by now.
    const auto known = descriptors_.find(events[i].data.u64);
    if (known == descriptors_.end()) continue;
    const std::shared_ptr<Watcher> watcher = watched_.at(known->second).watcher;
    (*watcher)(events[i].events);
  }
}

Status EngineLoop::Watch(int fd, uint32_t events, Watcher watcher) {
  const uint64_t id = next_id_++;
  epoll_event event = {.events = events, .data = {.u64 = id}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return SystemFailure(errno, "epoll_ctl");
  watched_[fd] = {id, std::make_shared<Watcher>(std::move(watcher))};
  descriptors_[id] = fd;
  return Ok();
}

Status EngineLoop::Change(int fd, uint32_t events) {
  const auto known = watched_.find(fd);
  if (known == watched_.end()) return SystemFailure(ENOENT, "epoll_ctl");
  epoll_event event = {.events = events, .data = {.u64 = known->second.id}};
  return epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) == 0 ? Ok() : SystemFailure(errno, "epoll_ctl");
}

void EngineLoop::Unwatch(int fd) {
  const auto known = watched_.find(fd);
  if (known == watched_.end()) return;
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  descriptors_.erase(known->second.id);
  watched_.erase(known);
}

EngineThreads& EngineThreads::OfProcess() {
  static EngineThreads* const threads =
      new EngineThreads;  // never destroyed: its threads may outlive static destructors
  return *threads;
}

Result<EngineUse> EngineUse::Begin() {
  EngineThreads& threads = EngineThreads::OfProcess();
  if (Status status = threads.Enter(); !status.ok()) return status;
  return EngineUse(&threads);
}

EngineUse::~EngineUse() {
  if (threads_) threads_->Leave();
}

Status EngineThreads::Enter() {
  const std::lock_guard guard(users_mutex_);
  if (users_ == 0) {
    if (Status status = Start(); !status.ok()) {
      Stop();
      return status;
    }
  }
  ++users_;
  return Ok();
}

void EngineThreads::Leave() {
  const std::lock_guard guard(users_mutex_);
  if (--users_ == 0) Stop();
}

Status EngineThreads::Start() {
  const size_t count = std::clamp<size_t>(std::thread::hardware_concurrency(), 1, kLoopsMax);
  while (loops_.size() < count) {
    auto loop = EngineLoop::Start(loops_.size());
    // Fewer do the same work.
    if (!loop.ok()) return loops_.empty() ? loop.status() : Ok();
    loops_.push_back(std::move(loop.value()));
  }
  return Ok();
}

void EngineThreads::Stop() {
  std::vector<std::thread> helpers;
  {
    const std::lock_guard guard(helpers_mutex_);
    stopping_ = true;
    helpers.swap(helpers_);
  }
  helpers_wake_.notify_all();
  for (std::thread& helper : helpers) helper.join();
  loops_.clear();
  stopping_ = false;
}

EngineLoop& EngineThreads::NextLoop() {
  return *loops_[next_loop_.fetch_add(1, std::memory_order_relaxed) % loops_.size()];
}

void EngineThreads::Help(Task task) {
  std::unique_lock guard(helpers_mutex_);
  if (waiting_.size() >= idle_helpers_ && helpers_.size() < kHelpersMax) {
    auto helper = StartThread("volseal-help-" + std::to_string(helpers_.size()), [this] { RunHelper(); });
    if (helper.ok()) {
      helpers_.push_back(std::move(helper.value()));
    } else if (helpers_.empty()) {
      // The system has no more threads: late is better than never.
      guard.unlock();
      NextLoop().Post(std::move(task));
      return;
    }
  }
  waiting_.push_back(std::move(task));
  guard.unlock();
  helpers_wake_.notify_one();
}

void EngineThreads::RunHelper() {
  std::unique_lock guard(helpers_mutex_);
  while (true) {
    ++idle_helpers_;
    helpers_wake_.wait(guard, [this] { return !waiting_.empty() || stopping_; });
    --idle_helpers_;
    if (waiting_.empty()) return;
    Task task = std::move(waiting_.front());
    waiting_.pop_front();
    guard.unlock();
    task();
    task = nullptr;  // what it captured ends without the lock
    guard.lock();
  }
}

}  // namespace volseal::engine
