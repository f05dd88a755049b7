// Files beside their contents: the part of binding.d.ts about attributes of files.
#include "addon/args.h"
#include "addon/calls.h"
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

}  // namespace

void RegisterFileCalls(Napi::Env env, Napi::Object exports) {
  Export<FileCopyAttributes>(env, exports, "fileCopyAttributes");
  Export<FileIsReadOnlyDevice>(env, exports, "fileIsReadOnlyDevice");
}

}  // namespace volseal::addon
