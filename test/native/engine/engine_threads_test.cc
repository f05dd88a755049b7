#include "engine/engine_threads.h"

#include <doctest/doctest.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <latch>
#include <thread>
#include <vector>

namespace volseal::engine {
namespace {

// Runs `work` in the loop and waits for it.
template <typename Work>
void RunIn(EngineLoop& loop, Work work) {
  std::promise<void> done;
  loop.Post([&] {
    work();
    done.set_value();
  });
  done.get_future().wait();
}

TEST_CASE("tasks of one poster run in order, in the loop's thread, and none is lost") {
  auto use = EngineUse::Begin();
  REQUIRE(use.ok());
  EngineLoop& loop = EngineThreads::OfProcess().NextLoop();
  constexpr int kPosters = 4, kTasks = 5000;
  std::vector<int> last(kPosters, -1);
  int wrong = 0;
  std::vector<std::thread> posters;
  for (int poster = 0; poster < kPosters; ++poster) {
    posters.emplace_back([&, poster] {
      for (int i = 0; i < kTasks; ++i) {
        loop.Post([&, poster, i] { wrong += !loop.IsCurrent() || std::exchange(last[poster], i) != i - 1; });
      }
    });
  }
  for (std::thread& thread : posters) thread.join();
  RunIn(loop, [] {});
  CHECK(wrong == 0);
  CHECK(last == std::vector<int>(kPosters, kTasks - 1));
  CHECK(!loop.IsCurrent());
}

TEST_CASE("what is posted when the last user leaves has run when it has left, and the threads start again") {
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> ran = 0;
    {
      auto use = EngineUse::Begin();
      REQUIRE(use.ok());
      for (int i = 0; i < 100; ++i) {
        EngineThreads::OfProcess().NextLoop().Post([&] { ++ran; });
        EngineThreads::OfProcess().Help([&] { ++ran; });
      }
    }
    CHECK(ran == 200);
  }
}

TEST_CASE("as many helpers as may block at a time, and no more") {
  auto use = EngineUse::Begin();
  REQUIRE(use.ok());
  constexpr size_t kMax = EngineThreads::kHelpersMax;
  std::atomic<size_t> running = 0, most = 0, done = 0;
  std::latch all_run(kMax), ended(4 * kMax);
  for (size_t i = 0; i < 4 * kMax; ++i) {
    EngineThreads::OfProcess().Help([&, i] {
      const size_t now = ++running;
      for (size_t seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
      }
      if (i < kMax) all_run.arrive_and_wait();  // deadlocks unless they run side by side
      --running;
      ++done;
      ended.count_down();
    });
  }
  ended.wait();
  CHECK(most == kMax);
  CHECK(done == 4 * kMax);
}

TEST_CASE("a watched descriptor: level-triggered events, other events, and none once it is unwatched") {
  auto use = EngineUse::Begin();
  REQUIRE(use.ok());
  EngineLoop& loop = EngineThreads::OfProcess().NextLoop();
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  std::promise<void> heard;
  int calls = 0;
  RunIn(loop, [&] {
    const Status status = loop.Watch(ends[0], EPOLLIN, [&](uint32_t events) {
      // The byte stays unread: the second call comes of itself.
      if (++calls < 3) return;
      CHECK((events & EPOLLIN) != 0);
      loop.Unwatch(ends[0]);
      heard.set_value();
    });
    CHECK(status.ok());
    CHECK(!loop.Watch(ends[0], EPOLLIN, [](uint32_t) {}).ok());
  });
  REQUIRE(write(ends[1], "x", 1) == 1);
  heard.get_future().wait();
  RunIn(loop, [] {});
  RunIn(loop, [] {});
  CHECK(calls == 3);
  close(ends[0]);
  close(ends[1]);
}

TEST_CASE("an event on its way to a descriptor that is replaced meanwhile reaches nobody") {
  auto use = EngineUse::Begin();
  REQUIRE(use.ok());
  EngineLoop& loop = EngineThreads::OfProcess().NextLoop();
  int pairs[2][2];
  for (auto& pair : pairs) REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  int first_calls = 0, replaced_calls = 0;
  std::promise<void> heard;
  RunIn(loop, [&] {
    // Both become readable before the loop looks: whoever is called first unwatches the other one.
    for (int i = 0; i < 2; ++i) {
      CHECK(write(pairs[i][1], "x", 1) == 1);
      const Status status = loop.Watch(pairs[i][0], EPOLLIN, [&, i](uint32_t) {
        ++first_calls;
        loop.Unwatch(pairs[0][0]);
        loop.Unwatch(pairs[1][0]);
        const int other = pairs[1 - i][0];
        CHECK(loop.Watch(other, EPOLLOUT,
                         [&, other](uint32_t events) {
                           replaced_calls += (events & EPOLLIN) != 0;
                           loop.Unwatch(other);
                           heard.set_value();
                         })
                  .ok());
      });
      CHECK(status.ok());
    }
  });
  heard.get_future().wait();
  CHECK(first_calls == 1);
  CHECK(replaced_calls == 0);
  for (auto& pair : pairs) {
    close(pair[0]);
    close(pair[1]);
  }
}

}  // namespace
}  // namespace volseal::engine
