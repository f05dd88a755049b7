// What a service does to its own process, and Node offers no call for.
#pragma once

#include <sys/types.h>

#include <string_view>

#include "base/status.h"

namespace volseal {

// No program that this process starts from now on gets a descriptor beyond standard error, unless it is given one:
// whoever started this process may have left it a lock or a pipe that must not live on in a service.
Status CloseOthersOnExec();

// Sends this process SIGTERM when the process `parent`, which started it, ends; at once if it has ended already.
Status EndWithParent(pid_t parent);

// One datagram to the service manager's socket (sd_notify(3)): `address` is a path, or an abstract name behind an '@'.
Status NotifyServiceManager(std::string_view address, std::string_view text);

// A pipe that programs started from here do not inherit, with room for 1 MiB where the system allows that.
// Both ends are the caller's to close.
struct Pipe {
  int read_end;
  int write_end;
};
Status OpenPipe(Pipe& pipe);

// Opens the pipe behind `fd` once more, for reading or writing, in a way that does not block: whoever shares `fd` does
// not notice. The caller's to close. kIo with ENXIO: nobody reads it.
Status ReopenPipe(int fd, bool for_writing, int& reopened);

// Closes an end that one of these two has opened. kArgument for every other descriptor: closing one of the caller's
// event loop would stop that.
Status ClosePipeEnd(int fd);

}  // namespace volseal
