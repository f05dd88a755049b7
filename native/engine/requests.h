// Requests on an attached device, served by the threads of the engine: what the library, and connections of other
// programs, ask for.
//
// Reads that the page cache holds, and writes of whole pages, are served in a loop; what blocks goes to helpers.
// Flushes that wait at the same time are one fdatasync.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "engine/device.h"
#include "engine/engine_threads.h"

namespace volseal::engine {

enum class RequestKind : uint8_t { kRead, kWrite, kFlush, kZero, kTrim, kFill, kExtents };

// What is asked, and then what came of it. The submitter owns it, and touches neither it nor its bytes from Submit
// until Done.
struct Request {
  explicit Request(RequestKind request_kind) : kind(request_kind) {}
  virtual ~Request() = default;
  // Called once, in a thread of the engine or in Submit; it may submit more and end the request, but not block.
  virtual void Done() = 0;

  const RequestKind kind;
  uint64_t offset = 0;
  uint64_t length = 0;  // of zero, trim, fill and extents
  // The target of a read; the source of a write, which holds ciphertext afterwards.
  MutableBytes bytes;
  bool would_block = false;  // of a read or write: the device's TryRead or TryWriteInPlace has just said so
  bool durable = false;      // a write, zero or trim is done once a flush behind it is (FUA)
  size_t extents_max = 1;

  Status status;
  std::vector<BlockStatus> extents;
};

class DeviceRequests {
 public:
  static Result<std::shared_ptr<DeviceRequests>> Open(DeviceOptions options);
  ~DeviceRequests();

  // For a thread that must not block, its TryRead and TryWriteInPlace; those calls are not requests, Close of the
  // device ends them.
  Device& device() { return *device_; }

  // From any thread. Two requests under way at a time are in no order; kDetached after Close.
  void Submit(Request& request);

  // Refuses later requests, waits until those under way are done, and closes the device. Not in a thread of the engine.
  void Close();

 private:
  DeviceRequests(std::shared_ptr<Device> device, EngineUse use);

  void Read(Request& request);
  void Write(Request& request);
  // In a helper: what the request asks, which may block.
  void Perform(Request& request);
  // The request's own work is done: what is left is a flush, where it must be durable.
  void Finish(Request& request, Status status);
  void AddFlush(Request& request);
  void RunFlushes();
  void End(Request& request, Status status);
  // Something under way has ended. Nothing of this object may be touched after that.
  void Leave();

  static constexpr uint64_t kClosed = uint64_t{1} << 63;

  EngineUse use_;
  EngineThreads& threads_;
  EngineLoop& loop_;  // for small requests: one busy thread is less work than many that wake up
  const std::shared_ptr<Device> device_;

  std::atomic<uint64_t> under_way_ = 0;  // and kClosed
  std::mutex mutex_;
  std::condition_variable drained_wake_;
  bool drained_ = false;           // closed, and nothing is under way
  std::vector<Request*> flushes_;  // that the next fdatasync is for
  bool flushing_ = false;
};

}  // namespace volseal::engine
