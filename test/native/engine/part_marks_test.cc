#include "engine/part_marks.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "engine/pending_part.h"
#include "engine/zeros.h"
#include "test_device.h"
#include "xts/dispatch.h"
#include "xts/xts.h"

namespace volseal::engine_test {
namespace {

using engine::kUnitBytes;
using Buffer = std::vector<uint8_t>;

constexpr size_t kBytes = 64 << 10;
// Not the beginning: the tweak of a sector depends on its place.
constexpr uint64_t kPosition = 3 << 20;

// What the marked form is made from, and which other form there is.
enum class Job {
  kReencrypt,  // the marked form is new, the other one has a key
  kEncrypt,    // the marked form is new, the other one is plaintext
  kDecrypt,    // the marked form is old, the other one is plaintext
};

void Encrypt(const TestKey& key, uint64_t position, uint32_t sector_bytes, uint8_t* sectors, size_t bytes) {
  auto pinned = vault::Vault::OfProcess().PinVolumeKey(key.handle());
  const xts::SectorRun run = {position / xts::kTweakUnitBytes, sector_bytes, bytes / sector_bytes};
  xts::ActiveKernel().encrypt(pinned.value().schedule(), sectors, sectors, run);
}

// A part in both of its forms. Among its sectors are some of zeros, and some with units of zeros among others; of a
// sparse volume zeros are a hole, or were written and are ciphertext.
struct Part {
  Part(Job job, uint32_t sector_bytes, bool sparse, std::mt19937_64& random)
      : other(kBytes), marked(kBytes), marks(engine::MarksBytes(kBytes)), job(job), scratch(kBytes) {
    for (size_t at = 0; at < kBytes; at += sector_bytes) {
      uint8_t* const from = other.data() + at;
      uint8_t* const to = marked.data() + at;
      const bool zeros = random() % 3 == 0;
      if (!zeros) {
        for (size_t i = 0; i < sector_bytes; ++i) from[i] = static_cast<uint8_t>(random());
        for (size_t unit = 0; unit + kUnitBytes < sector_bytes; unit += kUnitBytes)
          if (random() % 3 == 0) std::memset(from + unit, 0, kUnitBytes);
      }
      std::memcpy(to, from, sector_bytes);
      const bool hole = zeros && sparse;
      const bool written = hole && random() % 2 == 0;
      const bool new_has_key = job != Job::kDecrypt;
      // In the old form written zeros are ciphertext; in the new one they are a hole.
      if (!hole || (written && !new_has_key)) Encrypt(marked_key, kPosition + at, sector_bytes, to, sector_bytes);
      if (job == Job::kReencrypt && (!hole || written))
        Encrypt(other_key, kPosition + at, sector_bytes, from, sector_bytes);
    }
    engine::TakeMarks(marked, marks);
    forms = {.marked = marked_key.handle(), .other = std::nullopt, .sector_bytes = sector_bytes, .sparse = sparse};
    if (job == Job::kReencrypt) forms.other = other_key.handle();
  }
  Status Rebuild(Buffer& sectors) { return engine::ToMarkedForm(forms, kPosition, marks, sectors, scratch); }

  TestKey marked_key{1}, other_key{101};
  Buffer other, marked, marks;
  Job job;
  Buffer scratch;
  engine::MarkedForms forms;
};

template <typename Check>
void ForEveryPart(Check check) {
  std::mt19937_64 random(20);
  for (const Job job : {Job::kReencrypt, Job::kEncrypt, Job::kDecrypt})
    for (const uint32_t sector_bytes : {512u, 1024u, 2048u, 4096u})
      for (const bool sparse : {false, true})
        for (int round = 0; round < 4; ++round) {
          Part part(job, sector_bytes, sparse, random);
          CAPTURE(static_cast<int>(job));
          CAPTURE(sector_bytes);
          CAPTURE(sparse);
          check(part, random);
        }
}

TEST_CASE("whichever units are in the new form, the part is rebuilt byte by byte") {
  ForEveryPart([](Part& part, std::mt19937_64& random) {
    for (const unsigned of_eight : {0u, 1u, 4u, 7u, 8u}) {
      Buffer disk = part.other;
      for (size_t at = 0; at < kBytes; at += kUnitBytes)
        if (random() % 8 < of_eight) std::memcpy(disk.data() + at, part.marked.data() + at, kUnitBytes);
      CHECK(part.Rebuild(disk).ok());
      CHECK(disk == part.marked);
    }
  });
}

TEST_CASE("units that were written in part, or changed by others, are refused with their place") {
  ForEveryPart([](Part& part, std::mt19937_64& random) {
    // One unit that differs in its two forms.
    size_t at = 0;
    do at = random() % (kBytes / kUnitBytes) * kUnitBytes;
    while (std::memcmp(part.other.data() + at, part.marked.data() + at, kUnitBytes) == 0);
    const size_t written = 8 + random() % (kUnitBytes - 15);
    for (const int kind : {0, 1, 2}) {
      Buffer disk = part.other;
      uint8_t* const unit = disk.data() + at;
      if (kind == 0) std::memcpy(unit, part.marked.data() + at, written);  // its beginning
      if (kind == 1) std::memcpy(unit + written, part.marked.data() + at + written, kUnitBytes - written);  // its end
      if (kind == 2) std::generate(unit, unit + kUnitBytes, [&] { return static_cast<uint8_t>(random()); });
      const Status status = part.Rebuild(disk);
      CHECK(status.code == Code::kResume);
      CHECK(status.offset_bytes == kPosition + at);
    }
  });
}

TEST_CASE("a part that was transformed twice is refused") {
  std::mt19937_64 random(21);
  Part part(Job::kReencrypt, 4096, false, random);
  Buffer disk = part.marked;
  Encrypt(part.marked_key, kPosition, 4096, disk.data(), disk.size());
  CHECK(part.Rebuild(disk).code == Code::kResume);
}

TEST_CASE("for readers a part is rebuilt into a file of its own, with holes, by marks that have the digest") {
  std::mt19937_64 random(22);
  Part part(Job::kReencrypt, 512, true, random);
  const UniqueFd image = TemporaryFile(), journal = TemporaryFile();
  Buffer disk = part.other;
  // What becomes a hole has its blocks.
  constexpr size_t kHole = 16384;
  std::fill_n(disk.begin(), kHole, uint8_t{0});
  Encrypt(part.other_key, kPosition, 512, disk.data(), kHole);
  std::fill_n(part.marked.begin(), kHole, uint8_t{0});
  engine::TakeMarks(part.marked, part.marks);
  std::copy_n(part.marked.begin() + 2 * kHole, kHole, disk.begin() + 2 * kHole);
  const auto write = [](const UniqueFd& fd, const Buffer& bytes, uint64_t at) {
    REQUIRE(pwrite(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(at)) == static_cast<ssize_t>(bytes.size()));
  };
  write(image, disk, kPosition + 512);
  write(journal, part.marks, 4096);
  auto target = engine::OpenMemoryFile();
  REQUIRE(target.ok());
  auto digest = engine::DigestOf(std::vector{engine::DigestOf(Bytes(part.marks)).value()});
  const engine::PendingPartOptions options = {
      .image_fd = image.get(),
      .journal_fd = journal.get(),
      .target_fd = target.value().get(),
      .offset_bytes = 512,
      .part = {
          .start = kPosition, .length = kBytes, .slot_offset = 4096, .digest = digest.value(), .forms = part.forms}};
  REQUIRE(engine::RebuildPendingPart(options).ok());
  Buffer rebuilt(kBytes + 1);
  CHECK(pread(target.value().get(), rebuilt.data(), rebuilt.size(), 0) == kBytes);
  rebuilt.pop_back();
  CHECK(rebuilt == part.marked);
  CHECK(lseek(target.value().get(), 0, SEEK_DATA) >= static_cast<off_t>(kHole));

  part.marks[5] ^= 1;
  write(journal, part.marks, 4096);
  const Status changed = engine::RebuildPendingPart(options);
  CHECK(changed.code == Code::kResume);
  CHECK(changed.message.find("taken last") != std::string::npos);
  auto odd = options;
  odd.part.length = 100;
  CHECK(engine::RebuildPendingPart(odd).code == Code::kArgument);
}

}  // namespace
}  // namespace volseal::engine_test
