#include "addon/environment.h"

#include <unordered_map>
#include <utility>

#include "addon/args.h"

namespace volseal::addon {
namespace {

// The environments of this thread: one, or more where the addon was loaded into several contexts.
std::unordered_map<napi_env, Environment*>& OfThisThread() {
  static thread_local std::unordered_map<napi_env, Environment*> environments;
  return environments;
}

void Check(Napi::Env env, napi_status status) {
  if (status != napi_ok) throw Napi::Error::New(env);
}

}  // namespace

Environment& Environment::Of(Napi::Env env) {
  auto& environments = OfThisThread();
  if (const auto known = environments.find(env); known != environments.end()) return *known->second;
  std::unique_ptr<Environment> environment(new Environment(env));
  environment->Open();
  return *(environments[env] = environment.release());
}

void Environment::Open() {
  Check(env_, napi_create_threadsafe_function(env_, nullptr, nullptr, Napi::String::New(env_, "volseal"), 0, 1, nullptr,
                                              nullptr, this, SettleCalls, &wake_));
  Check(env_, napi_unref_threadsafe_function(env_, wake_));
  // After the function above, so that it runs before that one's own hook: hooks run in the opposite order.
  const auto end = [](void* environment) { static_cast<Environment*>(environment)->End(); };
  Check(env_, napi_add_env_cleanup_hook(env_, end, this));
}

Napi::Value Environment::Begin(std::unique_ptr<PendingCall> call) {
  napi_value promise;
  Check(env_, napi_create_promise(env_, &call->deferred_, &promise));
  if (owed_++ == 0) napi_ref_threadsafe_function(env_, wake_);
  const std::lock_guard guard(mutex_);
  ++under_way_;
  call.release();
  return {env_, promise};
}

void Environment::Complete(PendingCall& call) {
  const std::lock_guard guard(mutex_);
  complete_.push_back(&call);
  --under_way_;
  if (ending_) {
    call_completed_.notify_all();
  } else if (complete_.size() == 1) {
    // Under the lock: after End there is no such function.
    napi_call_threadsafe_function(wake_, nullptr, napi_tsfn_nonblocking);
  }
}

void Environment::SettleCalls(napi_env env, napi_value, void* context, void*) {
  if (!env) return;  // it is ending
  auto* const environment = static_cast<Environment*>(context);
  std::vector<PendingCall*> calls;
  {
    const std::lock_guard guard(environment->mutex_);
    calls.swap(environment->complete_);
  }
  for (PendingCall* const call : calls) environment->Settle(*call);
}

void Environment::Settle(PendingCall& pending) {
  const std::unique_ptr<PendingCall> call(&pending);
  const Napi::HandleScope scope(env_);
  if (--owed_ == 0) napi_unref_threadsafe_function(env_, wake_);
  // Where this thread is being ended no promise can be settled, and nobody waits for it.
  try {
    napi_resolve_deferred(env_, call->deferred_, call->Outcome(env_));
  } catch (const Napi::Error& error) {
    napi_reject_deferred(env_, call->deferred_, error.Value());
  }
}

void Environment::End() {
  OfThisThread().erase(env_);
  {
    std::unique_lock guard(mutex_);
    ending_ = true;
    call_completed_.wait(guard, [this] { return under_way_ == 0; });
  }
  for (PendingCall* const call : complete_) delete call;
  for (const auto& [handle, end] : ends_) end();
  delete this;
}

}  // namespace volseal::addon
