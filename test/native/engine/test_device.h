// What the tests of requests share: a device on a temporary file, and a request that can be waited for.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "engine/requests.h"
#include "vault/vault.h"

namespace volseal::engine_test {

constexpr uint64_t kDeviceBytes = 4 << 20;

// A volume key in the vault, until the scope ends.
class TestKey {
 public:
  explicit TestKey(uint8_t first = 1) {
    auto key = vault::Vault::OfProcess().Reserve();
    for (size_t i = 0; i < 64; ++i) key.value().data()[i] = static_cast<uint8_t>(i * 7 + first);
    handle_ = key.value().Commit(64);
    if (!vault::Vault::OfProcess().MakeVolumeKey(handle_).ok()) std::abort();
  }
  ~TestKey() { vault::Vault::OfProcess().WipeKey(handle_); }
  vault::KeyHandle handle() const { return handle_; }

 private:
  vault::KeyHandle handle_;
};

// An unnamed file.
inline UniqueFd TemporaryFile() {
  char path[] = "/tmp/volseal-engine-XXXXXX";
  UniqueFd fd(mkstemp(path));
  unlink(path);
  if (!fd.valid() || ftruncate(fd.get(), kDeviceBytes) != 0) std::abort();
  return fd;
}

inline std::shared_ptr<engine::DeviceRequests> OpenDevice(int fd, const TestKey& key, uint32_t sector_bytes = 4096) {
  auto device = engine::DeviceRequests::Open(
      {.regions = {{.fd = fd, .key = key.handle(), .offset_bytes = 0, .size_bytes = kDeviceBytes}},
       .sector_bytes = sector_bytes,
       .writable = true,
       .sparse = true});
  if (!device.ok()) std::abort();
  return device.value();
}

struct TestRequest : engine::Request {
  explicit TestRequest(engine::RequestKind kind) : Request(kind) {}
  TestRequest(engine::RequestKind kind, uint64_t at, std::vector<uint8_t> contents)
      : Request(kind), memory(std::move(contents)) {
    offset = at;
    length = memory.size();
    bytes = memory;
  }
  void Done() override {
    const std::lock_guard guard(mutex);
    ++times_done;
    wake.notify_all();
  }
  const Status& Wait() {
    std::unique_lock guard(mutex);
    wake.wait(guard, [this] { return times_done > 0; });
    return status;
  }

  std::vector<uint8_t> memory;
  std::mutex mutex;
  std::condition_variable wake;
  int times_done = 0;
};

}  // namespace volseal::engine_test
