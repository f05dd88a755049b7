// The addon's door: what `require` calls, once for each thread that loads it.
#include <napi.h>

#include "addon/calls.h"

namespace {

Napi::Object Register(Napi::Env env, Napi::Object exports) {
  volseal::addon::RegisterOwnerCalls(env, exports);
  volseal::addon::RegisterVaultCalls(env, exports);
  volseal::addon::RegisterKeyslotCalls(env, exports);
  volseal::addon::RegisterXtsCalls(env, exports);
  volseal::addon::RegisterMeasureCalls(env, exports);
  volseal::addon::RegisterDeviceCalls(env, exports);
  volseal::addon::RegisterCachedDeviceCalls(env, exports);
  volseal::addon::RegisterEngineCalls(env, exports);
  volseal::addon::RegisterMoveCalls(env, exports);
  volseal::addon::RegisterNbdCalls(env, exports);
  volseal::addon::RegisterProcessCalls(env, exports);
  volseal::addon::RegisterFileCalls(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(volseal, Register)
