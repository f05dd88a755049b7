#include "xts/dispatch.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "xts/cpu.h"
#include "xts/kernels.h"

namespace volseal::xts {
namespace {

std::atomic<const Kernel*> forced_kernel = nullptr;

// `against` is why the kernel cannot run, or "".
Candidate Judge(const Kernel& kernel, const std::string& against, const char* merit) {
  if (!against.empty()) return {kernel.name, kernel.vector_bits, nullptr, against};
  return {kernel.name, kernel.vector_bits, &kernel, merit};
}

#if defined(__x86_64__)
std::vector<Candidate> VectorKernels() {
  const CpuReading cpu = ReadCpu();
  const bool is_zen3 = IsZen3(cpu);
  Candidate vaes512 =
      Judge(cpu.is_intel ? kVaes512IntelKernel : kVaes512Kernel, AgainstVaes512(cpu), "four blocks an instruction");
  Candidate vaes256 = Judge(cpu.is_intel ? kVaes256IntelKernel
                            : is_zen3    ? kVaes256Zen3Kernel
                                         : kVaes256Kernel,
                            AgainstVaes256(cpu), "two blocks an instruction");
  Candidate aesni = Judge(is_zen3 ? kAesniZen3Kernel : kAesniKernel, AgainstAesni(cpu), "one block an instruction");
  if (Prefers256(cpu)) {
    if (vaes512.kernel) vaes512.reason += ", for which this processor lowers its clock";
    std::swap(vaes512, vaes256);
  }
  for (Candidate* const candidate : {&vaes512, &vaes256, &aesni}) {
    if (candidate->kernel) candidate->reason += "; " + std::string(candidate->kernel->form);
  }
  return {std::move(vaes512), std::move(vaes256), std::move(aesni), {"armv8", 128, nullptr, "for Arm processors"}};
}
#else
std::vector<Candidate> VectorKernels() {
  return {
#if defined(__aarch64__)
    Judge(kArmv8Kernel, AgainstArmv8(ReadCpu()), "one block an instruction"),
#else
    {"armv8", 128, nullptr, "for Arm processors"},
#endif
        {"vaes512", 512, nullptr, "for x86 processors"}, {"vaes256", 256, nullptr, "for x86 processors"}, {
      "aesni", 128, nullptr, "for x86 processors"
    }
  };
}
#endif

std::vector<Candidate> AllCandidates() {
  std::vector<Candidate> candidates = VectorKernels();
  candidates.push_back(Judge(kPortableKernel, "", "no AES instructions: constant in time, and slow"));
  return candidates;
}

}  // namespace

std::span<const Candidate> Candidates() {
  static const std::vector<Candidate> candidates = AllCandidates();
  return candidates;
}

Result<const Kernel*> KernelByName(std::string_view name) {
  const auto named = std::ranges::find(Candidates(), name, &Candidate::name);
  if (named != Candidates().end()) {
    if (named->kernel) return named->kernel;
    return Failure(Code::kArgument, "this machine cannot run the kernel " + std::string(name) + ": " + named->reason);
  }
  std::string names;
  for (const Candidate& candidate : Candidates()) {
    names += (names.empty() ? "" : ", ") + std::string(candidate.name);
  }
  return Failure(Code::kArgument, "there is no kernel \"" + std::string(name) + "\", only " + names);
}

const Kernel& ActiveKernel() {
  if (const Kernel* const forced = forced_kernel.load(std::memory_order_relaxed)) return *forced;
  static const Kernel* const fastest = std::ranges::find_if(Candidates(), [](const Candidate& candidate) {
                                         return candidate.kernel != nullptr;
                                       })->kernel;
  return *fastest;
}

Status ForceKernel(std::string_view name) {
  if (name.empty()) {
    forced_kernel = nullptr;
    return Ok();
  }
  auto kernel = KernelByName(name);
  if (!kernel.ok()) return kernel.status();
  forced_kernel = kernel.value();
  return Ok();
}

}  // namespace volseal::xts
