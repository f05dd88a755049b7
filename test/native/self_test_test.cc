// The power-on self-test: it passes here, and kernels that are wrong in one bit do not get past it.
#include "xts/self_test.h"

#include <doctest/doctest.h>

#include <array>

#include "harness.h"

namespace volseal::xts_test {
namespace {

using Condition = bool (*)(const xts::KeySchedule& key, xts::SectorRun run);

// The fastest kernel of this machine, and then one bit in the last byte is wrong where kCondition holds.
template <Direction kDirection, Condition kCondition>
void WrongInOneBit(const xts::KeySchedule& key, const uint8_t* source, uint8_t* target, xts::SectorRun run) {
  const xts::Kernel& real = *UsableKernels().front();
  (kDirection == Direction::kEncrypt ? real.encrypt : real.decrypt)(key, source, target, run);
  if (kCondition(key, run)) target[run.sector_count * run.sector_bytes - 1] ^= 1;
}

bool Never(const xts::KeySchedule&, xts::SectorRun) { return false; }
bool Always(const xts::KeySchedule&, xts::SectorRun) { return true; }
bool WithAes128(const xts::KeySchedule& key, xts::SectorRun) { return key.rounds == 10; }
bool WithAes256(const xts::KeySchedule& key, xts::SectorRun) { return key.rounds == 14; }
bool InLongRuns(const xts::KeySchedule&, xts::SectorRun run) { return run.sector_count > 32; }
template <uint32_t kSectorBytes>
bool WithSectorsOf(const xts::KeySchedule&, xts::SectorRun run) {
  return run.sector_bytes == kSectorBytes;
}
bool InSingleSectors(const xts::KeySchedule&, xts::SectorRun run) { return run.sector_count == 1; }

template <Condition kEncryptWrong, Condition kDecryptWrong>
Status TestedWith() {
  const xts::Kernel kernel = {"planted",
                              "",
                              128,
                              WrongInOneBit<Direction::kEncrypt, kEncryptWrong>,
                              WrongInOneBit<Direction::kDecrypt, kDecryptWrong>,
                              nullptr,
                              nullptr};
  const std::array<const xts::Kernel*, 2> kernels = {&kernel, &Portable()};
  return xts::TestKernels(kernels);
}

template <Condition kEncryptWrong, Condition kDecryptWrong>
void CheckRefused(const char* what) {
  INFO(what);
  const Status status = TestedWith<kEncryptWrong, kDecryptWrong>();
  CHECK(status.code == Code::kSelfTest);
  CHECK(status.message.find("planted") != std::string::npos);
}

}  // namespace

TEST_CASE("the self-test passes on this machine, and says the same when asked again") {
  const Status first = xts::SelfTest();
  CHECK_MESSAGE(first.ok(), first.message);
  CHECK(xts::SelfTest().ok());
  const std::vector<const xts::Kernel*> kernels = UsableKernels();
  CHECK(xts::TestKernels(kernels).ok());
}

TEST_CASE("the self-test passes a kernel that only stands in for a right one") {
  const Status status = TestedWith<Never, Never>();
  CHECK_MESSAGE(status.ok(), status.message);
}

TEST_CASE("the self-test refuses a kernel that is wrong in one bit, and names it") {
  CheckRefused<Always, Always>("always");
  CheckRefused<Always, Never>("when it encrypts");
  CheckRefused<Never, Always>("when it decrypts");
  CheckRefused<WithAes128, Never>("when it encrypts with AES-128");
  CheckRefused<Never, WithAes128>("when it decrypts with AES-128");
  CheckRefused<WithAes256, Never>("when it encrypts with AES-256");
  CheckRefused<Never, WithAes256>("when it decrypts with AES-256");
  CheckRefused<InLongRuns, Never>("in the last sector of a long run, encrypting");
  CheckRefused<Never, InLongRuns>("in the last sector of a long run, decrypting");
  CheckRefused<InSingleSectors, Never>("in a single sector");
  CheckRefused<WithSectorsOf<1024>, Never>("in sectors of 1024 bytes");
  CheckRefused<Never, WithSectorsOf<2048>>("in sectors of 2048 bytes");
  CheckRefused<WithSectorsOf<4096>, Never>("in sectors of 4096 bytes");
}

namespace {

void EncryptWrongly(const xts::KeySchedule& key, const uint8_t* source, uint8_t* target, xts::SectorRun run) {
  Portable().encrypt(key, source, target, run);
  target[0] ^= 0x80;
}

}  // namespace

TEST_CASE("the self-test refuses a wrong reference as well") {
  xts::Kernel kernel = Portable();
  kernel.encrypt = EncryptWrongly;
  const std::array<const xts::Kernel*, 1> kernels = {&kernel};
  const Status status = xts::TestKernels(kernels);
  CHECK(status.code == Code::kSelfTest);
  CHECK(status.message.find("portable") != std::string::npos);
}

}  // namespace volseal::xts_test
