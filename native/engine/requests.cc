#include "engine/requests.h"

#include <optional>
#include <utility>

namespace volseal::engine {
namespace {

// Above this, reads are spread over the loops: the work is worth waking another processor.
constexpr size_t kSmallBytesMax = 64 << 10;

}  // namespace

Result<std::shared_ptr<DeviceRequests>> DeviceRequests::Open(DeviceOptions options) {
  auto device = Device::Open(std::move(options));
  if (!device.ok()) return device.status();
  auto use = EngineUse::Begin();
  if (!use.ok()) return use.status();
  return std::shared_ptr<DeviceRequests>(new DeviceRequests(std::move(device.value()), std::move(use.value())));
}

DeviceRequests::DeviceRequests(std::shared_ptr<Device> device, EngineUse use)
    : use_(std::move(use)),
      threads_(EngineThreads::OfProcess()),
      loop_(threads_.NextLoop()),
      device_(std::move(device)) {}

DeviceRequests::~DeviceRequests() { Close(); }

void DeviceRequests::Submit(Request& request) {
  if (under_way_.fetch_add(1) & kClosed) return End(request, Failure(Code::kDetached, "the volume is detached"));
  switch (request.kind) {
    case RequestKind::kRead: {
      if (request.would_block) break;
      EngineLoop& loop = request.bytes.size() <= kSmallBytesMax ? loop_ : threads_.NextLoop();
      return loop.Post([this, &request] { Read(request); });
    }
    case RequestKind::kWrite:
      if (!request.would_block && request.bytes.size() <= kTryWriteBytesMax)
        return loop_.Post([this, &request] { Write(request); });
      break;
    case RequestKind::kFlush:
      return AddFlush(request);
    case RequestKind::kZero:
    case RequestKind::kTrim:
    case RequestKind::kFill:
    case RequestKind::kExtents:
      break;
  }
  threads_.Help([this, &request] { Perform(request); });
}

void DeviceRequests::Read(Request& request) {
  std::optional<Status> status = device_->TryRead(request.offset, request.bytes);
  if (status) return End(request, std::move(*status));
  threads_.Help([this, &request] { Perform(request); });
}

void DeviceRequests::Write(Request& request) {
  std::optional<Status> status = device_->TryWriteInPlace(request.offset, request.bytes);
  if (status) return Finish(request, std::move(*status));
  threads_.Help([this, &request] { Perform(request); });
}

void DeviceRequests::Perform(Request& request) {
  switch (request.kind) {
    case RequestKind::kRead:
      return End(request, device_->Read(request.offset, request.bytes));
    case RequestKind::kWrite:
      return Finish(request, device_->WriteInPlace(request.offset, request.bytes));
    case RequestKind::kZero:
      return Finish(request, device_->Zero(request.offset, request.length));
    case RequestKind::kTrim:
      return Finish(request, device_->Trim(request.offset, request.length));
    case RequestKind::kFill:
      return Finish(request, device_->Fill(request.offset, request.length));
    case RequestKind::kExtents: {
      auto extents = device_->Extents(request.offset, request.length, request.extents_max);
      if (extents.ok()) request.extents = std::move(extents.value());
      return End(request, extents.ok() ? Ok() : extents.status());
    }
    case RequestKind::kFlush:
      return AddFlush(request);
  }
}

void DeviceRequests::Finish(Request& request, Status status) {
  if (status.ok() && request.durable) return AddFlush(request);
  End(request, std::move(status));
}

void DeviceRequests::AddFlush(Request& request) {
  {
    const std::lock_guard guard(mutex_);
    flushes_.push_back(&request);
    if (std::exchange(flushing_, true)) return;
  }
  ++under_way_;
  threads_.Help([this] { RunFlushes(); });
}

void DeviceRequests::RunFlushes() {
  // The one under way began before those that came since: they need another.
  while (true) {
    std::vector<Request*> flushes;
    {
      const std::lock_guard guard(mutex_);
      flushing_ = !flushes_.empty();
      if (!flushing_) break;
      flushes.swap(flushes_);
    }
    const Status status = device_->Flush();
    for (Request* const request : flushes) End(*request, status);
  }
  Leave();
}

void DeviceRequests::End(Request& request, Status status) {
  request.status = std::move(status);
  request.Done();
  Leave();
}

void DeviceRequests::Leave() {
  if (under_way_.fetch_sub(1) != (kClosed | 1)) return;
  const std::lock_guard guard(mutex_);
  drained_ = true;
  drained_wake_.notify_all();
}

void DeviceRequests::Close() {
  device_->CloseCaches();
  {
    std::unique_lock guard(mutex_);
    if ((under_way_.fetch_or(kClosed) & ~kClosed) == 0) drained_ = true;
    drained_wake_.wait(guard, [this] { return drained_; });
  }
  device_->Close();
}

}  // namespace volseal::engine
