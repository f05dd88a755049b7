// What the kernels export to the dispatch. No instruction set appears here.
#pragma once

#include "xts/xts.h"

namespace volseal::xts {

extern const Kernel kPortableKernel;
#if defined(__x86_64__)
extern const Kernel kAesniKernel;
// Each in two forms, for the ports of AMD's and of Intel's processors; both can run wherever one can.
extern const Kernel kVaes256Kernel, kVaes256IntelKernel;
extern const Kernel kVaes512Kernel, kVaes512IntelKernel;
#elif defined(__aarch64__)
extern const Kernel kArmv8Kernel;
#endif

}  // namespace volseal::xts
