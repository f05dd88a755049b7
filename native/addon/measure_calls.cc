// The measuring part of binding.d.ts: what benchmarks compare the cipher with.
#include <cerrno>
#include <cstring>
#include <ctime>

#include "addon/args.h"
#include "addon/calls.h"
#include "xts/dispatch.h"

namespace volseal::addon {
namespace {

constexpr uint64_t kBytesMax = uint64_t{1} << 32;

struct Copy {
  Bytes source;
  MutableBytes target;
};

Copy CopyOf(Napi::Env env, const Napi::Value& from, const Napi::Value& to) {
  const Copy copy = {BytesOf(from, "source"), BytesOf(to, "target")};
  if (copy.source.size() != copy.target.size()) ThrowArgument(env, "source and target are not of the same length");
  ThrowIfOverlapping(env, copy.source, copy.target);
  return copy;
}

Napi::Value ThreadCpuNs(const Arguments& info) {
  timespec now;
  if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) != 0) {
    ThrowUnlessOk(info.Env(), SystemFailure(errno, "clock_gettime"));
  }
  return Napi::Number::New(info.Env(), static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec));
}

Napi::Value XtsRoundsOnly(const Arguments& info) {
  const Napi::Env env = info.Env();
  const xts::Kernel* const kernel = ValueOrThrow(env, xts::KernelByName(TextOf(info[0], "kernel")));
  const uint64_t byte_count = WholeNumber(info[1], "byteLength", 1, kBytesMax);
  if (!kernel->run_rounds_only) {
    ThrowArgument(env, "the kernel " + std::string(kernel->name) + " uses no AES instruction: it has no such limit");
  }
  kernel->run_rounds_only(byte_count);
  return env.Undefined();
}

Napi::Value PageOffset(const Arguments& info) {
  const MutableBytes bytes = BytesOf(info[0], "bytes");
  return Napi::Number::New(info.Env(), static_cast<double>(reinterpret_cast<uintptr_t>(bytes.data()) % 4096));
}

Napi::Value CopyBytes(const Arguments& info) {
  const auto [source, target] = CopyOf(info.Env(), info[0], info[1]);
  if (!source.empty()) std::memcpy(target.data(), source.data(), source.size());
  return info.Env().Undefined();
}

Napi::Value StreamCopy(const Arguments& info) {
  const Napi::Env env = info.Env();
  const xts::Kernel* const kernel = ValueOrThrow(env, xts::KernelByName(TextOf(info[0], "kernel")));
  const auto [source, target] = CopyOf(env, info[1], info[2]);
  if (!kernel->stream_copy) {
    ThrowArgument(env, "the kernel " + std::string(kernel->name) + " has no stores past the caches");
  }
  if (source.size() % 512 != 0) ThrowArgument(env, "the length is not a multiple of 512");
  if (reinterpret_cast<uintptr_t>(target.data()) % 16 != 0) {
    ThrowArgument(env, "target does not lie at a multiple of 16");
  }
  kernel->stream_copy(source.data(), target.data(), source.size());
  return env.Undefined();
}

}  // namespace

void RegisterMeasureCalls(Napi::Env env, Napi::Object exports) {
  Export<ThreadCpuNs>(env, exports, "threadCpuNs");
  Export<XtsRoundsOnly>(env, exports, "xtsRoundsOnly");
  Export<PageOffset>(env, exports, "pageOffset");
  Export<CopyBytes>(env, exports, "copyBytes");
  Export<StreamCopy>(env, exports, "streamCopy");
}

}  // namespace volseal::addon
