// Keeps an LMDB store usable while processes open and close it at the same time.
//
// The process that closes a store last takes an exclusive record lock on the first byte of the lock file and destroys
// the mutexes in it (mdb.c, mdb_env_close_active). A process that opens the store at that moment waits for the lock,
// takes the mutexes for good ones, and each of its transactions fails with EINVAL, until no process has the store open.
// So a process holds a shared lock of its own on that byte from after it has opened the store until after it has closed
// it: the exclusive lock is never granted while anybody closes. The next process that opens the store alone makes the
// mutexes anew.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/status.h"

namespace volseal {

// Calls `open`, which opens the store with the lock file `lock_path`, unless it throws, and holds the lock from then
// on; no other thread opens or closes a store meanwhile. Several threads may have the same store open.
// Returns an id for StoreClosed, one for each opening; kIo where the lock file cannot be opened: the store is open all
// the same.
Result<uint64_t> OpenStore(const std::string& lock_path, const std::function<void()>& open);

// The caller has closed what OpenStore returned `id` for. kArgument where that is no open one: a wrong number, or the
// same one twice, must not take the lock from somebody else who has the store open.
Status StoreClosed(uint64_t id);

}  // namespace volseal
