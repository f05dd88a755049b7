#include "xts/cpu.h"

#include <algorithm>
#include <array>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace volseal::xts {
namespace {

// Intel SDM volume 2A, CPUID, leaves 1 and 7.
// Arm reads none of them.
[[maybe_unused]] constexpr uint32_t kSse41 = 1u << 19, kAes = 1u << 25, kOsxsave = 1u << 27,
                                    kAvx = 1u << 28;  // leaf 1, ECX
constexpr uint32_t kAvx2 = 1u << 5, kAvx512f = 1u << 16, kAvx512dq = 1u << 17, kAvx512bw = 1u << 30,
                   kAvx512vl = 1u << 31;                     // leaf 7, EBX
constexpr uint32_t kVaes = 1u << 9, kVpclmulqdq = 1u << 10;  // leaf 7, ECX
constexpr uint64_t kYmmState = 0x06, kZmmState = 0xe6;       // XCR0: SSE and AVX; and opmask, ZMM_Hi256, Hi16_ZMM
constexpr uint64_t kArmAes = 1u << 3;                        // HWCAP_AES

struct Feature {
  const char* name;
  bool present;
};

std::string Lacks(const std::vector<Feature>& features) {
  std::string names;
  for (const Feature& feature : features) {
    if (!feature.present) names += (names.empty() ? "" : ", ") + std::string(feature.name);
  }
  return names.empty() ? "" : "the processor lacks " + names;
}

std::string AgainstVectors(const CpuReading& cpu, uint64_t state, const char* width) {
  if ((cpu.xcr0 & state) == state) return "";
  return std::string("the operating system does not save ") + width + " registers";
}

}  // namespace

CpuReading ReadCpu() {
  CpuReading cpu;
#if defined(__x86_64__)
  uint32_t eax, ebx, ecx, edx;
  if (!__get_cpuid(0, &eax, &ebx, &ecx, &edx)) return cpu;
  cpu.is_intel = ebx == signature_INTEL_ebx && edx == signature_INTEL_edx && ecx == signature_INTEL_ecx;
  cpu.is_amd = ebx == signature_AMD_ebx && edx == signature_AMD_edx && ecx == signature_AMD_ecx;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return cpu;
  cpu.leaf1_ecx = ecx;
  cpu.family = eax >> 8 & 0xf;
  if (cpu.family == 0xf) cpu.family += eax >> 20 & 0xff;
  cpu.model = (eax >> 4 & 0xf) | (eax >> 12 & 0xf0);
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
    cpu.leaf7_ebx = ebx;
    cpu.leaf7_ecx = ecx;
  }
  if (cpu.leaf1_ecx & kOsxsave) {
    uint32_t low, high;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    cpu.xcr0 = uint64_t{high} << 32 | low;
  }
#elif defined(__aarch64__)
  cpu.hwcap = getauxval(AT_HWCAP);
#endif
  return cpu;
}

std::string AgainstVaes512(const CpuReading& cpu) {
  const std::string lacks = Lacks({{"vaes", (cpu.leaf7_ecx & kVaes) != 0},
                                   {"vpclmulqdq", (cpu.leaf7_ecx & kVpclmulqdq) != 0},
                                   {"avx512f", (cpu.leaf7_ebx & kAvx512f) != 0},
                                   {"avx512bw", (cpu.leaf7_ebx & kAvx512bw) != 0},
                                   {"avx512dq", (cpu.leaf7_ebx & kAvx512dq) != 0},
                                   {"avx512vl", (cpu.leaf7_ebx & kAvx512vl) != 0}});
  return lacks.empty() ? AgainstVectors(cpu, kZmmState, "512-bit") : lacks;
}

std::string AgainstVaes256(const CpuReading& cpu) {
  const std::string lacks = Lacks({{"vaes", (cpu.leaf7_ecx & kVaes) != 0},
                                   {"vpclmulqdq", (cpu.leaf7_ecx & kVpclmulqdq) != 0},
                                   {"avx2", (cpu.leaf1_ecx & kAvx) != 0 && (cpu.leaf7_ebx & kAvx2) != 0}});
  return lacks.empty() ? AgainstVectors(cpu, kYmmState, "256-bit") : lacks;
}

std::string AgainstAesni(const CpuReading& cpu) {
  return Lacks({{"aes", (cpu.leaf1_ecx & kAes) != 0}, {"sse4.1", (cpu.leaf1_ecx & kSse41) != 0}});
}

std::string AgainstArmv8(const CpuReading& cpu) { return Lacks({{"aes", (cpu.hwcap & kArmAes) != 0}}); }

bool Prefers256(const CpuReading& cpu) {
  // Ice Lake (server, D, client, low power, NNP-I), Tiger Lake (low power, high): those of Linux's list that have VAES.
  constexpr std::array<uint32_t, 7> kModels = {0x6a, 0x6c, 0x7d, 0x7e, 0x9d, 0x8c, 0x8d};
  return cpu.is_intel && cpu.family == 6 && std::ranges::find(kModels, cpu.model) != kModels.end();
}

bool IsZen3(const CpuReading& cpu) {
  // As Linux divides the family.
  return cpu.is_amd && cpu.family == 0x19 && (cpu.model < 0x10 || (0x20 <= cpu.model && cpu.model < 0x60));
}

}  // namespace volseal::xts
