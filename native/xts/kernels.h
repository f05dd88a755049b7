// What the kernels export to the dispatch. No instruction set appears here.
#pragma once

#include "xts/xts.h"

namespace volseal::xts {

extern const Kernel kPortableKernel;
#if defined(__x86_64__)
extern const Kernel kAesniKernel;
extern const Kernel kVaes256Kernel;
extern const Kernel kVaes512Kernel;
#elif defined(__aarch64__)
extern const Kernel kArmv8Kernel;
#endif

}  // namespace volseal::xts
