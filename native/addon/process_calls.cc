// The part of binding.d.ts that is about the process itself.
#include <string>

#include "addon/args.h"
#include "addon/calls.h"
#include "base/process.h"

namespace volseal::addon {
namespace {

constexpr uint64_t kPidMax = uint64_t{1} << 22;  // PID_MAX_LIMIT of the kernel

Napi::Value CloseOthersOnExec(const Arguments& info) {
  ThrowUnlessOk(info.Env(), volseal::CloseOthersOnExec());
  return info.Env().Undefined();
}

Napi::Value EndWithParent(const Arguments& info) {
  const uint64_t parent = WholeNumber(info[0], "parentPid", 0, kPidMax);
  ThrowUnlessOk(info.Env(), volseal::EndWithParent(static_cast<pid_t>(parent)));
  return info.Env().Undefined();
}

Napi::Value NotifyServiceManager(const Arguments& info) {
  const std::string address = TextOf(info[0], "address");
  const std::string text = TextOf(info[1], "text");
  ThrowUnlessOk(info.Env(), volseal::NotifyServiceManager(address, text));
  return info.Env().Undefined();
}

Napi::Value OpenPipe(const Arguments& info) {
  volseal::Pipe pipe{};
  ThrowUnlessOk(info.Env(), volseal::OpenPipe(pipe));
  Napi::Object ends = Napi::Object::New(info.Env());
  ends["readFd"] = Napi::Number::New(info.Env(), pipe.read_end);
  ends["writeFd"] = Napi::Number::New(info.Env(), pipe.write_end);
  return ends;
}

Napi::Value ReopenPipe(const Arguments& info) {
  const int fd = FileDescriptor(info[0], "fd");
  const bool for_writing = BooleanOf(info[1], "writable");
  int reopened = -1;
  ThrowUnlessOk(info.Env(), volseal::ReopenPipe(fd, for_writing, reopened));
  return Napi::Number::New(info.Env(), reopened);
}

Napi::Value ClosePipeEnd(const Arguments& info) {
  ThrowUnlessOk(info.Env(), volseal::ClosePipeEnd(FileDescriptor(info[0], "fd")));
  return info.Env().Undefined();
}

}  // namespace

void RegisterProcessCalls(Napi::Env env, Napi::Object exports) {
  Export<CloseOthersOnExec>(env, exports, "closeOthersOnExec");
  Export<EndWithParent>(env, exports, "endWithParent");
  Export<OpenPipe>(env, exports, "openPipe");
  Export<ReopenPipe>(env, exports, "reopenPipe");
  Export<ClosePipeEnd>(env, exports, "closePipeEnd");
  Export<NotifyServiceManager>(env, exports, "notifyServiceManager");
}

}  // namespace volseal::addon
