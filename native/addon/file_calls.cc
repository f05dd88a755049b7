// Files beside their contents: the part of binding.d.ts about attributes of files, and about stores.
#include "addon/args.h"
#include "addon/calls.h"
#include "base/store_guard.h"
#include "engine/file_attributes.h"

namespace volseal::addon {
namespace {

Napi::Value FileCopyAttributes(const Arguments& info) {
  const auto lost =
      ValueOrThrow(info.Env(), engine::CopyAttributes(FileDescriptor(info[0], "from"), FileDescriptor(info[1], "to")));
  Napi::Array names = Napi::Array::New(info.Env(), lost.size());
  for (uint32_t i = 0; i < lost.size(); i++) names[i] = Napi::String::New(info.Env(), lost[i]);
  return names;
}

Napi::Value FileIsReadOnlyDevice(const Arguments& info) {
  return Napi::Boolean::New(info.Env(),
                            ValueOrThrow(info.Env(), engine::IsReadOnlyDevice(FileDescriptor(info[0], "fd"))));
}

Napi::Value OpenStore(const Arguments& info) {
  const std::string lock_path = TextOf(info[0], "lockPath");
  if (!info[1].IsFunction()) ThrowArgument(info.Env(), "open: is not a function");
  const Napi::Function open = info[1].As<Napi::Function>();
  return FromHandle(info.Env(), ValueOrThrow(info.Env(), volseal::OpenStore(lock_path, [&open] { open.Call({}); })));
}

Napi::Value StoreClosed(const Arguments& info) {
  ThrowUnlessOk(info.Env(), volseal::StoreClosed(HandleOf(info[0], "id")));
  return info.Env().Undefined();
}

}  // namespace

void RegisterFileCalls(Napi::Env env, Napi::Object exports) {
  Export<FileCopyAttributes>(env, exports, "fileCopyAttributes");
  Export<FileIsReadOnlyDevice>(env, exports, "fileIsReadOnlyDevice");
  Export<OpenStore>(env, exports, "openStore");
  Export<StoreClosed>(env, exports, "storeClosed");
}

}  // namespace volseal::addon
