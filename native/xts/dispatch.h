// Which kernel does the work: chosen once for the process by what processor and operating system can do, or forced.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "xts/xts.h"

namespace volseal::xts {

// A kernel as this machine sees it.
struct Candidate {
  std::string_view name;
  int vector_bits;
  const Kernel* kernel;  // nullptr where this machine cannot run it
  std::string reason;    // why it can or cannot run, or stands where it stands in the order: a phrase for people
};

// Every kernel there is, in the order of preference on this machine; decided once. At least "portable" can run.
std::span<const Candidate> Candidates();

// The kernel of that name. kArgument: no such kernel, or this machine cannot run it; the message says why.
Result<const Kernel*> KernelByName(std::string_view name);

// The kernel in use: the first candidate that can run, unless one was forced.
const Kernel& ActiveKernel();

// From the next call on, in the whole process, that kernel is in use; "" goes back to the fastest. Fails as
// KernelByName does, and changes nothing then.
Status ForceKernel(std::string_view name);

}  // namespace volseal::xts
