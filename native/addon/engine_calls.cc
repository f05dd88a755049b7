// The engine's part of binding.d.ts.
#include <cerrno>
#include <chrono>
#include <optional>
#include <string>
#include <variant>

#include "addon/args.h"
#include "addon/calls.h"
#include "addon/owners.h"
#include "addon/regions.h"
#include "base/handle_table.h"
#include "engine/file.h"
#include "engine/holes.h"
#include "engine/image_transform.h"

namespace volseal::addon {
namespace {

using engine::ImageTransform;

constexpr uint64_t kRunThreadsMax = 16;
constexpr uint64_t kRunMillisecondsMax = 60'000;
constexpr size_t kPreambleBytesMax = 16 << 20;

// The process's, as the vault is: a handle opened in one thread is good in every other.
using TransformTable = HandleTable<ImageTransform, HandleKind::kTransform>;

TransformTable& Transforms() {
  static auto* const transforms = new TransformTable;
  return *transforms;
}

std::shared_ptr<ImageTransform> TransformOf(const Napi::Value& handle) {
  auto transform = Transforms().Find(HandleOf(handle, "the handle"));
  if (!transform) ThrowArgument(handle.Env(), "the handle names no open transform: it was closed, or never opened");
  return transform;
}

template <typename Table>
bool CloseIn(Table& table, uint64_t handle) {
  const auto object = table.Remove(handle);
  if (object) object->Close();
  return object != nullptr;
}

template <typename Table>
Napi::Value Close(Table& table, const Arguments& info) {
  const uint64_t handle = HandleOf(info[0], "the handle");
  ForgetHandle(handle);
  return Napi::Boolean::New(info.Env(), CloseIn(table, handle));
}

Napi::Value FileLock(const Arguments& info) {
  ThrowUnlessOk(info.Env(), engine::Lock(FileDescriptor(info[0], "fd"), BooleanOf(info[1], "exclusive")));
  return info.Env().Undefined();
}

Napi::Value FileHasRecordLock(const Arguments& info) {
  return Napi::Boolean::New(info.Env(), engine::HasRecordLock(FileDescriptor(info[0], "fd")));
}

Napi::Value FileHasHole(const Arguments& info) {
  const uint64_t begin = WholeNumber(info[1], "offsetBytes", 0, kExactIntegerMax);
  const uint64_t length = WholeNumber(info[2], "lengthBytes", 0, kExactIntegerMax - begin);
  const bool found = ValueOrThrow(info.Env(), engine::HasHole(FileDescriptor(info[0], "fd"), begin, begin + length));
  return Napi::Boolean::New(info.Env(), found);
}

Napi::Value FileHasRoom(const Arguments& info) {
  const uint64_t length = WholeNumber(info[1], "lengthBytes", 0, kExactIntegerMax);
  return Napi::Boolean::New(info.Env(), engine::HasRoom(FileDescriptor(info[0], "fd"), length));
}

Napi::Value FileLinkTarget(const Arguments& info) {
  return Napi::String::New(info.Env(), ValueOrThrow(info.Env(), engine::LinkTarget(FileDescriptor(info[0], "fd"))));
}

Napi::Value FileSize(const Arguments& info) {
  const uint64_t size =
      ValueOrThrow(info.Env(), engine::CheckFile(FileDescriptor(info[0], "fd"), engine::Access::kRead));
  return Napi::Number::New(info.Env(), static_cast<double>(size));
}

engine::TransformMode ModeOf(const Napi::Value& value) {
  const std::string mode = TextOf(value, "mode");
  if (mode == "encrypt") return engine::TransformMode::kEncrypt;
  if (mode == "decrypt") return engine::TransformMode::kDecrypt;
  if (mode != "compare") ThrowArgument(value.Env(), "mode is not encrypt, decrypt or compare");
  return engine::TransformMode::kCompare;
}

engine::FileSide FileSideOf(const Napi::Object& from) {
  const Napi::Value discard = from.Get("discard");
  return {.fd = FileDescriptor(from.Get("fd"), "fd"),
          .offset_bytes = WholeNumber(from.Get("offsetBytes"), "offsetBytes", 0, kExactIntegerMax),
          .sparse = BooleanOf(from.Get("sparse"), "sparse"),
          .discard = !discard.IsUndefined() && BooleanOf(discard, "discard")};
}

engine::VolumeSide VolumeSideOf(const Napi::Object& from) {
  return {.regions = RegionsOf(from.Get("regions")),
          .sector_bytes =
              static_cast<uint32_t>(WholeNumber(from.Get("sectorBytes"), "the source's sectorBytes", 512, 4096)),
          .sparse = BooleanOf(from.Get("sparse"), "sparse")};
}

engine::StreamSide StreamSideOf(const Napi::Object& from) { return {.fd = FileDescriptor(from.Get("fd"), "fd")}; }

std::variant<engine::FileSide, engine::VolumeSide, engine::StreamSide, engine::ZerosSide> SourceOf(
    const Napi::Object& from) {
  const std::string kind = TextOf(from.Get("kind"), "the source's kind");
  if (kind == "file") return FileSideOf(from);
  if (kind == "volume") return VolumeSideOf(from);
  if (kind == "stream") return StreamSideOf(from);
  if (kind != "zeros") ThrowArgument(from.Env(), "the source's kind is not file, volume, stream or zeros");
  return engine::ZerosSide{};
}

engine::StreamSide TargetStreamOf(const Napi::Object& from) {
  engine::StreamSide side = StreamSideOf(from);
  const Napi::Value preamble = from.Get("preamble");
  if (preamble.IsUndefined()) return side;
  const Bytes bytes = BytesOf(preamble, "preamble");
  if (bytes.size() > kPreambleBytesMax) ThrowArgument(from.Env(), "preamble is longer than 16 MiB");
  side.preamble.assign(bytes.begin(), bytes.end());
  return side;
}

std::variant<engine::FileSide, engine::StreamSide> TargetOf(const Napi::Object& from) {
  const std::string kind = TextOf(from.Get("kind"), "the target's kind");
  if (kind == "file") return FileSideOf(from);
  if (kind != "stream") ThrowArgument(from.Env(), "the target's kind is not file or stream");
  return TargetStreamOf(from);
}

uint64_t SizeOf(const Napi::Object& side) {
  return WholeNumber(side.Get("sizeBytes"), "sizeBytes", 0, kExactIntegerMax);
}

Napi::Value TransformOpen(const Arguments& info) {
  const Napi::Object from = ObjectOf(info[0], "options");
  const Napi::Object source = ObjectOf(from.Get("source"), "source"), target = ObjectOf(from.Get("target"), "target");
  const engine::ImageTransformOptions options = {
      .key = HandleOf(from.Get("key"), "key"),
      .mode = ModeOf(from.Get("mode")),
      .sector_bytes = static_cast<uint32_t>(WholeNumber(from.Get("sectorBytes"), "sectorBytes", 512, 4096)),
      .source = SourceOf(source),
      .source_bytes = SizeOf(source),
      .target = TargetOf(target),
      .target_bytes = SizeOf(target),
      .start_byte = WholeNumber(from.Get("startByte"), "startByte", 0, kExactIntegerMax),
      .digest = BooleanOf(from.Get("digest"), "digest"),
  };
  const Napi::Env env = info.Env();
  return OwnedHandle(env, HandleIn(env, Transforms(), ValueOrThrow(env, ImageTransform::Open(options)), "transforms"));
}

Napi::Value TransformRun(const Arguments& info) {
  const auto transform = TransformOf(info[0]);
  const size_t thread_count = WholeNumber(info[1], "threadCount", 1, kRunThreadsMax);
  const std::chrono::milliseconds time(WholeNumber(info[2], "milliseconds", 1, kRunMillisecondsMax));
  return Napi::Boolean::New(info.Env(), ValueOrThrow(info.Env(), transform->Run(thread_count, time)));
}

Napi::Value TransformProgress(const Arguments& info) {
  const auto transform = TransformOf(info[0]);
  Napi::Object progress = Napi::Object::New(info.Env());
  progress.Set("doneBytes", static_cast<double>(transform->done_bytes()));
  progress.Set("safeBytes", static_cast<double>(transform->safe_bytes()));
  return progress;
}

Napi::Value TransformStop(const Arguments& info) {
  TransformOf(info[0])->Stop();
  return info.Env().Undefined();
}

Napi::Value TransformDigest(const Arguments& info) {
  const auto digest = ValueOrThrow(info.Env(), TransformOf(info[0])->TakeDigest());
  return Napi::Buffer<uint8_t>::Copy(info.Env(), digest.data(), digest.size());
}

Napi::Value TransformDifference(const Arguments& info) {
  const std::optional<uint64_t> at = TransformOf(info[0])->difference();
  return at ? Napi::Value(Napi::Number::New(info.Env(), static_cast<double>(*at))) : info.Env().Undefined();
}

Napi::Value TransformClose(const Arguments& info) { return Close(Transforms(), info); }

}  // namespace

void CloseEngineHandle(uint64_t handle) { CloseIn(Transforms(), handle); }

void RegisterEngineCalls(Napi::Env env, Napi::Object exports) {
  Export<FileLock>(env, exports, "fileLock");
  Export<FileHasRecordLock>(env, exports, "fileHasRecordLock");
  Export<FileHasHole>(env, exports, "fileHasHole");
  Export<FileHasRoom>(env, exports, "fileHasRoom");
  Export<FileLinkTarget>(env, exports, "fileLinkTarget");
  Export<FileSize>(env, exports, "fileSize");
  Export<TransformOpen>(env, exports, "transformOpen");
  Export<TransformRun>(env, exports, "transformRun");
  Export<TransformProgress>(env, exports, "transformProgress");
  Export<TransformStop>(env, exports, "transformStop");
  Export<TransformDigest>(env, exports, "transformDigest");
  Export<TransformDifference>(env, exports, "transformDifference");
  Export<TransformClose>(env, exports, "transformClose");
}

}  // namespace volseal::addon
