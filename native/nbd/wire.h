// The numbers of the NBD protocol (NetworkBlockDevice/nbd, doc/proto.md), by its own names. All are big-endian on the
// wire.
#pragma once

#include <cstddef>
#include <cstdint>

namespace volseal::nbd {

// ---- handshake ----

constexpr uint64_t kInitMagic = 0x4e42444d41474943;    // "NBDMAGIC"
constexpr uint64_t kOptionMagic = 0x49484156454f5054;  // "IHAVEOPT"
constexpr uint64_t kOptionReplyMagic = 0x0003e889045565a9;

constexpr uint16_t kFlagFixedNewstyle = 1;  // of the server and, as a 32-bit number, of the client
constexpr uint16_t kFlagNoZeroes = 2;

enum Option : uint32_t {
  kOptExportName = 1,
  kOptAbort = 2,
  kOptList = 3,
  kOptStartTls = 5,
  kOptInfo = 6,
  kOptGo = 7,
  kOptStructuredReply = 8,
  kOptListMetaContext = 9,
  kOptSetMetaContext = 10,
};

enum OptionReply : uint32_t {
  kRepAck = 1,
  kRepServer = 2,
  kRepInfo = 3,
  kRepMetaContext = 4,
  kRepErrUnsupported = 0x80000001,
  kRepErrPolicy = 0x80000002,
  kRepErrInvalid = 0x80000003,
  kRepErrTlsRequired = 0x80000005,
  kRepErrUnknown = 0x80000006,
  kRepErrTooBig = 0x80000009,
};

enum InfoType : uint16_t { kInfoExport = 0, kInfoName = 1, kInfoDescription = 2, kInfoBlockSize = 3 };

constexpr size_t kGreetingBytes = 18;
constexpr size_t kClientFlagsBytes = 4;
constexpr size_t kOptionHeaderBytes = 16;
constexpr size_t kNameBytesMax = 4096;  // of any string

// An option with more data than this is not kept in memory: its data is dropped and it is refused.
constexpr uint32_t kOptionBytesKept = 32 << 10;
// With more than this the client is dropped.
constexpr uint32_t kOptionBytesDropped = 1 << 20;
constexpr unsigned kOptionsMax = 512;  // of one handshake

// ---- transmission ----

enum TransmissionFlag : uint16_t {
  kHasFlags = 1 << 0,
  kReadOnly = 1 << 1,
  kSendFlush = 1 << 2,
  kSendFua = 1 << 3,
  kSendTrim = 1 << 5,
  kSendWriteZeroes = 1 << 6,
  kSendDf = 1 << 7,
  kCanMultiConn = 1 << 8,
  kSendCache = 1 << 10,
  kSendFastZero = 1 << 11,
};

constexpr uint32_t kRequestMagic = 0x25609513;
constexpr uint32_t kSimpleReplyMagic = 0x67446698;
constexpr uint32_t kChunkMagic = 0x668e33ef;

enum Command : uint16_t {
  kRead = 0,
  kWrite = 1,
  kDisconnect = 2,
  kFlush = 3,
  kTrim = 4,
  kCache = 5,
  kWriteZeroes = 6,
  kBlockStatus = 7,
};
constexpr size_t kCommandCount = 8;

enum CommandFlag : uint16_t {
  kFua = 1 << 0,
  kNoHole = 1 << 1,
  kDontFragment = 1 << 2,
  kReqOne = 1 << 3,
  kFastZero = 1 << 4,
};

enum ChunkType : uint16_t {
  kChunkNone = 0,
  kChunkOffsetData = 1,
  kChunkBlockStatus = 5,
  kChunkError = 0x8001,
  kChunkErrorOffset = 0x8002,
};
constexpr uint16_t kChunkDone = 1;

enum Error : uint32_t {
  kNoError = 0,
  kErrPermission = 1,
  kErrIo = 5,
  kErrNoMemory = 12,
  kErrInvalid = 22,
  kErrNoSpace = 28,
  kErrOverflow = 75,
  kErrNotSupported = 95,
  kErrShutdown = 108,
};

constexpr size_t kRequestBytes = 28;
constexpr size_t kSimpleReplyBytes = 16;
constexpr size_t kChunkHeaderBytes = 20;
constexpr size_t kDataChunkHeaderBytes = kChunkHeaderBytes + 8;  // with the offset

constexpr uint32_t kPayloadBytesMax = 32 << 20;  // of one read or write

// base:allocation, the one meta context.
constexpr char kAllocationContext[] = "base:allocation";
constexpr uint32_t kAllocationContextId = 1;
constexpr uint32_t kStateHole = 1;
constexpr uint32_t kStateZero = 2;

}  // namespace volseal::nbd
