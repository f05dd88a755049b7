// What this processor and its operating system offer the kernels. The reading is apart from the judgement, so that
// processors which are not here can be tested.
#pragma once

#include <cstdint>
#include <string>

namespace volseal::xts {

// The registers of CPUID and XGETBV that matter (Intel SDM volume 2A, CPUID; volume 1, 13.3), all 0 where there are
// none; or Arm's hardware capabilities.
struct CpuReading {
  bool is_intel = false;
  bool is_amd = false;
  uint32_t family = 0;  // extended family and model worked in
  uint32_t model = 0;
  uint32_t leaf1_ecx = 0;
  uint32_t leaf7_ebx = 0;
  uint32_t leaf7_ecx = 0;
  uint64_t xcr0 = 0;   // register state that the operating system saves; 0 without OSXSAVE
  uint64_t hwcap = 0;  // Arm: AT_HWCAP
};

CpuReading ReadCpu();

// What stands against a kernel on that machine: "" where nothing does, else a phrase such as "the processor lacks
// vaes".
std::string AgainstVaes512(const CpuReading& cpu);
std::string AgainstVaes256(const CpuReading& cpu);
std::string AgainstAesni(const CpuReading& cpu);
std::string AgainstArmv8(const CpuReading& cpu);

// Whether 512-bit vectors slow this processor's clock down so much that 256-bit ones are faster (Intel, Ice Lake and
// Tiger Lake; Linux prefers 256-bit kernels on the same models).
bool Prefers256(const CpuReading& cpu);

// Whether this is a Zen 3, where shifts and shuffles of vectors take the ports of AES (AMD family 19h, whose other
// models are Zen 4).
bool IsZen3(const CpuReading& cpu);

}  // namespace volseal::xts
