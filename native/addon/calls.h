// The functions of binding.d.ts, a file a layer; each registers its own.
#pragma once

#include <napi.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "engine/requests.h"
#include "vault/hash.h"
#include "vault/vault.h"

namespace volseal::addon {

void RegisterVaultCalls(Napi::Env env, Napi::Object exports);
void RegisterKeyslotCalls(Napi::Env env, Napi::Object exports);
void RegisterXtsCalls(Napi::Env env, Napi::Object exports);
void RegisterMeasureCalls(Napi::Env env, Napi::Object exports);
void RegisterDeviceCalls(Napi::Env env, Napi::Object exports);
void RegisterCachedDeviceCalls(Napi::Env env, Napi::Object exports);
void RegisterEngineCalls(Napi::Env env, Napi::Object exports);
void RegisterMoveCalls(Napi::Env env, Napi::Object exports);
void RegisterNbdCalls(Napi::Env env, Napi::Object exports);
void RegisterProcessCalls(Napi::Env env, Napi::Object exports);
void RegisterFileCalls(Napi::Env env, Napi::Object exports);
// The environment begins; first of all.
void RegisterOwnerCalls(Napi::Env env, Napi::Object exports);

// Closes what a handle of the engine's names, or of a move in place; nothing where it names nothing.
void CloseEngineHandle(uint64_t handle);
void CloseMoveHandle(uint64_t handle);

// The key that a handle names, kept while this lives; throws where it names none. `what` names the argument.
vault::PinnedKey Pin(const Napi::Value& handle, const char* what);

// The hash of a LUKS header that a text names; throws where there is none of that name.
vault::Hash HashOf(const Napi::Value& value, const char* what);

// Opens a device, which ends with the environment; throws.
Napi::Value OpenDevice(Napi::Env env, engine::DeviceOptions options);

// Nothing is fetched any more for the device, in the thread that opened it; nothing where it fetches nothing.
void EndFetching(uint64_t device);

// The open device that a handle names; throws where it names none.
std::shared_ptr<engine::DeviceRequests> DeviceRequestsOf(const Napi::Value& handle);

// What JavaScript passed to a call; what it left out is undefined. In place of Napi::CallbackInfo, which costs 25 ns
// more a call, and for a seventh argument an allocation.
class Arguments {
 public:
  Arguments(napi_env env, napi_callback_info info) : env_(env) {
    if (napi_get_cb_info(env, info, &count_, values_.data(), nullptr, nullptr) != napi_ok) std::abort();
  }
  Napi::Env Env() const { return env_; }
  Napi::Value operator[](size_t index) const { return {env_, values_[index]}; }
  bool IsGiven(size_t index) const { return index < count_ && !(*this)[index].IsUndefined(); }

 private:
  napi_env env_;
  std::array<napi_value, 7> values_ = {};
  size_t count_ = values_.size();
};

using Call = Napi::Value (*)(const Arguments&);

// Exports `kCall` under `name`. A Napi::Error that it throws becomes JavaScript's; an empty value is undefined.
template <Call kCall>
void Export(Napi::Env env, Napi::Object exports, const char* name) {
  const napi_callback callback = [](napi_env env, napi_callback_info info) -> napi_value {
    try {
      return kCall(Arguments(env, info));
    } catch (const Napi::Error& error) {
      error.ThrowAsJavaScriptException();
      return nullptr;
    }
  };
  napi_value function;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function) != napi_ok) {
    throw Napi::Error::New(env);
  }
  exports.Set(name, function);
}

}  // namespace volseal::addon
