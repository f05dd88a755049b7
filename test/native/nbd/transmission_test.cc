// The transmission phase over a volume in memory.
#include "nbd/transmission.h"

#include <doctest/doctest.h>

#include <array>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "memory_volume.h"

namespace volseal::nbd_test {
namespace {

using namespace nbd;

constexpr size_t kSize = 40 << 20;

MemoryVolume Patterned() {
  MemoryVolume volume(kSize);
  for (size_t i = 0; i < kSize; i += 8) StoreLittle64(&volume.bytes[i], i * 0x9e3779b97f4a7c15);
  return volume;
}

ByteVector Slice(const MemoryVolume& volume, uint64_t offset, size_t length) {
  const auto begin = volume.bytes.begin() + static_cast<ptrdiff_t>(offset);
  return {begin, begin + static_cast<ptrdiff_t>(length)};
}

ByteVector Simple(uint32_t error, uint64_t cookie = 7) {
  return Message().U32(kSimpleReplyMagic).U32(error).U64(cookie);
}

TEST_CASE("latencies are counted by powers of two, each limit in its own bucket") {
  Latencies latencies;
  const auto bucket_of = [&](int64_t nanoseconds) {
    std::array<uint64_t, Latencies::kBuckets> before;
    for (size_t i = 0; i < before.size(); ++i) before[i] = latencies.count(i);
    latencies.Add(std::chrono::nanoseconds(nanoseconds));
    for (size_t i = 0; i < before.size(); ++i) {
      if (latencies.count(i) != before[i]) return i;
    }
    return Latencies::kBuckets;
  };
  CHECK(bucket_of(-1) == 0);
  CHECK(bucket_of(1000) == 0);
  for (size_t i = 1; i < Latencies::kBuckets - 1; ++i) {
    const int64_t limit = int64_t{1000} << i;
    CHECK(bucket_of(limit - 1) == i);
    CHECK(bucket_of(limit) == i);
    CHECK(bucket_of(limit + 1) == i + 1);
  }
  CHECK(bucket_of(INT64_MAX / 2) == Latencies::kBuckets - 1);
}

TEST_CASE("reads of every length, from the cache and from a helper, in every form of reply") {
  MemoryVolume volume = Patterned();
  for (bool at_once : {true, false}) {
    volume.at_once = at_once;
    for (uint32_t length :
         {0u, 1u, 511u, 4096u, 65'472u, 65'536u, 262'144u, 262'145u, 1u << 20, (1u << 20) + 1, 3'000'001u, 32u << 20}) {
      for (uint64_t offset : {uint64_t{0}, uint64_t{4093}}) {
        CAPTURE(length);
        CAPTURE(at_once);
        Client old(volume, false);
        old.Send(RequestOf(kRead, offset, length));
        CHECK(old.Finish() == Message().All(Simple(0)).All(Slice(volume, offset, length)).bytes());
        CHECK(old.transmission.idle());
        for (uint16_t flags : {uint16_t{0}, uint16_t{kDontFragment}}) {
          Client client(volume, true);
          client.Send(RequestOf(kRead, offset, length, flags));
          const ReadReply reply = ParseReadReply(client.Finish(), offset, length);
          CHECK(reply.good);
          CHECK(reply.done);
          CHECK(reply.data == Slice(volume, offset, length));
          CHECK(client.counters.bytes_read == length);
          CHECK(client.counters.requests == 1);
        }
      }
    }
  }
}

TEST_CASE("writes of every length, cut in every way, whatever else is under way") {
  for (bool at_once : {true, false}) {
    for (uint32_t length : {0u, 1u, 4096u, 100'000u, 262'144u, 300'000u, 2'000'000u}) {
      for (size_t step : {size_t{1000}, size_t{65'536}, SIZE_MAX}) {
        MemoryVolume volume(kSize);
        volume.at_once = at_once;
        ByteVector payload(length);
        for (size_t i = 0; i < length; i++) payload[i] = static_cast<uint8_t>(i * 131 + 1);
        Client client(volume, true);
        const ByteVector all = Message().All(RequestOf(kWrite, 8192, length)).All(payload);
        ByteVector replies;
        for (size_t sent = 0; sent < all.size();) {
          const size_t now = client.Send({all.begin() + static_cast<ptrdiff_t>(sent), all.end()}, step);
          sent += now;
          if (now == 0) volume.PerformAll();
          const ByteVector some = client.Take();
          replies.insert(replies.end(), some.begin(), some.end());
        }
        const ByteVector rest = client.Finish();
        replies.insert(replies.end(), rest.begin(), rest.end());
        CHECK(replies == Simple(0));
        CHECK(Slice(volume, 8192, length) == payload);
        CHECK(client.counters.bytes_written == length);
        CHECK(client.transmission.idle());
      }
    }
  }
}

TEST_CASE("FUA: the reply waits for a flush behind the write") {
  MemoryVolume volume(kSize);
  Client client(volume, true);
  client.Send(Message().All(RequestOf(kWrite, 0, 4096, kFua)).All(ByteVector(4096, 1)));
  CHECK(client.Take().empty());
  REQUIRE(volume.waiting.size() == 1);
  CHECK(volume.waiting[0]->kind == engine::RequestKind::kFlush);
  volume.PerformAll();
  CHECK(client.Take() == Simple(0));
}

TEST_CASE("a flush that fails is an error, and the owner hears of it") {
  MemoryVolume volume(kSize);
  volume.good_calls = 1;
  Client client(volume, true);
  client.Send(RequestOf(kFlush, 0, 0));
  CHECK(client.Finish() == Simple(kErrIo));
  CHECK(client.failures == 1);
  CHECK(client.counters.errors == 1);
}

TEST_CASE("a refused write's payload is dropped, and the next request is in step") {
  MemoryVolume volume(kSize);
  Client client(volume, true);
  const uint32_t too_long = kPayloadBytesMax + 1;
  client.Send(Message()
                  .All(RequestOf(kWrite, 0, too_long, 0, 1))
                  .All(ByteVector(too_long, 1))
                  .All(RequestOf(kWrite, kSize, 10, 0, 2))
                  .All(ByteVector(10, 1))
                  .All(RequestOf(kFlush, 0, 0, 0, 3)));
  CHECK(client.Finish() == Message().All(Simple(kErrInvalid, 1)).All(Simple(kErrNoSpace, 2)).All(Simple(0, 3)).bytes());
  CHECK(volume.bytes == ByteVector(kSize));
}

TEST_CASE("a write that fails half-way is an error, and the rest of it is dropped") {
  MemoryVolume volume(kSize);
  volume.good_calls = 3;
  Client client(volume, true);
  client.Send(Message().All(RequestOf(kWrite, 0, 2 << 20, 0, 1)).All(ByteVector(2 << 20, 1)));
  CHECK(client.Finish() == Simple(kErrNoSpace, 1));
  CHECK(client.failures == 1);
}

TEST_CASE("reads that fail: an error in the reply's own form, and only half a simple reply breaks the connection") {
  for (bool at_once : {true, false}) {
    for (size_t good : {1, 2, 3, 5}) {
      MemoryVolume volume = Patterned();
      volume.at_once = at_once;
      volume.good_calls = good;
      Client client(volume, true);
      client.Send(RequestOf(kRead, 0, 2 << 20));
      const ReadReply reply = ParseReadReply(client.Finish(), 0, 2 << 20);
      CHECK(reply.good);
      CHECK(reply.done);
      CHECK(reply.error == kErrIo);
      CHECK(client.transmission.idle());
      CHECK(!client.transmission.broken());

      volume.good_calls = good;
      Client old(volume, false);
      old.Send(RequestOf(kRead, 0, 2 << 20));
      const ByteVector bytes = old.Finish();
      if (good == 1) {
        CHECK(bytes == Simple(kErrIo));
      } else {
        CHECK(old.transmission.broken());
      }
    }
  }
}

TEST_CASE("replies come in whatever order the volume has") {
  MemoryVolume volume = Patterned();
  volume.at_once = false;
  Client client(volume, false);
  client.Send(Message().All(RequestOf(kRead, 0, 16, 0, 1)).All(RequestOf(kRead, 16, 16, 0, 2)));
  REQUIRE(volume.waiting.size() == 2);
  volume.Perform(1);
  CHECK(client.Take() == Message().All(Simple(0, 2)).All(Slice(volume, 16, 16)).bytes());
  volume.Perform(0);
  CHECK(client.Take() == Message().All(Simple(0, 1)).All(Slice(volume, 0, 16)).bytes());
  CHECK(client.wakes == 2);
}

TEST_CASE("a client that does not read its replies is not read either, and holds no more than its share") {
  MemoryVolume volume = Patterned();
  for (bool at_once : {true, false}) {
    volume.at_once = at_once;
    Client client(volume, true);
    Message many;
    for (int i = 0; i < 200'000; i++) many.All(RequestOf(kRead, 0, 1 << 20));
    const ByteVector all = many;
    size_t sent = 0;
    for (int i = 0; i < 100; i++) {
      const size_t now = client.Send({all.begin() + static_cast<ptrdiff_t>(sent), all.end()});
      sent += now;
      volume.PerformAll();
      client.transmission.Work();
    }
    CHECK(sent < 1 << 20);
    CHECK(client.transmission.output().length() <= kShareBytes);
  }
}

TEST_CASE("a client that is silent until all its reads are answered gets them all, however many came at once") {
  MemoryVolume volume = Patterned();
  for (bool at_once : {true, false}) {
    volume.at_once = at_once;
    for (uint32_t length : {4096u, 65'536u, 262'144u}) {
      CAPTURE(at_once);
      CAPTURE(length);
      Client client(volume, true);
      ByteVector requests;
      constexpr size_t kRequests = 64;
      for (size_t i = 0; i < kRequests; ++i) {
        const ByteVector request = RequestOf(kRead, i * length, length);
        requests.insert(requests.end(), request.begin(), request.end());
      }
      CHECK(client.Send(requests) == requests.size());
      client.Finish();
      CHECK(client.transmission.idle());
      CHECK(client.counters.requests == kRequests);
      CHECK(client.counters.bytes_read == kRequests * length);
    }
  }
}

TEST_CASE("a read beyond memory: 32 MiB of simple reply within a share") {
  MemoryVolume volume = Patterned();
  volume.at_once = false;
  Client client(volume, false);
  client.Send(RequestOf(kRead, 0, 32 << 20));
  size_t most = 0;
  ByteVector all;
  while (!client.transmission.idle()) {
    client.transmission.Work();
    most = std::max(most, client.transmission.output().length());
    volume.PerformAll();
    const ByteVector some = client.Take();
    all.insert(all.end(), some.begin(), some.end());
  }
  CHECK(most <= kShareBytes);
  CHECK(all == Message().All(Simple(0)).All(Slice(volume, 0, 32 << 20)).bytes());
}

TEST_CASE("zeroes, trim and cache") {
  MemoryVolume volume = Patterned();
  Client client(volume, true, true);
  client.Send(RequestOf(kWriteZeroes, 4096, 20 << 20));
  CHECK(client.Finish() == Simple(0));
  CHECK(Slice(volume, 4096, 20 << 20) == ByteVector(20 << 20));
  CHECK(volume.bytes[(20 << 20) + 4096 + 8] != 0);
  client.Send(RequestOf(kTrim, 30 << 20, 4096));
  CHECK(client.Finish() == Simple(0));
  client.Send(RequestOf(kCache, 0, 1 << 20));
  CHECK(client.Finish() == Simple(0));
  CHECK(volume.prefetches == 1);
  // NO_HOLE: written as data.
  client.Send(RequestOf(kWriteZeroes, (20 << 20) + 4096, 1 << 20, kNoHole));
  REQUIRE(volume.waiting.size() == 1);
  CHECK(volume.waiting[0]->kind == engine::RequestKind::kWrite);
  CHECK(client.Finish() == Simple(0));
  CHECK(Slice(volume, (20 << 20) + 4096, 1 << 20) == ByteVector(1 << 20, 0));
  client.Send(RequestOf(kWriteZeroes, 0, 0));
  CHECK(client.Finish() == Simple(0));
}

TEST_CASE("block status") {
  MemoryVolume volume(kSize);
  Client client(volume, true);
  client.Send(RequestOf(kBlockStatus, 0, 1 << 20));
  CHECK(client.Finish() == Message().U32(kChunkMagic).U16(1).U16(5).U64(7).U32(12).U32(1).U32(1 << 20).U32(0).bytes());
  client.Send(RequestOf(kBlockStatus, kSize, 1));
  CHECK(ParseReadReply(client.Finish(), 0, 0).error == kErrInvalid);
  Client old(volume, false);
  old.Send(RequestOf(kBlockStatus, 0, 1));
  CHECK(old.Finish() == Simple(kErrInvalid));
}

TEST_CASE("junk: a wrong magic number breaks the connection, whatever came before is answered") {
  MemoryVolume volume(kSize);
  Client client(volume, true);
  client.Send(Message().All(RequestOf(kFlush, 0, 0)).All(ByteVector(28, 0x55)));
  CHECK(client.transmission.broken());
  volume.PerformAll();
  client.transmission.Work();
  CHECK(client.transmission.under_way() == 0);
  CHECK(client.transmission.ReceiveSpace().empty());
}

TEST_CASE("a disconnect is not answered; what came before it is") {
  MemoryVolume volume = Patterned();
  volume.at_once = false;
  Client client(volume, false);
  client.Send(Message().All(RequestOf(kRead, 0, 16)).All(RequestOf(kDisconnect, 0, 0)).All(RequestOf(kRead, 0, 16)));
  CHECK(client.transmission.draining());
  CHECK(!client.transmission.idle());
  CHECK(client.Finish() == Message().All(Simple(0)).All(Slice(volume, 0, 16)).bytes());
  CHECK(client.transmission.idle());
}

TEST_CASE("draining: a write whose payload is not there is not answered") {
  MemoryVolume volume(kSize);
  Client client(volume, true);
  client.Send(Message().All(RequestOf(kWrite, 0, 1 << 20)).All(ByteVector(200'000, 1)));
  client.transmission.Drain();
  CHECK(client.Finish().empty());
  CHECK(client.transmission.idle());
}

TEST_CASE("the end of a connection waits for what the engine has, and begins nothing more") {
  MemoryVolume volume(kSize);
  volume.at_once = false;
  Client client(volume, true);
  client.Send(Message().All(RequestOf(kWriteZeroes, 0, 32 << 20)).All(RequestOf(kRead, 0, 4 << 20)));
  const size_t under_way = client.transmission.under_way();
  CHECK(under_way > 1);
  client.transmission.Stop();
  volume.PerformAll();
  client.transmission.Work();
  CHECK(client.transmission.under_way() == 0);
  CHECK(volume.waiting.empty());
}

TEST_CASE("how the bytes are cut makes no difference") {
  Message all;
  for (uint32_t i = 0; i < 20; i++) {
    all.All(RequestOf(kWrite, i * 5000, 4000 + i, i % 3 == 0 ? kFua : 0, i)).All(ByteVector(4000 + i, uint8_t(i)));
    all.All(RequestOf(kRead, i * 5000, 100, 0, 100 + i));
  }
  ByteVector expected;
  for (size_t step : {SIZE_MAX, size_t{1}, size_t{7}, size_t{27}, size_t{28}, size_t{29}, size_t{4028}}) {
    MemoryVolume volume(kSize);
    Client client(volume, false);
    client.Send(all, step);
    client.Finish();
    if (expected.empty()) expected = volume.bytes;
    CHECK(volume.bytes == expected);
    CHECK(client.counters.requests == 40);
    CHECK(client.counters.errors == 0);
  }
}

// A volume whose requests are carried out by several threads.
class ThreadedVolume final : public Backend {
 public:
  explicit ThreadedVolume(size_t size) : memory_(size) {
    for (std::thread& thread : threads_) thread = std::thread([this] { Run(); });
  }
  ~ThreadedVolume() override {
    {
      const std::lock_guard guard(mutex_);
      ending_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  std::optional<Status> TryRead(uint64_t, MutableBytes) override { return std::nullopt; }
  std::optional<Status> TryWriteInPlace(uint64_t, MutableBytes) override { return std::nullopt; }
  void Submit(engine::Request& request) override {
    {
      const std::lock_guard guard(mutex_);
      waiting_.push_back(&request);
    }
    wake_.notify_one();
  }
  void Prefetch(uint64_t, uint64_t) override {}

 private:
  void Run() {
    std::unique_lock guard(mutex_);
    while (true) {
      wake_.wait(guard, [this] { return ending_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      engine::Request& request = *waiting_.front();
      waiting_.pop_front();
      if (request.kind == engine::RequestKind::kRead) {
        std::memcpy(request.bytes.data(), &memory_[request.offset], request.bytes.size());
      } else if (request.kind == engine::RequestKind::kWrite) {
        std::memcpy(&memory_[request.offset], request.bytes.data(), request.bytes.size());
      }
      request.status = Ok();
      guard.unlock();
      request.Done();  // while others do the same
      guard.lock();
    }
  }

  std::vector<uint8_t> memory_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<engine::Request*> waiting_;
  bool ending_ = false;
  std::array<std::thread, 4> threads_;
};

TEST_CASE("completions come from any thread") {
  ThreadedVolume volume(1 << 20);
  const ExportInfo info = {.size_bytes = 1 << 20};
  Counters counters;
  for (int round = 0; round < 50; round++) {
    std::mutex mutex;
    std::condition_variable woken;
    bool wake = false;
    Transmission transmission(
        info, {.structured_replies = true}, volume, counters,
        [&] {
          const std::lock_guard guard(mutex);
          wake = true;
          woken.notify_one();
        },
        [](const Status&) {});
    Message message;
    for (uint32_t i = 0; i < 60; i++) {
      message.All(RequestOf(kWrite, i * 4096, 4096, i % 7 == 0 ? kFua : 0, i)).All(ByteVector(4096, uint8_t(i)));
      message.All(RequestOf(kRead, i * 4096, 300, 0, 1000 + i));
    }
    const ByteVector all = message;
    size_t sent = 0;
    while (sent < all.size() || !transmission.idle()) {
      const MutableBytes space = transmission.ReceiveSpace();
      const size_t count = std::min(space.size(), all.size() - sent);
      if (count > 0) std::memcpy(space.data(), &all[sent], count);
      sent += count;
      transmission.Received(count);
      transmission.Work();
      transmission.output().Sent(transmission.output().length());
      if (count > 0 || transmission.idle()) continue;
      std::unique_lock guard(mutex);
      woken.wait(guard, [&] { return std::exchange(wake, false) || transmission.under_way() == 0; });
    }
  }
  CHECK(counters.requests == 50 * 120);
  CHECK(counters.errors == 0);
}

}  // namespace
}  // namespace volseal::nbd_test
