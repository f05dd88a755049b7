// What the kernels export to the dispatch. No instruction set appears here.
#pragma once

#include "xts/xts.h"

namespace volseal::xts {

extern const Kernel kPortableKernel;
#if defined(__x86_64__)
// In forms for the ports of different processors; all can run wherever one can.
extern const Kernel kAesniKernel, kAesniZen3Kernel;
extern const Kernel kVaes256Kernel, kVaes256IntelKernel, kVaes256Zen3Kernel;
extern const Kernel kVaes512Kernel, kVaes512IntelKernel;
#elif defined(__aarch64__)
extern const Kernel kArmv8Kernel;
#endif

}  // namespace volseal::xts
