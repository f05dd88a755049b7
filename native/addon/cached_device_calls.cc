// Devices whose ciphertext JavaScript fetches, from a store for instance: their part of binding.d.ts.
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "addon/args.h"
#include "addon/calls.h"
#include "addon/environment.h"
#include "engine/block_cache.h"

namespace volseal::addon {
namespace {

using engine::BlockCache;

constexpr uint64_t kBlockBytesMax = 64 << 20;
constexpr uint64_t kBlocksMax = 1 << 16;

// The way of a cache's wants to JavaScript. The cache may outlive the thread that fetches for it: then it is closed.
class Fetcher {
 public:
  Fetcher(Napi::Env env, const Napi::Function& fetch)
      : env_(env), function_(Napi::ThreadSafeFunction::New(env, fetch, "volseal.fetch", 0, 1)) {
    // A read that waits keeps the thread alive, an attached volume does not.
    function_.Unref(env);
    // After the hook of the environment, whose end waits for calls under way: hooks run in the opposite order.
    Environment::Of(env);
    napi_add_env_cleanup_hook(env_, Disconnect, this);
  }

  void Serve(const std::shared_ptr<BlockCache>& cache) {
    const std::lock_guard guard(mutex_);
    cache_ = cache;
  }

  // In any thread.
  void Fetch(uint64_t index) {
    std::shared_ptr<BlockCache> cache;
    {
      const std::lock_guard guard(mutex_);
      auto message = std::make_unique<uint64_t>(index);
      if (connected_ && function_.NonBlockingCall(message.get(), Deliver) == napi_ok)
        return static_cast<void>(message.release());
      cache = cache_.lock();
    }
    if (cache) cache->Failed(index, Failure(Code::kDetached, "nobody fetches for the volume any more"));
  }

  // In JavaScript's thread, once.
  void Close() {
    napi_remove_env_cleanup_hook(env_, Disconnect, this);
    const std::lock_guard guard(mutex_);
    if (std::exchange(connected_, false)) function_.Release();
  }

 private:
  static void Disconnect(void* self) {
    auto* const fetcher = static_cast<Fetcher*>(self);
    std::shared_ptr<BlockCache> cache;
    {
      const std::lock_guard guard(fetcher->mutex_);
      if (std::exchange(fetcher->connected_, false)) fetcher->function_.Abort();
      cache = fetcher->cache_.lock();
    }
    if (cache) cache->Close();
  }

  static void Deliver(Napi::Env env, Napi::Function fetch, uint64_t* message) {
    const std::unique_ptr<uint64_t> index(message);
    if (env != nullptr) fetch.Call({Napi::Number::New(env, static_cast<double>(*index))});
  }

  const napi_env env_;
  Napi::ThreadSafeFunction function_;
  std::mutex mutex_;
  std::weak_ptr<BlockCache> cache_;
  bool connected_ = true;
};

// By the handle of the device. Each is closed by its own thread of JavaScript.
class Fetchers {
 public:
  void Add(uint64_t device, std::shared_ptr<Fetcher> fetcher) {
    const std::lock_guard guard(mutex_);
    fetchers_[device] = std::move(fetcher);
  }
  std::shared_ptr<Fetcher> Remove(uint64_t device) {
    const std::lock_guard guard(mutex_);
    auto node = fetchers_.extract(device);
    return node.empty() ? nullptr : std::move(node.mapped());
  }

 private:
  std::mutex mutex_;
  std::map<uint64_t, std::shared_ptr<Fetcher>> fetchers_;
};

Fetchers& FetchersOfProcess() {
  static auto* const fetchers = new Fetchers;
  return *fetchers;
}

BlockCache& CacheOf(const Napi::Value& device) {
  const auto requests = DeviceRequestsOf(device);
  const auto& cache = requests->device().options().regions.front().cache;
  if (!cache) ThrowArgument(device.Env(), "the device reads a file, and fetches nothing");
  return *cache;
}

uint64_t IndexOf(const Napi::Value& value) { return WholeNumber(value, "index", 0, kExactIntegerMax); }

Napi::Value CachedDeviceOpen(const Arguments& info) {
  const Napi::Env env = info.Env();
  const Napi::Object from = ObjectOf(info[0], "options");
  if (!info[1].IsFunction()) ThrowArgument(env, "fetch is not a function");
  const BlockCache::Options cached = {
      .size_bytes = WholeNumber(from.Get("sourceBytes"), "sourceBytes", 1, kExactIntegerMax),
      .block_bytes = static_cast<size_t>(WholeNumber(from.Get("blockBytes"), "blockBytes", 1, kBlockBytesMax)),
      .blocks_max = static_cast<size_t>(WholeNumber(from.Get("blocksMax"), "blocksMax", 1, kBlocksMax))};
  engine::DeviceRegion region = {
      .fd = -1,
      .key = HandleOf(from.Get("key"), "key"),
      .offset_bytes = WholeNumber(from.Get("offsetBytes"), "offsetBytes", 0, kExactIntegerMax),
      .size_bytes = WholeNumber(from.Get("sizeBytes"), "sizeBytes", 0, kExactIntegerMax),
  };
  engine::DeviceOptions options = {
      .regions = {},
      .sector_bytes = static_cast<uint32_t>(WholeNumber(from.Get("sectorBytes"), "sectorBytes", 512, 4096)),
      .writable = false,
      .sparse = BooleanOf(from.Get("sparse"), "sparse"),
  };
  const auto fetcher = std::make_shared<Fetcher>(env, info[1].As<Napi::Function>());
  try {
    region.cache = ValueOrThrow(env, BlockCache::Open(cached, [fetcher](uint64_t index) { fetcher->Fetch(index); }));
    fetcher->Serve(region.cache);
    options.regions.push_back(std::move(region));
    const Napi::Value device = OpenDevice(env, std::move(options));
    FetchersOfProcess().Add(HandleOf(device, "the handle"), fetcher);
    return device;
  } catch (...) {
    fetcher->Close();
    throw;
  }
}

Napi::Value CachedDeviceStored(const Arguments& info) {
  ThrowUnlessOk(info.Env(), CacheOf(info[0]).Stored(IndexOf(info[1]), BytesOf(info[2], "bytes")));
  return info.Env().Undefined();
}

Napi::Value CachedDeviceFailed(const Arguments& info) {
  CacheOf(info[0]).Failed(IndexOf(info[1]), Failure(Code::kIo, TextOf(info[2], "message")));
  return info.Env().Undefined();
}

}  // namespace

void EndFetching(uint64_t device) {
  if (const auto fetcher = FetchersOfProcess().Remove(device)) fetcher->Close();
}

void RegisterCachedDeviceCalls(Napi::Env env, Napi::Object exports) {
  Export<CachedDeviceOpen>(env, exports, "cachedDeviceOpen");
  Export<CachedDeviceStored>(env, exports, "cachedDeviceStored");
  Export<CachedDeviceFailed>(env, exports, "cachedDeviceFailed");
}

}  // namespace volseal::addon
