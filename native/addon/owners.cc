#include "addon/owners.h"

#include <algorithm>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "addon/args.h"
#include "addon/calls.h"
#include "base/handle_table.h"
#include "vault/vault.h"

namespace volseal::addon {
namespace {

using EnvironmentId = uint64_t;

// Which environment each handle of the process belongs to.
class Owners {
 public:
  static Owners& OfProcess() {
    static auto* const owners = new Owners;  // never destroyed: worker threads may outlive static destructors
    return *owners;
  }

  EnvironmentId Begin() {
    const std::lock_guard guard(mutex_);
    alive_.insert(++last_);
    return last_;
  }

  // False where the environment has ended, and nothing was recorded.
  bool Own(EnvironmentId id, uint64_t handle) {
    const std::lock_guard guard(mutex_);
    if (!alive_.contains(id)) return false;
    owner_of_[handle] = id;
    return true;
  }

  void Forget(uint64_t handle) {
    const std::lock_guard guard(mutex_);
    owner_of_.erase(handle);
  }

  // The environment ends. What it owned is the caller's to release.
  std::vector<uint64_t> End(EnvironmentId id) {
    const std::lock_guard guard(mutex_);
    alive_.erase(id);
    std::vector<uint64_t> handles;
    for (const auto& [handle, owner] : owner_of_) {
      if (owner == id) handles.push_back(handle);
    }
    for (const uint64_t handle : handles) owner_of_.erase(handle);
    return handles;
  }

 private:
  std::mutex mutex_;
  EnvironmentId last_ = 0;
  std::unordered_set<EnvironmentId> alive_;
  std::unordered_map<uint64_t, EnvironmentId> owner_of_;
};

void Release(uint64_t handle) {
  if (IsHandleOf(HandleKind::kKey, handle)) {
    vault::Vault::OfProcess().WipeKey(handle);
  } else if (IsHandleOf(HandleKind::kMove, handle)) {
    CloseMoveHandle(handle);
  } else {
    CloseEngineHandle(handle);
  }
}

void ReleaseAll(void* data) {
  auto* const id = static_cast<EnvironmentId*>(data);
  std::vector<uint64_t> handles = Owners::OfProcess().End(*id);
  delete id;
  // What uses a key before the key: wiping waits until nobody does.
  std::stable_partition(handles.begin(), handles.end(),
                        [](uint64_t handle) { return !IsHandleOf(HandleKind::kKey, handle); });
  for (const uint64_t handle : handles) Release(handle);
}

EnvironmentId IdOf(Napi::Env env) {
  void* data = nullptr;
  if (napi_get_instance_data(env, &data) != napi_ok || !data) return 0;
  return *static_cast<EnvironmentId*>(data);
}

Napi::Value EnvironmentIdCall(const Arguments& info) { return FromHandle(info.Env(), IdOf(info.Env())); }

Napi::Value HandleGive(const Arguments& info) {
  const uint64_t handle = HandleOf(info[0], "the handle");
  const uint64_t owner = WholeNumber(info[1], "owner", 0, kExactIntegerMax);
  const bool given = Owners::OfProcess().Own(owner, handle);
  if (!given) {
    ForgetHandle(handle);
    Release(handle);
  }
  return Napi::Boolean::New(info.Env(), given);
}

}  // namespace

Napi::Value OwnedHandle(Napi::Env env, uint64_t handle) {
  Owners::OfProcess().Own(IdOf(env), handle);
  try {
    return FromHandle(env, handle);
  } catch (const Napi::Error&) {  // a thread that is being ended: nobody else knows the handle
    ForgetHandle(handle);
    Release(handle);
    throw;
  }
}

void ForgetHandle(uint64_t handle) { Owners::OfProcess().Forget(handle); }

void RegisterOwnerCalls(Napi::Env env, Napi::Object exports) {
  auto* const id = new EnvironmentId(Owners::OfProcess().Begin());
  if (napi_set_instance_data(env, id, nullptr, nullptr) != napi_ok ||
      napi_add_env_cleanup_hook(env, ReleaseAll, id) != napi_ok) {
    throw Napi::Error::New(env);
  }
  Export<EnvironmentIdCall>(env, exports, "environmentId");
  Export<HandleGive>(env, exports, "handleGive");
}

}  // namespace volseal::addon
