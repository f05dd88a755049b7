// The functions of binding.d.ts, a file a layer; each registers its own.
#pragma once

#include <napi.h>

namespace volseal::addon {

void RegisterVaultCalls(Napi::Env env, Napi::Object exports);
void RegisterXtsCalls(Napi::Env env, Napi::Object exports);
void RegisterMeasureCalls(Napi::Env env, Napi::Object exports);
void RegisterEngineCalls(Napi::Env env, Napi::Object exports);

// Exports `call` under `name`.
inline void Export(Napi::Env env, Napi::Object exports, const char* name,
                   Napi::Value (*call)(const Napi::CallbackInfo&)) {
  exports.Set(name, Napi::Function::New(env, call, name));
}

}  // namespace volseal::addon
