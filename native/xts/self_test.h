// The power-on self-test: known answers, before the first data key or master key is used.
#pragma once

#include <span>

#include "base/status.h"
#include "xts/dispatch.h"

namespace volseal::xts {

// Runs it once for the process on every kernel this machine can run, and returns that outcome ever after. Takes about
// 6 ms. kSelfTest: a kernel gave wrong bytes; the processor, its memory or this build is not to be trusted.
Status SelfTest();

// The test itself. The last of `kernels` is the judge of the others on long runs, so it must be "portable", which
// known answers judge.
Status TestKernels(std::span<const Kernel* const> kernels);

}  // namespace volseal::xts
