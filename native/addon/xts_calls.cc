// The cipher's part of binding.d.ts.
#include "addon/args.h"
#include "addon/calls.h"
#include "vault/vault.h"
#include "xts/dispatch.h"
#include "xts/self_test.h"

namespace volseal::addon {
namespace {

Napi::Value XtsKernels(const Arguments& info) {
  const Napi::Env env = info.Env();
  const xts::Kernel* const active = &xts::ActiveKernel();
  Napi::Array kernels = Napi::Array::New(env);
  for (const xts::Candidate& candidate : xts::Candidates()) {
    Napi::Object kernel = Napi::Object::New(env);
    kernel["name"] = std::string(candidate.name);
    kernel["vectorBits"] = Napi::Number::New(env, candidate.vector_bits);
    kernel["usable"] = Napi::Boolean::New(env, candidate.kernel != nullptr);
    kernel["inUse"] = Napi::Boolean::New(env, candidate.kernel == active);
    kernel["reason"] = candidate.reason;
    kernels.Set(kernels.Length(), kernel);
  }
  return kernels;
}

Napi::Value XtsUseKernel(const Arguments& info) {
  ThrowUnlessOk(info.Env(), xts::ForceKernel(TextOf(info[0], "name")));
  return info.Env().Undefined();
}

Napi::Value XtsSelfTest(const Arguments& info) {
  ThrowUnlessOk(info.Env(), xts::SelfTest());
  return info.Env().Undefined();
}

Napi::Value XtsPrepare(const Arguments& info) {
  ThrowUnlessOk(info.Env(), vault::Vault::OfProcess().MakeVolumeKey(HandleOf(info[0], "key")));
  return info.Env().Undefined();
}

Napi::Value XtsTransform(const Arguments& info) {
  const Napi::Env env = info.Env();
  const uint64_t handle = HandleOf(info[0], "key");
  const bool encrypt = BooleanOf(info[1], "encrypt");
  const uint64_t sector_bytes = WholeNumber(info[2], "sectorBytes", 512, 4096);
  const uint64_t first_unit = WholeNumber(info[3], "firstUnit", 0, kExactIntegerMax);
  if (!xts::IsSectorSize(sector_bytes)) ThrowArgument(env, "sectorBytes is not 512, 1024, 2048 or 4096");
  const MutableBytes source = BytesOf(info[4], "source");
  const MutableBytes target = info.IsGiven(5) ? BytesOf(info[5], "target") : source;
  if (source.size() != target.size() || source.empty() || source.size() & (sector_bytes - 1)) {
    ThrowArgument(env, "source and target are not the same whole number of sectors");
  }
  if (source.data() != target.data()) ThrowIfOverlapping(env, source, target);
  const xts::Kernel* kernel = &xts::ActiveKernel();
  if (info.IsGiven(6)) kernel = ValueOrThrow(env, xts::KernelByName(TextOf(info[6], "kernel")));
  const vault::PinnedKey key = ValueOrThrow(env, vault::Vault::OfProcess().PinVolumeKey(handle));
  (encrypt ? kernel->encrypt : kernel->decrypt)(
      key.schedule(), source.data(), target.data(),
      {first_unit, static_cast<uint32_t>(sector_bytes), source.size() >> __builtin_ctzll(sector_bytes)});
  return Napi::Value();
}

}  // namespace

void RegisterXtsCalls(Napi::Env env, Napi::Object exports) {
  Export<XtsKernels>(env, exports, "xtsKernels");
  Export<XtsUseKernel>(env, exports, "xtsUseKernel");
  Export<XtsSelfTest>(env, exports, "xtsSelfTest");
  Export<XtsPrepare>(env, exports, "xtsPrepare");
  Export<XtsTransform>(env, exports, "xtsTransform");
}

}  // namespace volseal::addon
