// The engine's part of binding.d.ts.
#include "addon/args.h"
#include "addon/calls.h"
#include "base/handle_table.h"
#include "engine/device.h"
#include "engine/file.h"
#include "engine/image_transform.h"

namespace volseal::addon {
namespace {

using engine::Device;
using engine::ImageTransform;

// The process's, as the vault is: a handle opened in one thread is good in every other.
using DeviceTable = HandleTable<Device, HandleKind::kDevice>;
using TransformTable = HandleTable<ImageTransform, HandleKind::kTransform>;

DeviceTable& Devices() {
  static auto* const devices = new DeviceTable;
  return *devices;
}

TransformTable& Transforms() {
  static auto* const transforms = new TransformTable;
  return *transforms;
}

template <typename Table>
auto Find(Table& table, const Napi::Value& handle) {
  auto object = table.Find(HandleOf(handle, "the handle"));
  if (!object) ThrowUnlessOk(handle.Env(), Failure(Code::kDetached, "the volume is detached"));
  return object;
}

template <typename Table>
Napi::Value Close(Table& table, const Arguments& info) {
  const auto object = table.Remove(HandleOf(info[0], "the handle"));
  if (object) object->Close();
  return Napi::Boolean::New(info.Env(), object != nullptr);
}

template <typename T, typename Table>
Napi::Value Add(Napi::Env env, Table& table, Result<std::shared_ptr<T>> opened) {
  const uint64_t handle = table.Add(ValueOrThrow(env, std::move(opened)));
  if (handle == 0) ThrowArgument(env, "there are too many open devices");
  return FromHandle(env, handle);
}

Napi::Object OptionsOf(const Napi::Value& value) {
  if (!value.IsObject()) ThrowArgument(value.Env(), "options is not an object");
  return value.As<Napi::Object>();
}

Napi::Value FileLock(const Arguments& info) {
  ThrowUnlessOk(info.Env(), engine::Lock(FileDescriptor(info[0], "fd"), BooleanOf(info[1], "exclusive")));
  return info.Env().Undefined();
}

Napi::Value FileSize(const Arguments& info) {
  const uint64_t size =
      ValueOrThrow(info.Env(), engine::CheckFile(FileDescriptor(info[0], "fd"), engine::Access::kRead));
  return Napi::Number::New(info.Env(), static_cast<double>(size));
}

Napi::Value DeviceOpen(const Arguments& info) {
  const Napi::Object from = OptionsOf(info[0]);
  const engine::DeviceOptions options = {
      .fd = FileDescriptor(from.Get("fd"), "fd"),
      .key = HandleOf(from.Get("key"), "key"),
      .data_offset_bytes = WholeNumber(from.Get("dataOffsetBytes"), "dataOffsetBytes", 0, kExactIntegerMax),
      .size_bytes = WholeNumber(from.Get("sizeBytes"), "sizeBytes", 0, kExactIntegerMax),
      .sector_bytes = static_cast<uint32_t>(WholeNumber(from.Get("sectorBytes"), "sectorBytes", 512, 4096)),
      .writable = BooleanOf(from.Get("writable"), "writable"),
  };
  return Add(info.Env(), Devices(), Device::Open(options));
}

Napi::Value DeviceRead(const Arguments& info) {
  const auto device = Find(Devices(), info[0]);
  const uint64_t offset = WholeNumber(info[1], "offsetBytes", 0, kExactIntegerMax);
  ThrowUnlessOk(info.Env(), device->Read(offset, BytesOf(info[2], "target")));
  return info.Env().Undefined();
}

Napi::Value DeviceWrite(const Arguments& info) {
  const auto device = Find(Devices(), info[0]);
  const uint64_t offset = WholeNumber(info[1], "offsetBytes", 0, kExactIntegerMax);
  ThrowUnlessOk(info.Env(), device->Write(offset, BytesOf(info[2], "source")));
  return info.Env().Undefined();
}

Napi::Value DeviceFlush(const Arguments& info) {
  ThrowUnlessOk(info.Env(), Find(Devices(), info[0])->Flush());
  return info.Env().Undefined();
}

Napi::Value DeviceClose(const Arguments& info) { return Close(Devices(), info); }

Napi::Value TransformOpen(const Arguments& info) {
  const Napi::Object from = OptionsOf(info[0]);
  const Napi::Value source_fd = from.Get("sourceFd");
  const bool from_zeros = source_fd.IsNumber() && source_fd.As<Napi::Number>().DoubleValue() == -1;
  const engine::ImageTransformOptions options = {
      .key = HandleOf(from.Get("key"), "key"),
      .encrypt = BooleanOf(from.Get("encrypt"), "encrypt"),
      .source_fd = from_zeros ? -1 : FileDescriptor(source_fd, "sourceFd"),
      .source_offset_bytes = WholeNumber(from.Get("sourceOffsetBytes"), "sourceOffsetBytes", 0, kExactIntegerMax),
      .source_bytes = WholeNumber(from.Get("sourceBytes"), "sourceBytes", 0, kExactIntegerMax),
      .target_fd = FileDescriptor(from.Get("targetFd"), "targetFd"),
      .target_offset_bytes = WholeNumber(from.Get("targetOffsetBytes"), "targetOffsetBytes", 0, kExactIntegerMax),
      .target_bytes = WholeNumber(from.Get("targetBytes"), "targetBytes", 0, kExactIntegerMax),
      .sector_bytes = static_cast<uint32_t>(WholeNumber(from.Get("sectorBytes"), "sectorBytes", 512, 4096)),
  };
  return Add(info.Env(), Transforms(), ImageTransform::Open(options));
}

Napi::Value TransformRange(const Arguments& info) {
  const auto transform = Find(Transforms(), info[0]);
  const uint64_t start = WholeNumber(info[1], "startByte", 0, kExactIntegerMax);
  const uint64_t length = WholeNumber(info[2], "lengthBytes", 1, kExactIntegerMax);
  ThrowUnlessOk(info.Env(), transform->Run(start, length));
  return info.Env().Undefined();
}

Napi::Value TransformClose(const Arguments& info) { return Close(Transforms(), info); }

}  // namespace

void RegisterEngineCalls(Napi::Env env, Napi::Object exports) {
  Export<FileLock>(env, exports, "fileLock");
  Export<FileSize>(env, exports, "fileSize");
  Export<DeviceOpen>(env, exports, "deviceOpen");
  Export<DeviceRead>(env, exports, "deviceRead");
  Export<DeviceWrite>(env, exports, "deviceWrite");
  Export<DeviceFlush>(env, exports, "deviceFlush");
  Export<DeviceClose>(env, exports, "deviceClose");
  Export<TransformOpen>(env, exports, "transformOpen");
  Export<TransformRange>(env, exports, "transformRange");
  Export<TransformClose>(env, exports, "transformClose");
}

}  // namespace volseal::addon
