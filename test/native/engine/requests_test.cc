#include "engine/requests.h"

#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "test_device.h"

// The program's own fdatasync: it counts, can be held up, and can fail.
namespace {
std::atomic<int> syncs = 0;
std::atomic<bool> hold_syncs = false;
std::atomic<bool> fail_syncs = false;
}  // namespace
extern "C" int fdatasync(int) {
  ++syncs;
  while (hold_syncs) std::this_thread::yield();
  if (!fail_syncs) return 0;
  errno = EIO;
  return -1;
}

namespace volseal::engine {
namespace {

using engine_test::kDeviceBytes;
using engine_test::OpenDevice;
using engine_test::TemporaryFile;
using engine_test::TestKey;
using engine_test::TestRequest;

TEST_CASE("reads see writes, at any offset and length, cached or not") {
  const TestKey key;
  const UniqueFd file = TemporaryFile();
  const auto device = OpenDevice(file.get(), key);
  for (const auto& [offset, length] : std::vector<std::pair<uint64_t, size_t>>{
           {0, 4096}, {4096, 65536}, {5, 1}, {4095, 2}, {100'000, 300'000}, {kDeviceBytes - 3, 3}, {0, 0}}) {
    std::vector<uint8_t> contents(length);
    for (size_t i = 0; i < length; ++i) contents[i] = static_cast<uint8_t>(i * 31 + length);
    TestRequest write(RequestKind::kWrite, offset, contents);
    device->Submit(write);
    REQUIRE(write.Wait().ok());
    TestRequest read(RequestKind::kRead, offset, std::vector<uint8_t>(length));
    device->Submit(read);
    REQUIRE(read.Wait().ok());
    CHECK(read.memory == contents);
    if (offset % 4096 != 0 || length % 4096 != 0 || length == 0) continue;
    CHECK(write.memory != contents);  // encrypted in place
    std::vector<uint8_t> at_once(length);
    const auto status = device->device().TryRead(offset, at_once);
    REQUIRE(status.has_value());
    CHECK(status->ok());
    CHECK(at_once == contents);
  }
}

TEST_CASE("outside the device, at once and by request") {
  const TestKey key;
  const UniqueFd file = TemporaryFile();
  const auto device = OpenDevice(file.get(), key);
  for (const uint64_t offset : {kDeviceBytes, kDeviceBytes - 1, UINT64_MAX}) {
    TestRequest read(RequestKind::kRead, offset, std::vector<uint8_t>(2));
    device->Submit(read);
    CHECK(read.Wait().code == Code::kArgument);
    CHECK(device->device().TryWriteInPlace(offset, read.memory)->code == Code::kArgument);
  }
}

TEST_CASE("a try that would wait for another request does nothing") {
  const TestKey key;
  const UniqueFd file = TemporaryFile();
  const auto device = OpenDevice(file.get(), key);
  std::vector<uint8_t> page(4096);
  // Parts of pages, and more than may be written at once.
  CHECK(!device->device().TryWriteInPlace(1, page).has_value());
  CHECK(!device->device().TryWriteInPlace(0, std::span(page).first(512)).has_value());
  std::vector<uint8_t> large(kTryWriteBytesMax + 4096);
  CHECK(!device->device().TryWriteInPlace(0, large).has_value());
  RangeLock ranges;
  const RangeLock::Guard held(ranges, 0, 100, false);
  CHECK(RangeLock::Guard(ranges, 50, 60, false, std::try_to_lock).holds());
  CHECK(!RangeLock::Guard(ranges, 50, 60, true, std::try_to_lock).holds());
  CHECK(RangeLock::Guard(ranges, 100, 160, true, std::try_to_lock).holds());
}

TEST_CASE("flushes that wait together are one fdatasync; one that came during it waits for the next") {
  const TestKey key;
  const UniqueFd file = TemporaryFile();
  const auto device = OpenDevice(file.get(), key);
  syncs = 0;
  hold_syncs = true;
  TestRequest first(RequestKind::kFlush);
  device->Submit(first);
  while (syncs == 0) std::this_thread::yield();
  std::vector<std::unique_ptr<TestRequest>> later;
  for (int i = 0; i < 50; ++i) later.push_back(std::make_unique<TestRequest>(RequestKind::kFlush));
  for (const auto& flush : later) device->Submit(*flush);
  CHECK(first.times_done == 0);
  hold_syncs = false;
  REQUIRE(first.Wait().ok());
  for (const auto& flush : later) REQUIRE(flush->Wait().ok());
  CHECK(syncs == 2);

  TestRequest durable(RequestKind::kWrite, 0, std::vector<uint8_t>(4096, 1));
  durable.durable = true;
  device->Submit(durable);
  REQUIRE(durable.Wait().ok());
  CHECK(syncs == 3);
}

TEST_CASE("a flush that fails fails all that waited for it, and everything after it but reads") {
  const TestKey key;
  const UniqueFd file = TemporaryFile();
  const auto device = OpenDevice(file.get(), key);
  syncs = 0;
  hold_syncs = true;
  fail_syncs = true;
  TestRequest first(RequestKind::kFlush), second(RequestKind::kFlush);
  TestRequest durable(RequestKind::kWrite, 0, std::vector<uint8_t>(4096, 1));
  durable.durable = true;
  device->Submit(first);
  while (syncs == 0) std::this_thread::yield();
  device->Submit(second);
  device->Submit(durable);
  hold_syncs = false;
  CHECK(first.Wait().code == Code::kIo);
  CHECK(second.Wait().code == Code::kPoisoned);
  CHECK(!durable.Wait().ok());
  fail_syncs = false;
  TestRequest write(RequestKind::kWrite, 0, std::vector<uint8_t>(4096)), flush(RequestKind::kFlush);
  TestRequest read(RequestKind::kRead, 0, std::vector<uint8_t>(4096));
  for (TestRequest* request : {&write, &flush, &read}) device->Submit(*request);
  CHECK(write.Wait().code == Code::kPoisoned);
  CHECK(flush.Wait().code == Code::kPoisoned);
  CHECK(read.Wait().ok());
}

TEST_CASE("closing waits for what is under way, and refuses what comes later: each is done once") {
  const TestKey key;
  const UniqueFd file = TemporaryFile();
  for (int round = 0; round < 20; ++round) {
    const auto device = OpenDevice(file.get(), key);
    std::vector<std::unique_ptr<TestRequest>> requests;
    for (int i = 0; i < 400; ++i) {
      const auto kind = i % 3 == 0 ? RequestKind::kRead : i % 3 == 1 ? RequestKind::kWrite : RequestKind::kFlush;
      requests.push_back(std::make_unique<TestRequest>(kind, i * 1000, std::vector<uint8_t>(1 + i * 7)));
    }
    std::atomic<size_t> submitted = 0;
    std::thread submitter([&] {
      for (const auto& request : requests) {
        device->Submit(*request);
        ++submitted;
      }
    });
    while (submitted < static_cast<size_t>(round) * 20) std::this_thread::yield();
    device->Close();
    submitter.join();
    size_t refused = 0;
    for (const auto& request : requests) {
      const Status& status = request->Wait();
      CHECK((status.ok() || status.code == Code::kDetached));
      refused += !status.ok();
      CHECK(request->times_done == 1);
    }
    CHECK(refused <= requests.size() - static_cast<size_t>(round) * 20);
    TestRequest late(RequestKind::kRead, 0, std::vector<uint8_t>(1));
    device->Submit(late);
    CHECK(late.Wait().code == Code::kDetached);
  }
}

TEST_CASE("writes side by side that share sectors lose no byte") {
  const TestKey key;
  const UniqueFd file = TemporaryFile();
  const auto device = OpenDevice(file.get(), key);
  std::vector<std::unique_ptr<TestRequest>> writes;
  for (uint64_t at = 0; at < 60'000; at += 100) {
    writes.push_back(std::make_unique<TestRequest>(RequestKind::kWrite, at,
                                                   std::vector<uint8_t>(100, static_cast<uint8_t>(at / 100))));
  }
  for (const auto& write : writes) device->Submit(*write);
  for (const auto& write : writes) REQUIRE(write->Wait().ok());
  TestRequest read(RequestKind::kRead, 0, std::vector<uint8_t>(60'000));
  device->Submit(read);
  REQUIRE(read.Wait().ok());
  size_t wrong = 0;
  for (size_t i = 0; i < read.memory.size(); ++i) wrong += read.memory[i] != static_cast<uint8_t>(i / 100);
  CHECK(wrong == 0);
}

TEST_CASE("a key that is wiped ends requests with its own error, not with bytes") {
  const UniqueFd file = TemporaryFile();
  std::shared_ptr<DeviceRequests> device;
  {
    const TestKey key;
    device = OpenDevice(file.get(), key);
  }
  TestRequest read(RequestKind::kRead, 0, std::vector<uint8_t>(4096));
  device->Submit(read);
  CHECK(read.Wait().code == Code::kKeyGone);
}

}  // namespace
}  // namespace volseal::engine
