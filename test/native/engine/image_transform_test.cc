#include "engine/image_transform.h"

#include <doctest/doctest.h>

#include <latch>
#include <optional>
#include <thread>
#include <vector>

#include "test_device.h"

namespace volseal::engine_test {
namespace {

using engine::ImageTransform;
using Digest = ImageTransform::Digest;

struct Image {
  Image() : source(TemporaryFile()), target(TemporaryFile()), bytes(kDeviceBytes) {
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 31 + (i >> 12));
    if (pwrite(source.get(), bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) std::abort();
    engine::Sha256 sha256;
    sha256.Update(bytes);
    if (!sha256.Finish(digest)) std::abort();
  }
  std::shared_ptr<ImageTransform> Encrypt(const TestKey& key) {
    auto transform = ImageTransform::Open({
        .key = key.handle(),
        .mode = engine::TransformMode::kEncrypt,
        .sector_bytes = 512,
        .source = engine::FileSide{.fd = source.get(), .offset_bytes = 0, .sparse = false},
        .source_bytes = kDeviceBytes,
        .target = engine::FileSide{.fd = target.get(), .offset_bytes = 0, .sparse = false},
        .target_bytes = kDeviceBytes,
        .start_byte = 0,
        .digest = true,
    });
    if (!transform.ok()) std::abort();
    return transform.value();
  }

  UniqueFd source, target;
  std::vector<uint8_t> bytes;
  Digest digest;
};

TEST_CASE("threads that ask for the digest at once all get it") {
  Image image;
  const TestKey key;
  for (int round = 0; round < 20; ++round) {
    const auto transform = image.Encrypt(key);
    auto more = transform->Run(2, std::chrono::minutes(10));
    REQUIRE(more.ok());
    REQUIRE(!more.value());
    constexpr int kThreads = 4;
    std::latch start(kThreads);
    std::vector<std::optional<Digest>> taken(kThreads);
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        start.arrive_and_wait();
        auto digest = transform->TakeDigest();
        if (digest.ok()) taken[i] = digest.value();
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const auto& digest : taken) {
      REQUIRE(digest.has_value());
      CHECK(*digest == image.digest);
    }
  }
}

TEST_CASE("while the image is being read there is no digest, and then there is") {
  Image image;
  const TestKey key;
  const auto transform = image.Encrypt(key);
  CHECK(transform->TakeDigest().status().code == Code::kArgument);
  std::vector<std::optional<Digest>> taken(2);
  std::vector<std::thread> threads;
  for (auto& mine : taken) {
    threads.emplace_back([&] {
      while (!mine) {
        auto digest = transform->TakeDigest();
        if (digest.ok()) mine = digest.value();
      }
    });
  }
  CHECK(transform->Run(2, std::chrono::minutes(10)).ok());
  for (std::thread& thread : threads) thread.join();
  for (const auto& digest : taken) CHECK(*digest == image.digest);
}

}  // namespace
}  // namespace volseal::engine_test
