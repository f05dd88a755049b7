// Which kernels this machine can run, decided once.
#include <vector>

#include "xts/kernels.h"
#include "xts/xts.h"

namespace volseal::xts {
namespace {

std::vector<Kernel> Usable() {
  std::vector<Kernel> kernels;
#ifdef VOLSEAL_HAVE_AESNI
  if (__builtin_cpu_supports("aes") && __builtin_cpu_supports("sse4.1")) kernels.push_back(kAesniKernel);
#endif
  kernels.push_back(kPortableKernel);
  return kernels;
}

}  // namespace

std::span<const Kernel> Kernels() {
  static const std::vector<Kernel> kernels = Usable();
  return kernels;
}

const Kernel* KernelByName(std::string_view name) {
  for (const Kernel& kernel : Kernels()) {
    if (kernel.name == name) return &kernel;
  }
  return nullptr;
}

}  // namespace volseal::xts
