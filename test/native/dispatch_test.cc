// Which kernel runs: the choice, forcing it, and refusals.
#include "xts/dispatch.h"

#include <doctest/doctest.h>

#include <set>
#include <string>

#include "harness.h"
#include "xts/cpu.h"

namespace volseal::xts_test {
namespace {

bool Contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

// Goes back to the fastest kernel, whatever the test did.
struct Unforce {
  ~Unforce() { REQUIRE(xts::ForceKernel("").ok()); }
};

}  // namespace

TEST_CASE("the candidates are all kernels there are, each with a reason") {
  std::set<std::string_view> names;
  for (const xts::Candidate& candidate : xts::Candidates()) {
    CHECK(names.insert(candidate.name).second);
    CHECK_FALSE(candidate.reason.empty());
    if (candidate.kernel != nullptr) CHECK(candidate.kernel->name == candidate.name);
  }
  CHECK(names == std::set<std::string_view>{"aesni", "armv8", "portable", "vaes256", "vaes512"});
  CHECK(xts::Candidates().back().name == "portable");
  CHECK(xts::Candidates().back().kernel != nullptr);
}

TEST_CASE("a kernel can run where its instructions are, and not elsewhere") {
  const xts::CpuReading cpu = xts::ReadCpu();
  for (const xts::Candidate& candidate : xts::Candidates()) {
    INFO(candidate.name);
#if defined(__x86_64__)
    const bool expected = candidate.name == "vaes512"   ? xts::AgainstVaes512(cpu).empty()
                          : candidate.name == "vaes256" ? xts::AgainstVaes256(cpu).empty()
                          : candidate.name == "aesni"   ? xts::AgainstAesni(cpu).empty()
                                                        : candidate.name == "portable";
#else
    const bool expected = candidate.name == "armv8" ? xts::AgainstArmv8(cpu).empty() : candidate.name == "portable";
#endif
    CHECK((candidate.kernel != nullptr) == expected);
  }
}

TEST_CASE("vectors are as wide as the kernels say") {
  for (const xts::Kernel* kernel : UsableKernels()) {
    INFO(NameOf(*kernel));
    if (kernel->name == "vaes512") CHECK(kernel->vector_bits == 512);
    if (kernel->name == "vaes256") CHECK(kernel->vector_bits == 256);
    if (kernel->name == "aesni" || kernel->name == "armv8") CHECK(kernel->vector_bits == 128);
    CHECK((kernel->run_rounds_only == nullptr) == (kernel->name == "portable"));
    if (kernel->run_rounds_only != nullptr) kernel->run_rounds_only(4096);
  }
}

#if defined(__x86_64__)
TEST_CASE("of several forms that of the processor runs") {
  const xts::CpuReading cpu = xts::ReadCpu();
  for (const xts::Candidate& candidate : xts::Candidates()) {
    if (candidate.kernel == nullptr || candidate.kernel->form.empty()) continue;
    INFO(candidate.name);
    CHECK(candidate.kernel->form == (candidate.name != "vaes512" && xts::IsZen3(cpu) ? "tweaks in general registers"
                                     : candidate.name == "aesni"                     ? "tweaks in vector registers"
                                     : cpu.is_intel                                  ? "tweaks by products"
                                                                                     : "tweaks by shifts"));
    CHECK(Contains(candidate.reason, candidate.kernel->form));
  }
}
#endif

TEST_CASE("the fastest kernel is in use, unless another is forced") {
  const Unforce unforce;
  const xts::Kernel* const fastest = UsableKernels().front();
  CHECK(&xts::ActiveKernel() == fastest);
  for (const xts::Candidate& candidate : xts::Candidates()) {
    if (candidate.kernel == nullptr) continue;
    REQUIRE(xts::ForceKernel(candidate.name).ok());
    CHECK(&xts::ActiveKernel() == candidate.kernel);
    CHECK(xts::KernelByName(candidate.name).value() == candidate.kernel);
  }
  REQUIRE(xts::ForceKernel("").ok());
  CHECK(&xts::ActiveKernel() == fastest);
}

TEST_CASE("an unknown kernel is refused with the names there are, and changes nothing") {
  const Unforce unforce;
  REQUIRE(xts::ForceKernel("portable").ok());
  for (const std::string_view name : {"avx1024", "AESNI", "aesni ", "vaes", "portable\n"}) {
    const Status status = xts::ForceKernel(name);
    CHECK(status.code == Code::kArgument);
    CHECK(Contains(status.message, name));
    CHECK(Contains(status.message, "portable"));
    CHECK(Contains(status.message, "vaes512"));
    CHECK(xts::ActiveKernel().name == "portable");
    CHECK(xts::KernelByName(name).status().code == Code::kArgument);
  }
}

TEST_CASE("an impossible kernel is refused with its reason, and changes nothing") {
  const Unforce unforce;
  REQUIRE(xts::ForceKernel("portable").ok());
  int impossible = 0;
  for (const xts::Candidate& candidate : xts::Candidates()) {
    if (candidate.kernel != nullptr) continue;
    ++impossible;
    const Status status = xts::ForceKernel(candidate.name);
    CHECK(status.code == Code::kArgument);
    CHECK(Contains(status.message, candidate.name));
    CHECK(Contains(status.message, candidate.reason));
    CHECK(xts::ActiveKernel().name == "portable");
  }
  CHECK(impossible > 0);  // no processor is of two kinds
}

}  // namespace volseal::xts_test
