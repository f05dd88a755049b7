#include "residue.h"

#include <ucontext.h>

#include <algorithm>
#include <cstring>

namespace volseal::xts_test {
namespace {

constexpr size_t kStackBytes = 256 * 1024;
constexpr size_t kGapBytes = 4096;
constexpr uint8_t kFill = 0xa5;

// Everything that the code around the call needs lies in static memory, so that it stands in no register.
struct {
  xts::Transform transform;
  const xts::KeySchedule* key;
  const uint8_t* source;
  uint8_t* target;
  xts::SectorRun run;
  ucontext_t before;
  ucontext_t own;
} probe;

alignas(64) uint8_t stack[kStackBytes];

// The assembler repeats `instruction` for each of `numbers`.
#define VOLSEAL_0_TO_15 "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15"
#define VOLSEAL_16_TO_31 "16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31"
#define VOLSEAL_EACH(numbers, instruction) ".irp n," numbers "\n" instruction "\n.endr\n"

#if defined(__x86_64__)

const bool has_zmm = __builtin_cpu_supports("avx512f");
const bool has_ymm = __builtin_cpu_supports("avx");

uint8_t vector_registers[32 * 64], general_registers[9 * 8];

// What copies of keys before the call have left is not the call's fault.
void ClearRegisters() {
  if (has_zmm) asm volatile(VOLSEAL_EACH(VOLSEAL_16_TO_31, "vpxord %%zmm\\n,%%zmm\\n,%%zmm\\n")::);
  if (has_ymm) asm volatile("vzeroupper" ::);
  asm volatile(VOLSEAL_EACH(VOLSEAL_0_TO_15, "pxor %%xmm\\n,%%xmm\\n")::
                   : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
                     "xmm12", "xmm13", "xmm14", "xmm15");
}

inline __attribute__((always_inline)) void SaveRegisters() {
  asm volatile(
      "movq %%rax,%0\nmovq %%rcx,8+%0\nmovq %%rdx,16+%0\nmovq %%rsi,24+%0\nmovq %%rdi,32+%0\n"
      "movq %%r8,40+%0\nmovq %%r9,48+%0\nmovq %%r10,56+%0\nmovq %%r11,64+%0\n"
      : "=m"(general_registers)::"memory");
  if (has_zmm) {
    asm volatile(VOLSEAL_EACH(VOLSEAL_0_TO_15 "," VOLSEAL_16_TO_31, "vmovdqu64 %%zmm\\n,64*\\n+%0")
                 : "=m"(vector_registers)::"memory");
  } else if (has_ymm) {
    asm volatile(VOLSEAL_EACH(VOLSEAL_0_TO_15, "vmovdqu %%ymm\\n,32*\\n+%0") : "=m"(vector_registers)::"memory");
  } else {
    asm volatile(VOLSEAL_EACH(VOLSEAL_0_TO_15, "movdqu %%xmm\\n,16*\\n+%0") : "=m"(vector_registers)::"memory");
  }
}

#elif defined(__aarch64__)

uint8_t vector_registers[32 * 16], general_registers[18 * 8];

// What copies of keys before the call have left is not the call's fault.
void ClearRegisters() {
  asm volatile(VOLSEAL_EACH(VOLSEAL_0_TO_15 "," VOLSEAL_16_TO_31, "movi v\\n\\().16b,#0")::
                   : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14",
                     "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28",
                     "v29", "v30", "v31");
}

inline __attribute__((always_inline)) void SaveRegisters() {
  // The addresses are in registers that the kernel had to restore: none of what it left is lost.
  register uint8_t* vectors asm("x19") = vector_registers;
  register uint8_t* general asm("x20") = general_registers;
  asm volatile(VOLSEAL_EACH(VOLSEAL_0_TO_15 "," VOLSEAL_16_TO_31, "str q\\n,[%0,#16*\\n]")
                   VOLSEAL_EACH(VOLSEAL_0_TO_15 ",16,17", "str x\\n,[%1,#8*\\n]")::"r"(vectors),
               "r"(general)
               : "memory");
}

#endif

void CallAndSave() {
  // So that the way back to the caller, which uses this stack as well, overwrites nothing that was left below.
  uint8_t gap[kGapBytes];
  asm volatile("" ::"r"(gap) : "memory");
  ClearRegisters();
  // Nothing may stand between the call and the look.
  probe.transform(*probe.key, probe.source, probe.target, probe.run);
  SaveRegisters();
}

}  // namespace

Remains RemainsOf(xts::Transform transform, const xts::KeySchedule& key, const uint8_t* source, uint8_t* target,
                  xts::SectorRun run) {
  std::memset(stack, kFill, sizeof stack);
  std::memset(vector_registers, 0, sizeof vector_registers);
  probe.transform = transform;
  probe.key = &key;
  probe.source = source;
  probe.target = target;
  probe.run = run;
  getcontext(&probe.own);
  probe.own.uc_stack.ss_sp = stack;
  probe.own.uc_stack.ss_size = sizeof stack;
  probe.own.uc_link = &probe.before;
  makecontext(&probe.own, CallAndSave, 0);
  swapcontext(&probe.before, &probe.own);
  Remains remains;
  remains.stack.assign(stack, stack + kStackBytes);
  remains.vector_registers.assign(vector_registers, vector_registers + sizeof vector_registers);
  remains.general_registers.assign(general_registers, general_registers + sizeof general_registers);
  const auto deepest = std::ranges::find_if(remains.stack, [](uint8_t byte) { return byte != kFill; });
  remains.stack_used = static_cast<size_t>(remains.stack.end() - deepest) - kGapBytes;
  return remains;
}

void Secrets::Add(const char* name, Bytes bytes) {
  for (size_t i = 0; i < bytes.size(); i += 8) halves_.emplace_back(LoadLittle64(bytes.data() + i), name);
}

void Secrets::Sort() { std::ranges::sort(halves_); }

std::string Secrets::FindIn(Bytes remains) const {
  for (size_t at = 0; at + 8 <= remains.size(); ++at) {
    const uint64_t here = LoadLittle64(remains.data() + at);
    const auto found = std::ranges::lower_bound(halves_, here, {}, [](const auto& half) { return half.first; });
    if (found != halves_.end() && found->first == here) {
      return std::string("half of ") + found->second + " at byte " + std::to_string(at);
    }
  }
  return "";
}

}  // namespace volseal::xts_test
