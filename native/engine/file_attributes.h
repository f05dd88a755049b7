// What a file has beside its contents: owner, group, mode, extended attributes.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace volseal::engine {

// Gives the file `to` the owner, group, mode, access control list and extended attributes of the file `from`, as far as
// this process may and the file system can. Rights that were given to the old group are not given to another one:
// without the group, its part of the mode and the list are left out.
// Returns what could not be kept, in words of stat(2) and xattr(7): "owner", "group", "security.selinux".
Result<std::vector<std::string>> CopyAttributes(int from, int to);

// Whether a block device takes no writes (BLKROGET); false for other files.
Result<bool> IsReadOnlyDevice(int fd);

}  // namespace volseal::engine
