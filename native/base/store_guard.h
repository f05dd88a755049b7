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
// Returns an id for StoreClosed; kIo where the lock file cannot be opened: the store is open all the same.
Result<uint32_t> OpenStore(const std::string& lock_path, const std::function<void()>& open);

// The store that OpenStore returned `id` for is closed, in the calling thread; nothing where there is none of that id.
void StoreClosed(uint32_t id);

}  // namespace volseal
