// What a thread of JavaScript has opened ends with it: a worker_thread that is terminated runs no code of its own that
// would wipe its keys and close its devices, whose descriptors hold locks.
#pragma once

#include <napi.h>

#include <cstdint>

namespace volseal::addon {

// The handle as a number of JavaScript's, and the environment's from now on. What it names is released where the number
// cannot be made.
Napi::Value OwnedHandle(Napi::Env env, uint64_t handle);

// The handle is over.
void ForgetHandle(uint64_t handle);

}  // namespace volseal::addon
