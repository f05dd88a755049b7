// An attached data segment: plaintext reads and writes at any offset and length over encrypted sectors of a file.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>

#include "base/bytes.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "engine/range_lock.h"
#include "vault/vault.h"
#include "xts/xts.h"

namespace volseal::engine {

struct DeviceOptions {
  int fd;  // duplicated
  vault::KeyHandle key;
  uint64_t data_offset_bytes;
  uint64_t size_bytes;
  uint32_t sector_bytes;
  bool writable;
};

// Safe from any thread; each call blocks its thread for the I/O. Every sector is seen whole: before a write or after
// it.
class Device {
 public:
  static Result<std::shared_ptr<Device>> Open(const DeviceOptions& options);

  Status Read(uint64_t offset, MutableBytes target);
  Status Write(uint64_t offset, Bytes source);
  // fdatasync; after a failure the device takes no write and no flush any more: the kernel has marked the lost pages
  // clean, so a later fsync that succeeds would prove nothing.
  Status Flush();
  // Waits for calls under way; later ones fail with kDetached.
  void Close();

 private:
  Device(const DeviceOptions& options, UniqueFd fd) : options_(options), fd_(std::move(fd)) {}

  Status CheckRange(uint64_t offset, size_t length) const;
  Status CheckWritable() const;
  uint64_t FileOffset(uint64_t offset) const { return options_.data_offset_bytes + offset; }
  xts::SectorRun RunAt(uint64_t offset, size_t length) const;
  // Reads and decrypts whole sectors into `target`.
  Status ReadSectors(const xts::KeySchedule& key, uint64_t offset, MutableBytes target) const;
  // Encrypts whole sectors of `source` into a buffer of this thread's, and writes them.
  Status WriteSectors(const xts::KeySchedule& key, uint64_t offset, Bytes source) const;
  // Changes `source.size()` bytes inside one sector.
  Status ChangeSector(const xts::KeySchedule& key, uint64_t offset, Bytes source) const;

  const DeviceOptions options_;
  UniqueFd fd_;
  RangeLock ranges_;
  std::shared_mutex lifetime_;  // shared by every call, exclusive for Close
  bool closed_ = false;
  std::mutex flush_mutex_;
  std::atomic<bool> poisoned_ = false;
};

}  // namespace volseal::engine
