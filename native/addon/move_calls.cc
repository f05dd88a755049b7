// The part of binding.d.ts about images that are encrypted, decrypted or re-encrypted in place.
#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>

#include "addon/args.h"
#include "addon/calls.h"
#include "addon/owners.h"
#include "base/handle_table.h"
#include "engine/in_place.h"
#include "engine/pending_part.h"

namespace volseal::addon {
namespace {

using engine::ImageMove;

constexpr uint64_t kMoveThreadsMax = 16;

using MoveTable = HandleTable<ImageMove, HandleKind::kMove>;

// The process's, as the vault is: a handle opened in one thread is good in every other.
MoveTable& Moves() {
  static auto* const moves = new MoveTable;
  return *moves;
}

std::shared_ptr<ImageMove> MoveOf(const Napi::Value& handle) {
  auto move = Moves().Find(HandleOf(handle, "the handle"));
  if (!move) ThrowArgument(handle.Env(), "the handle names no open move: it was closed, or never opened");
  return move;
}

engine::ImageForm FormOf(const Napi::Value& value, const char* what) {
  const Napi::Object from = ObjectOf(value, what);
  engine::ImageForm form = {.offset_bytes = WholeNumber(from.Get("offsetBytes"), "offsetBytes", 0, kExactIntegerMax),
                            .key = std::nullopt};
  if (const Napi::Value key = from.Get("key"); !key.IsUndefined()) form.key = HandleOf(key, "key");
  return form;
}

engine::MoveDirection DirectionOf(const Napi::Value& value) {
  const std::string direction = TextOf(value, "direction");
  if (direction == "toHigh") return engine::MoveDirection::kToHigh;
  if (direction != "toLow") ThrowArgument(value.Env(), "direction is not toHigh or toLow");
  return engine::MoveDirection::kToLow;
}

engine::MovePart PartOf(const Napi::Value& value, const char* what) {
  const Napi::Object from = ObjectOf(value, what);
  return {.start = WholeNumber(from.Get("startByte"), "startByte", 0, kExactIntegerMax),
          .length = WholeNumber(from.Get("lengthBytes"), "lengthBytes", 0, kExactIntegerMax),
          .slot = static_cast<size_t>(WholeNumber(from.Get("slot"), "slot", 0, engine::kMoveSlots - 1))};
}

std::optional<engine::MovePart> OptionalPartOf(const Napi::Value& value, const char* what) {
  if (value.IsUndefined()) return std::nullopt;
  return PartOf(value, what);
}

Napi::Value ToBuffer(Napi::Env env, const engine::PartDigest& digest) {
  return Napi::Buffer<uint8_t>::Copy(env, digest.data(), digest.size());
}

engine::PartDigest DigestOf(const Napi::Value& value) {
  const MutableBytes bytes = BytesOf(value, "sha256");
  engine::PartDigest digest;
  if (bytes.size() != digest.size()) ThrowArgument(value.Env(), "sha256 has not 32 bytes");
  std::copy(bytes.begin(), bytes.end(), digest.begin());
  return digest;
}

Napi::Value MoveOpen(const Arguments& info) {
  const Napi::Env env = info.Env();
  const Napi::Object from = ObjectOf(info[0], "options");
  const Napi::Object slots = ObjectOf(from.Get("slotOffsets"), "slotOffsets");
  const auto slot = [&](uint32_t index) { return WholeNumber(slots.Get(index), "slotOffsets", 0, kExactIntegerMax); };
  const engine::MoveOptions options = {
      .image_fd = FileDescriptor(from.Get("imageFd"), "imageFd"),
      .journal_fd = FileDescriptor(from.Get("journalFd"), "journalFd"),
      .slot_offsets = {slot(0), slot(1)},
      .part_bytes = WholeNumber(from.Get("partBytes"), "partBytes", 0, kExactIntegerMax),
      .image_bytes = WholeNumber(from.Get("imageBytes"), "imageBytes", 0, kExactIntegerMax),
      .sector_bytes = static_cast<uint32_t>(WholeNumber(from.Get("sectorBytes"), "sectorBytes", 512, 4096)),
      .sparse = BooleanOf(from.Get("sparse"), "sparse"),
      .marks = BooleanOf(from.Get("marks"), "marks"),
      .low = FormOf(from.Get("low"), "low"),
      .high = FormOf(from.Get("high"), "high"),
  };
  return OwnedHandle(env, HandleIn(env, Moves(), ValueOrThrow(env, ImageMove::Open(options)), "moves"));
}

Napi::Value MoveRun(const Arguments& info) {
  const Napi::Env env = info.Env();
  const auto move = MoveOf(info[0]);
  const engine::MoveDirection direction = DirectionOf(info[1]);
  const auto take = OptionalPartOf(info[2], "take"), put = OptionalPartOf(info[3], "put");
  const size_t threads = WholeNumber(info[4], "threadCount", 1, kMoveThreadsMax);
  const auto digest = ValueOrThrow(env, move->Run(direction, take, put, threads));
  return digest ? ToBuffer(env, *digest) : env.Undefined();
}

Napi::Value MoveReadBack(const Arguments& info) {
  const auto move = MoveOf(info[0]);
  const engine::MoveDirection direction = DirectionOf(info[1]);
  ThrowUnlessOk(info.Env(), move->ReadBack(direction, PartOf(info[2], "part"), DigestOf(info[3])));
  return info.Env().Undefined();
}

Napi::Value PendingPartRebuild(const Arguments& info) {
  const Napi::Object from = ObjectOf(info[0], "options");
  const auto number = [&](const char* name) { return WholeNumber(from.Get(name), name, 0, kExactIntegerMax); };
  engine::PendingPartOptions options = {
      .image_fd = FileDescriptor(from.Get("imageFd"), "imageFd"),
      .journal_fd = FileDescriptor(from.Get("journalFd"), "journalFd"),
      .target_fd = FileDescriptor(from.Get("targetFd"), "targetFd"),
      .offset_bytes = number("offsetBytes"),
      .part = {.start = number("startByte"),
               .length = number("lengthBytes"),
               .slot_offset = number("slotOffset"),
               .digest = DigestOf(from.Get("sha256")),
               .forms = {.marked = HandleOf(from.Get("marked"), "marked"),
                         .other = std::nullopt,
                         .sector_bytes =
                             static_cast<uint32_t>(WholeNumber(from.Get("sectorBytes"), "sectorBytes", 512, 4096)),
                         .sparse = BooleanOf(from.Get("sparse"), "sparse")}},
  };
  if (const Napi::Value other = from.Get("other"); !other.IsUndefined())
    options.part.forms.other = HandleOf(other, "other");
  ThrowUnlessOk(info.Env(), engine::RebuildPendingPart(options));
  return info.Env().Undefined();
}

Napi::Value MemoryFileOpen(const Arguments& info) {
  return Napi::Number::New(info.Env(), ValueOrThrow(info.Env(), engine::OpenMemoryFile()).Release());
}

Napi::Value MoveIsHole(const Arguments& info) {
  const auto move = MoveOf(info[0]);
  const engine::MoveDirection direction = DirectionOf(info[1]);
  return Napi::Boolean::New(info.Env(), ValueOrThrow(info.Env(), move->IsHole(direction, PartOf(info[2], "part"))));
}

bool CloseMove(uint64_t handle) {
  const auto move = Moves().Remove(handle);
  if (move) move->Close();
  return move != nullptr;
}

Napi::Value MoveClose(const Arguments& info) {
  const uint64_t handle = HandleOf(info[0], "the handle");
  ForgetHandle(handle);
  return Napi::Boolean::New(info.Env(), CloseMove(handle));
}

}  // namespace

void CloseMoveHandle(uint64_t handle) { CloseMove(handle); }

void RegisterMoveCalls(Napi::Env env, Napi::Object exports) {
  Export<MoveOpen>(env, exports, "moveOpen");
  Export<MoveRun>(env, exports, "moveRun");
  Export<MoveReadBack>(env, exports, "moveReadBack");
  Export<PendingPartRebuild>(env, exports, "pendingPartRebuild");
  Export<MemoryFileOpen>(env, exports, "memoryFileOpen");
  Export<MoveIsHole>(env, exports, "moveIsHole");
  Export<MoveClose>(env, exports, "moveClose");
}

}  // namespace volseal::addon
