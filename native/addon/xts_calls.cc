// The cipher's part of binding.d.ts.
#include "addon/args.h"
#include "addon/calls.h"
#include "vault/vault.h"
#include "xts/xts.h"

namespace volseal::addon {
namespace {

Napi::Value XtsKernels(const Napi::CallbackInfo& info) {
  Napi::Array names = Napi::Array::New(info.Env());
  for (const xts::Kernel& kernel : xts::Kernels()) names.Set(names.Length(), std::string(kernel.name));
  return names;
}

Napi::Value XtsPrepare(const Napi::CallbackInfo& info) {
  ThrowUnlessOk(info.Env(), vault::Vault::OfProcess().MakeVolumeKey(HandleOf(info[0], "key")));
  return info.Env().Undefined();
}

Napi::Value XtsTransform(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const uint64_t handle = HandleOf(info[0], "key");
  const bool encrypt = BooleanOf(info[1], "encrypt");
  const MutableBytes source = BytesOf(info[2], "source"), target = BytesOf(info[3], "target");
  const uint64_t sector_bytes = WholeNumber(info[4], "sectorBytes", 512, 4096);
  const uint64_t first_unit = WholeNumber(info[5], "firstUnit", 0, kExactIntegerMax);
  if (!xts::IsSectorSize(sector_bytes)) ThrowArgument(env, "sectorBytes is not 512, 1024, 2048 or 4096");
  if (source.size() != target.size() || source.empty() || source.size() % sector_bytes != 0) {
    ThrowArgument(env, "source and target are not the same whole number of sectors");
  }
  const bool apart = source.data() + source.size() <= target.data() || target.data() + target.size() <= source.data();
  if (source.data() != target.data() && !apart) ThrowArgument(env, "source and target overlap in part");
  const xts::Kernel* kernel = &xts::Kernels().front();
  if (!info[6].IsUndefined()) {
    const std::string name = TextOf(info[6], "kernel");
    kernel = xts::KernelByName(name);
    if (!kernel) ThrowArgument(env, "this machine has no kernel \"" + name + "\"");
  }
  const vault::PinnedKey key = ValueOrThrow(env, vault::Vault::OfProcess().PinVolumeKey(handle));
  (encrypt ? kernel->encrypt : kernel->decrypt)(
      key.schedule(), source.data(), target.data(),
      {first_unit, static_cast<uint32_t>(sector_bytes), source.size() / sector_bytes});
  return env.Undefined();
}

}  // namespace

void RegisterXtsCalls(Napi::Env env, Napi::Object exports) {
  Export(env, exports, "xtsKernels", XtsKernels);
  Export(env, exports, "xtsPrepare", XtsPrepare);
  Export(env, exports, "xtsTransform", XtsTransform);
}

}  // namespace volseal::addon
