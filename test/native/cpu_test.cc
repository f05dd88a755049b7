// What is read off processors that are not here: the judgement about each kernel.
#include "xts/cpu.h"

#include <doctest/doctest.h>

#include <string>

namespace volseal::xts_test {
namespace {

// Intel SDM volume 2A, CPUID: what Zen 4, and Intel from Ice Lake on, have.
constexpr uint32_t kSse41 = 1u << 19, kAes = 1u << 25, kOsxsave = 1u << 27, kAvx = 1u << 28;
constexpr uint32_t kAvx2 = 1u << 5, kAvx512f = 1u << 16, kAvx512dq = 1u << 17, kAvx512bw = 1u << 30;
constexpr uint32_t kAvx512vl = 1u << 31, kVaes = 1u << 9, kVpclmulqdq = 1u << 10;

xts::CpuReading Zen4() {
  xts::CpuReading cpu;
  cpu.is_amd = true;
  cpu.family = 0x19;
  cpu.model = 0x61;
  cpu.leaf1_ecx = kSse41 | kAes | kOsxsave | kAvx | 1u << 1;  // and pclmulqdq
  cpu.leaf7_ebx = kAvx2 | kAvx512f | kAvx512dq | kAvx512bw | kAvx512vl;
  cpu.leaf7_ecx = kVaes | kVpclmulqdq;
  cpu.xcr0 = 0xe7;
  return cpu;
}

xts::CpuReading Intel(uint32_t model) {
  xts::CpuReading cpu = Zen4();
  cpu.is_intel = true;
  cpu.is_amd = false;
  cpu.family = 6;
  cpu.model = model;
  return cpu;
}

bool Contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("Zen 4 can run every x86 kernel, the widest first") {
  CHECK(xts::AgainstVaes512(Zen4()) == "");
  CHECK(xts::AgainstVaes256(Zen4()) == "");
  CHECK(xts::AgainstAesni(Zen4()) == "");
  CHECK_FALSE(xts::Prefers256(Zen4()));
  CHECK(Contains(xts::AgainstArmv8(Zen4()), "aes"));
}

TEST_CASE("Zen 3 is told from Zen 4, which has the same family, and from others") {
  xts::CpuReading cpu = Zen4();
  for (const uint32_t model : {0x00u, 0x01u, 0x08u, 0x0fu, 0x21u, 0x44u, 0x50u, 0x5fu}) {
    cpu.model = model;
    CHECK(xts::IsZen3(cpu));
  }
  for (const uint32_t model : {0x10u, 0x11u, 0x1fu, 0x60u, 0x61u, 0x74u, 0xa0u}) {
    cpu.model = model;
    CHECK_FALSE(xts::IsZen3(cpu));
  }
  cpu.model = 0x01;
  cpu.family = 0x17;
  CHECK_FALSE(xts::IsZen3(cpu));
  CHECK_FALSE(xts::IsZen3(Intel(0x01)));
  CHECK_FALSE(xts::IsZen3({}));
}

TEST_CASE("registers that the operating system does not save are not used") {
  xts::CpuReading cpu = Zen4();
  for (const uint64_t xcr0 : {0x07, 0x27, 0x67, 0xc7, 0xa7}) {  // one or more of the three AVX-512 states missing
    cpu.xcr0 = xcr0;
    CHECK(Contains(xts::AgainstVaes512(cpu), "operating system"));
    CHECK(xts::AgainstVaes256(cpu) == "");
  }
  for (const uint64_t xcr0 : {0x00, 0x01, 0x03, 0xe3}) {
    cpu.xcr0 = xcr0;
    CHECK(Contains(xts::AgainstVaes512(cpu), "operating system"));
    CHECK(Contains(xts::AgainstVaes256(cpu), "operating system"));
    CHECK(xts::AgainstAesni(cpu) == "");
  }
}

TEST_CASE("VAES-512 needs each of its instruction sets, and names the one that is missing") {
  const struct {
    uint32_t xts::CpuReading::*leaf;
    uint32_t bit;
    const char* name;
  } needs[] = {
      {&xts::CpuReading::leaf7_ebx, kAvx512f, "avx512f"},   {&xts::CpuReading::leaf7_ebx, kAvx512dq, "avx512dq"},
      {&xts::CpuReading::leaf7_ebx, kAvx512bw, "avx512bw"}, {&xts::CpuReading::leaf7_ebx, kAvx512vl, "avx512vl"},
      {&xts::CpuReading::leaf7_ecx, kVaes, "vaes"},         {&xts::CpuReading::leaf7_ecx, kVpclmulqdq, "vpclmulqdq"}};
  for (const auto& need : needs) {
    xts::CpuReading cpu = Zen4();
    cpu.*need.leaf &= ~need.bit;
    CHECK(Contains(xts::AgainstVaes512(cpu), need.name));
    CHECK(xts::AgainstAesni(cpu) == "");
  }
}

TEST_CASE("VAES without AVX-512 (Zen 3, Alder Lake) runs in 256 bits") {
  xts::CpuReading cpu = Zen4();
  cpu.leaf7_ebx = kAvx2;
  cpu.xcr0 = 7;
  CHECK(Contains(xts::AgainstVaes512(cpu), "avx512f"));
  CHECK(xts::AgainstVaes256(cpu) == "");
  cpu.leaf7_ebx = 0;
  CHECK(Contains(xts::AgainstVaes256(cpu), "avx2"));
  cpu.leaf7_ebx = kAvx2;
  cpu.leaf7_ecx = kVaes;
  CHECK(Contains(xts::AgainstVaes256(cpu), "vpclmulqdq"));
}

TEST_CASE("AES-NI without VAES (Skylake, Zen 2)") {
  xts::CpuReading cpu = Zen4();
  cpu.leaf7_ecx = 0;
  CHECK(Contains(xts::AgainstVaes512(cpu), "vaes"));
  CHECK(Contains(xts::AgainstVaes256(cpu), "vaes"));
  CHECK(xts::AgainstAesni(cpu) == "");
  cpu.leaf1_ecx &= ~kSse41;
  CHECK(Contains(xts::AgainstAesni(cpu), "sse4.1"));
  cpu.leaf1_ecx = kSse41;
  CHECK(Contains(xts::AgainstAesni(cpu), "aes"));
}

TEST_CASE("Intel's first parts with AVX-512 and VAES prefer 256 bits and can do 512; later ones prefer 512") {
  for (const uint32_t model : {0x6a, 0x6c, 0x7d, 0x7e, 0x8c, 0x8d}) {  // Ice Lake and Tiger Lake
    INFO("model " << model);
    CHECK(xts::Prefers256(Intel(model)));
    CHECK(xts::AgainstVaes512(Intel(model)) == "");
  }
  for (const uint32_t model : {0x8f, 0xcf, 0xad, 0xa7}) {  // Sapphire, Emerald, Granite Rapids; Rocket Lake
    INFO("model " << model);
    CHECK_FALSE(xts::Prefers256(Intel(model)));
    CHECK(xts::AgainstVaes512(Intel(model)) == "");
  }
  xts::CpuReading other_family = Intel(0x6a);
  other_family.family = 0x19;
  CHECK_FALSE(xts::Prefers256(other_family));
  xts::CpuReading other_maker = Intel(0x6a);
  other_maker.is_intel = false;
  CHECK_FALSE(xts::Prefers256(other_maker));
}

TEST_CASE("a processor with nothing runs none of them") {
  const xts::CpuReading nothing;
  CHECK(xts::AgainstVaes512(nothing) != "");
  CHECK(xts::AgainstVaes256(nothing) != "");
  CHECK(xts::AgainstAesni(nothing) != "");
  CHECK(xts::AgainstArmv8(nothing) != "");
  CHECK_FALSE(xts::Prefers256(nothing));
}

TEST_CASE("Arm with and without HWCAP_AES") {
  xts::CpuReading cpu;
  cpu.hwcap = 1u << 3;
  CHECK(xts::AgainstArmv8(cpu) == "");
  CHECK(xts::AgainstAesni(cpu) != "");
  cpu.hwcap = 0xffffffff & ~(1u << 3);
  CHECK(Contains(xts::AgainstArmv8(cpu), "aes"));
}

}  // namespace volseal::xts_test
