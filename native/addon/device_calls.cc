// Attached devices in binding.d.ts: requests that the engine's threads serve, each with a promise.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <utility>

#include "addon/args.h"
#include "addon/calls.h"
#include "addon/environment.h"
#include "addon/regions.h"
#include "base/handle_table.h"
#include "engine/requests.h"

namespace volseal::addon {
namespace {

using engine::DeviceRequests;
using engine::RequestKind;

using DeviceTable = HandleTable<DeviceRequests, HandleKind::kDevice>;

constexpr uint64_t kExtentCountMax = 65536;  // of one call
// A long request goes to the engine in pieces, so many at a time, so that others get their turn.
constexpr size_t kPiecesAtOnce = 4;
constexpr uint64_t kMoveBytes = 1 << 20;
constexpr uint64_t kPunchBytes = 1 << 30;  // of holes: nothing is written

DeviceTable& Devices() {
  static auto* const devices = new DeviceTable;
  return *devices;
}

// A request of JavaScript's and its pieces. The engine's threads know `memory_` and nothing of JavaScript.
class DeviceCall : public PendingCall {
 public:
  DeviceCall(std::shared_ptr<DeviceRequests> device, RequestKind kind, uint64_t offset, uint64_t length)
      : device_(std::move(device)), length_(length), kind_(kind), offset_(offset) {}

  // The promise.
  static Napi::Value Start(Napi::Env env, std::unique_ptr<DeviceCall> owned) {
    DeviceCall& call = *owned;
    call.environment_ = &Environment::Of(env);
    const Napi::Value promise = call.environment_->Begin(std::move(owned));
    call.Submit();
    return promise;
  }

 protected:
  Napi::Value Outcome(Napi::Env env) final {
    ThrowUnlessOk(env, status_);
    return Result(env);
  }
  virtual Napi::Value Result(Napi::Env env) { return env.Undefined(); }

  const std::shared_ptr<DeviceRequests> device_;
  const uint64_t length_;
  uint8_t* memory_ = nullptr;  // of `length_` bytes, for reads and writes
  size_t extents_max_ = 1;
  std::vector<engine::BlockStatus> extents_;

 private:
  struct Piece : engine::Request {
    explicit Piece(DeviceCall& whole) : Request(whole.kind_), call(whole) {}
    void Done() override { call.PieceDone(*this); }
    DeviceCall& call;
  };

  uint64_t PieceBytes() const {
    if (kind_ == RequestKind::kExtents) return UINT64_MAX;
    const bool punches = kind_ == RequestKind::kTrim || kind_ == RequestKind::kZero;
    return punches && device_->device().sparse() ? kPunchBytes : kMoveBytes;
  }

  void Submit() {
    const uint64_t piece_bytes = PieceBytes();
    const uint64_t count = length_ / piece_bytes + 1;
    std::array<Piece*, kPiecesAtOnce> first;
    size_t ready = 0;
    // All before the first is submitted: the last one to end ends the call.
    while (ready < std::min<uint64_t>(count, kPiecesAtOnce)) {
      auto piece = std::make_unique<Piece>(*this);
      if (!Take(*piece)) break;
      first[ready++] = piece.release();
    }
    under_way_ = ready;
    const auto device = device_;
    for (size_t i = 0; i < ready; ++i) device->Submit(*first[i]);
  }

  // The next piece; the first may be empty, a later one not.
  bool Take(Piece& piece) {
    const std::lock_guard guard(mutex_);
    if (!status_.ok() || (taken_ == length_ && taken_any_)) return false;
    const uint64_t piece_bytes = PieceBytes();
    const uint64_t begin = offset_ + taken_;
    const uint64_t length = std::min(length_ - taken_, piece_bytes - begin % piece_bytes);
    piece.offset = begin;
    piece.length = length;
    piece.extents_max = extents_max_;
    if (memory_) piece.bytes = {memory_ + taken_, length};
    taken_ += length;
    taken_any_ = true;
    return true;
  }

  void PieceDone(Piece& piece) {
    if (!piece.status.ok()) {
      const std::lock_guard guard(mutex_);
      if (status_.ok()) status_ = std::move(piece.status);
    }
    if (kind_ == RequestKind::kExtents) extents_ = std::move(piece.extents);
    if (Take(piece)) return device_->Submit(piece);
    delete &piece;
    if (--under_way_ == 0) environment_->Complete(*this);
  }

  const RequestKind kind_;
  const uint64_t offset_;
  Environment* environment_ = nullptr;
  std::atomic<size_t> under_way_ = 0;
  std::mutex mutex_;
  uint64_t taken_ = 0;
  bool taken_any_ = false;
  Status status_;  // the first failure
};

// Above this a failure to allocate must be JavaScript's to catch.
constexpr uint64_t kUnclearedBytesMax = 64 << 20;

// An array that no other code has seen.
Napi::Uint8Array NewArray(Napi::Env env, uint64_t length) {
  if (length > kUnclearedBytesMax) {
    const auto constructor = env.Global().Get("Uint8Array").As<Napi::Function>();
    return constructor.New({Napi::Number::New(env, static_cast<double>(length))}).As<Napi::Uint8Array>();
  }
  // Of a Buffer, whose memory is not cleared first.
  const auto buffer = Napi::Buffer<uint8_t>::New(env, length);
  return Napi::Uint8Array::New(env, length, buffer.ArrayBuffer(), buffer.ByteOffset());
}

// Reads into an array that JavaScript sees once it is filled. Until then nobody can detach or resize it, and the
// reference keeps it; an environment that ends waits for its calls before it frees anything.
class ReadCall final : public DeviceCall {
 public:
  ReadCall(Napi::Env env, std::shared_ptr<DeviceRequests> device, uint64_t offset, uint64_t length)
      : DeviceCall(std::move(device), RequestKind::kRead, offset, length) {
    const Napi::Uint8Array array = NewArray(env, length);
    memory_ = BytesOf(array, "array").data();
    array_ = Napi::Persistent(array);
  }

 private:
  Napi::Value Result(Napi::Env) override { return array_.Value(); }

  Napi::Reference<Napi::Uint8Array> array_;
};

struct FreeMemory {
  void operator()(uint8_t* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<uint8_t, FreeMemory>;

Memory Allocate(Napi::Env env, size_t length) {
  Memory memory(static_cast<uint8_t*>(std::malloc(std::max<size_t>(length, 1))));
  if (!memory) ThrowUnlessOk(env, SystemFailure(ENOMEM, "malloc"));
  return memory;
}

bool IsShared(const Napi::Value& array) {
  napi_value buffer;
  bool is_array_buffer = true;
  napi_get_typedarray_info(array.Env(), array, nullptr, nullptr, nullptr, &buffer, nullptr);
  napi_is_arraybuffer(array.Env(), buffer, &is_array_buffer);
  return !is_array_buffer;
}

// Reads into memory of the caller's. That of a SharedArrayBuffer can be neither detached nor made smaller, and the
// reference keeps it; any other may go away meanwhile, so it gets a copy at the end.
class ReadIntoCall final : public DeviceCall {
 public:
  ReadIntoCall(std::shared_ptr<DeviceRequests> device, uint64_t offset, const Napi::Value& target, MutableBytes bytes)
      : DeviceCall(std::move(device), RequestKind::kRead, offset, bytes.size()),
        target_(Napi::Persistent(target.As<Napi::Uint8Array>())) {
    if (!IsShared(target)) own_ = Allocate(target.Env(), bytes.size());
    memory_ = own_ ? own_.get() : bytes.data();
  }

 private:
  Napi::Value Result(Napi::Env env) override {
    if (!own_) return env.Undefined();
    const MutableBytes target = BytesOf(target_.Value(), "target");
    if (target.size() != length_) ThrowArgument(env, "the target was detached or resized while it was read into");
    std::copy_n(own_.get(), length_, target.data());
    return env.Undefined();
  }

  Napi::Reference<Napi::Uint8Array> target_;
  Memory own_;
};

class WriteCall final : public DeviceCall {
 public:
  WriteCall(std::shared_ptr<DeviceRequests> device, uint64_t offset, Memory copy, size_t length)
      : DeviceCall(std::move(device), RequestKind::kWrite, offset, length), copy_(std::move(copy)) {
    memory_ = copy_.get();
  }

 private:
  const Memory copy_;  // ciphertext, once written
};

class ExtentsCall final : public DeviceCall {
 public:
  ExtentsCall(std::shared_ptr<DeviceRequests> device, uint64_t offset, uint64_t length, size_t count_max)
      : DeviceCall(std::move(device), RequestKind::kExtents, offset, length) {
    extents_max_ = count_max;
  }

 private:
  Napi::Value Result(Napi::Env env) override {
    Napi::Array list = Napi::Array::New(env, extents_.size());
    for (uint32_t i = 0; i < extents_.size(); i++) {
      const Napi::HandleScope scope(env);
      Napi::Object extent = Napi::Object::New(env);
      extent.Set("offsetBytes", static_cast<double>(extents_[i].offset));
      extent.Set("lengthBytes", static_cast<double>(extents_[i].length));
      extent.Set("zero", extents_[i].zero);
      list[i] = extent;
    }
    return list;
  }
};

uint64_t OffsetOf(const Napi::Value& value) { return WholeNumber(value, "offsetBytes", 0, kExactIntegerMax); }
uint64_t LengthOf(const Napi::Value& value) { return WholeNumber(value, "lengthBytes", 0, kExactIntegerMax); }

// The device, in which the range is: checked before memory is taken for it.
std::shared_ptr<DeviceRequests> DeviceWith(const Napi::Value& handle, uint64_t offset, uint64_t length) {
  auto device = DeviceRequestsOf(handle);
  ThrowUnlessOk(handle.Env(), device->device().CheckRange(offset, length));
  return device;
}

void Close(uint64_t handle) {
  if (const auto device = Devices().Remove(handle)) device->Close();
  EndFetching(handle);
}

Napi::Value DeviceOpen(const Arguments& info) {
  const Napi::Object from = ObjectOf(info[0], "options");
  engine::DeviceOptions options = {
      .regions = RegionsOf(from.Get("regions")),
      .sector_bytes = static_cast<uint32_t>(WholeNumber(from.Get("sectorBytes"), "sectorBytes", 512, 4096)),
      .writable = BooleanOf(from.Get("writable"), "writable"),
      .sparse = BooleanOf(from.Get("sparse"), "sparse"),
  };
  return OpenDevice(info.Env(), std::move(options));
}

Napi::Value DeviceRead(const Arguments& info) {
  const uint64_t offset = OffsetOf(info[1]), length = LengthOf(info[2]);
  auto device = DeviceWith(info[0], offset, length);
  return DeviceCall::Start(info.Env(), std::make_unique<ReadCall>(info.Env(), std::move(device), offset, length));
}

Napi::Value DeviceReadInto(const Arguments& info) {
  const uint64_t offset = OffsetOf(info[1]);
  const MutableBytes target = BytesOf(info[2], "target");
  auto device = DeviceWith(info[0], offset, target.size());
  return DeviceCall::Start(info.Env(), std::make_unique<ReadIntoCall>(std::move(device), offset, info[2], target));
}

Napi::Value DeviceWrite(const Arguments& info) {
  const uint64_t offset = OffsetOf(info[1]);
  const Bytes source = BytesOf(info[2], "source");
  auto device = DeviceWith(info[0], offset, source.size());
  Memory copy = Allocate(info.Env(), source.size());
  std::copy(source.begin(), source.end(), copy.get());
  return DeviceCall::Start(info.Env(),
                           std::make_unique<WriteCall>(std::move(device), offset, std::move(copy), source.size()));
}

Napi::Value DeviceWritev(const Arguments& info) {
  const uint64_t offset = OffsetOf(info[1]);
  if (!info[2].IsArray()) ThrowArgument(info.Env(), "sources is not an array");
  const auto list = info[2].As<Napi::Array>();
  // All elements before the first address: a getter in the array could detach what came before it.
  std::vector<Napi::Value> sources(list.Length());
  for (uint32_t i = 0; i < sources.size(); ++i) sources[i] = list.Get(i);
  size_t length = 0;
  for (const Napi::Value& source : sources) length += BytesOf(source, "a source").size();
  auto device = DeviceWith(info[0], offset, length);
  Memory copy = Allocate(info.Env(), length);
  uint8_t* at = copy.get();
  for (const Napi::Value& source : sources) {
    const Bytes bytes = BytesOf(source, "a source");
    at = std::copy(bytes.begin(), bytes.end(), at);
  }
  return DeviceCall::Start(info.Env(), std::make_unique<WriteCall>(std::move(device), offset, std::move(copy), length));
}

Napi::Value DeviceFlush(const Arguments& info) {
  return DeviceCall::Start(info.Env(),
                           std::make_unique<DeviceCall>(DeviceRequestsOf(info[0]), RequestKind::kFlush, 0, 0));
}

// Zero, trim and fill.
template <RequestKind kind>
Napi::Value DeviceRange(const Arguments& info) {
  const uint64_t offset = OffsetOf(info[1]), length = LengthOf(info[2]);
  auto device = DeviceWith(info[0], offset, length);
  return DeviceCall::Start(info.Env(), std::make_unique<DeviceCall>(std::move(device), kind, offset, length));
}

Napi::Value DeviceExtents(const Arguments& info) {
  const uint64_t offset = OffsetOf(info[1]), length = LengthOf(info[2]);
  const uint64_t count_max = WholeNumber(info[3], "countMax", 1, kExtentCountMax);
  auto device = DeviceWith(info[0], offset, length);
  return DeviceCall::Start(info.Env(), std::make_unique<ExtentsCall>(std::move(device), offset, length, count_max));
}

Napi::Value DeviceClose(const Arguments& info) {
  const uint64_t handle = HandleOf(info[0], "the handle");
  const bool was_open = Devices().Find(handle) != nullptr;
  Close(handle);
  Environment::Of(info.Env()).Forget(handle);
  return Napi::Boolean::New(info.Env(), was_open);
}

}  // namespace

Napi::Value OpenDevice(Napi::Env env, engine::DeviceOptions options) {
  const uint64_t handle =
      HandleIn(env, Devices(), ValueOrThrow(env, DeviceRequests::Open(std::move(options))), "devices");
  Environment::Of(env).AtEnd(handle, [handle] { Close(handle); });
  return FromHandle(env, handle);
}

std::shared_ptr<DeviceRequests> DeviceRequestsOf(const Napi::Value& handle) {
  auto device = Devices().Find(HandleOf(handle, "the handle"));
  if (!device) ThrowUnlessOk(handle.Env(), Failure(Code::kDetached, "the volume is detached"));
  return device;
}

void RegisterDeviceCalls(Napi::Env env, Napi::Object exports) {
  Export<DeviceOpen>(env, exports, "deviceOpen");
  Export<DeviceRead>(env, exports, "deviceRead");
  Export<DeviceReadInto>(env, exports, "deviceReadInto");
  Export<DeviceWrite>(env, exports, "deviceWrite");
  Export<DeviceWritev>(env, exports, "deviceWritev");
  Export<DeviceFlush>(env, exports, "deviceFlush");
  Export<DeviceRange<RequestKind::kZero>>(env, exports, "deviceZero");
  Export<DeviceRange<RequestKind::kTrim>>(env, exports, "deviceTrim");
  Export<DeviceRange<RequestKind::kFill>>(env, exports, "deviceFill");
  Export<DeviceExtents>(env, exports, "deviceExtents");
  Export<DeviceClose>(env, exports, "deviceClose");
}

}  // namespace volseal::addon
