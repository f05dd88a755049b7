// One of Node's JavaScript threads, as the addon sees it: the promises that it owes, and what ends with it.
//
// Other threads complete the calls; the promises are settled in the JavaScript thread, many at one wake-up.
#pragma once

#include <napi.h>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace volseal::addon {

// A call that returned a promise. It lives until the promise is settled, or the environment has ended.
class PendingCall {
 public:
  virtual ~PendingCall() = default;  // in the JavaScript thread
  // In the JavaScript thread, once complete: what the promise gives; a Napi::Error that is thrown rejects it.
  virtual Napi::Value Outcome(Napi::Env env) = 0;

 private:
  friend class Environment;
  napi_deferred deferred_ = nullptr;
};

class Environment {
 public:
  // The calling JavaScript thread's.
  static Environment& Of(Napi::Env env);

  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  // In the JavaScript thread, as all but Complete. Takes over `call`; the environment stays alive for it. The caller
  // has it completed exactly once, whatever happens.
  Napi::Value Begin(std::unique_ptr<PendingCall> call);
  // From any thread; the call may be gone when this returns.
  void Complete(PendingCall& call);
  // Runs `end` when the environment ends, once no call is under way, unless the handle is forgotten before.
  void AtEnd(uint64_t handle, std::function<void()> end) { ends_[handle] = std::move(end); }
  void Forget(uint64_t handle) { ends_.erase(handle); }

 private:
  explicit Environment(Napi::Env env) : env_(env) {}
  void Open();
  static void SettleCalls(napi_env env, napi_value, void* context, void*);
  void Settle(PendingCall& call);
  // Waits for calls under way, which use memory of this environment; their promises stay open.
  void End();

  const Napi::Env env_;
  napi_threadsafe_function wake_ = nullptr;
  size_t owed_ = 0;                                 // promises
  std::map<uint64_t, std::function<void()>> ends_;  // by handle

  std::mutex mutex_;
  std::condition_variable call_completed_;
  size_t under_way_ = 0;
  std::vector<PendingCall*> complete_;
  bool ending_ = false;
};

}  // namespace volseal::addon
