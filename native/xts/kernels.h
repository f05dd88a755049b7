// What the kernels export to the dispatch. No instruction set appears here.
#pragma once

#include "xts/xts.h"

namespace volseal::xts {

extern const Kernel kPortableKernel;
#ifdef VOLSEAL_HAVE_AESNI
extern const Kernel kAesniKernel;
#endif

}  // namespace volseal::xts
