#include "xts/aes_portable.h"

#include "base/bytes.h"
#include "base/wipe.h"

namespace volseal::xts {
namespace {

// State: planes[b] holds bit b of all bytes; byte j of block k of a lane stands at bit 16 * k + j.
// AES numbers its state by columns: byte j is row j % 4 of column j / 4.
struct State {
  Plane planes[8];
};

constexpr Plane All(uint64_t pattern) { return Plane{pattern, pattern}; }

// Swaps the bits of `high` under `mask` with the bits of `low` under `mask << shift`.
inline void SwapBits(Plane& low, Plane& high, int shift, uint64_t mask) {
  const Plane difference = ((low >> shift) ^ high) & All(mask);
  high ^= difference;
  low ^= difference << shift;
}

// Turns an 8 x 8 matrix of bits, one byte a row, in each lane.
inline Plane TransposeBits(Plane rows) {
  const auto swap = [&rows](int shift, uint64_t mask) {
    const Plane difference = (rows ^ (rows >> shift)) & All(mask);
    rows ^= difference ^ (difference << shift);
  };
  swap(7, 0x00aa00aa00aa00aa);
  swap(14, 0x0000cccc0000cccc);
  swap(28, 0x00000000f0f0f0f0);
  return rows;
}

// Turns an 8 x 8 matrix of bytes: word w's byte b goes to word b's byte w.
inline void TransposeBytes(Plane words[8]) {
  for (int w = 0; w < 4; ++w) SwapBits(words[w], words[w + 4], 32, 0x00000000ffffffff);
  for (int w : {0, 1, 4, 5}) SwapBits(words[w], words[w + 2], 16, 0x0000ffff0000ffff);
  for (int w : {0, 2, 4, 6}) SwapBits(words[w], words[w + 1], 8, 0x00ff00ff00ff00ff);
}

State Load(const uint8_t blocks[kPortableBytes]) {
  State state;
  for (int w = 0; w < 8; ++w) {
    state.planes[w] = TransposeBits(Plane{LoadLittle64(blocks + 8 * w), LoadLittle64(blocks + 64 + 8 * w)});
  }
  TransposeBytes(state.planes);
  return state;
}

void Store(State state, uint8_t blocks[kPortableBytes]) {
  TransposeBytes(state.planes);
  for (int w = 0; w < 8; ++w) {
    const Plane rows = TransposeBits(state.planes[w]);
    StoreLittle64(blocks + 8 * w, rows[0]);
    StoreLittle64(blocks + 64 + 8 * w, rows[1]);
  }
}

inline void AddRoundKey(State& state, const SlicedRoundKey& key) {
  for (int b = 0; b < 8; ++b) state.planes[b] ^= All(key.planes[b]);
}

// Names as in the paper, whose bit 0 is the most significant one. 115 gates.
inline void SubBytes(State& state) {
  Plane* const q = state.planes;
  const Plane x0 = q[7], x1 = q[6], x2 = q[5], x3 = q[4], x4 = q[3], x5 = q[2], x6 = q[1], x7 = q[0];
  // Top linear layer.
  const Plane y14 = x3 ^ x5, y13 = x0 ^ x6, y9 = x0 ^ x3, y8 = x0 ^ x5, t0 = x1 ^ x2, y1 = t0 ^ x7, y4 = y1 ^ x3;
  const Plane y12 = y13 ^ y14, y2 = y1 ^ x0, y5 = y1 ^ x6, y3 = y5 ^ y8, t1 = x4 ^ y12, y15 = t1 ^ x5, y20 = t1 ^ x1;
  const Plane y6 = y15 ^ x7, y10 = y15 ^ t0, y11 = y20 ^ y9, y7 = x7 ^ y11, y17 = y10 ^ y11, y19 = y10 ^ y8;
  const Plane y16 = t0 ^ y11, y21 = y13 ^ y16, y18 = x0 ^ y16;
  // Inversion in GF(2^8) by way of GF(2^4).
  const Plane t2 = y12 & y15, t3 = y3 & y6, t4 = t3 ^ t2, t5 = y4 & x7, t6 = t5 ^ t2, t7 = y13 & y16, t8 = y5 & y1;
  const Plane t9 = t8 ^ t7, t10 = y2 & y7, t11 = t10 ^ t7, t12 = y9 & y11, t13 = y14 & y17, t14 = t13 ^ t12;
  const Plane t15 = y8 & y10, t16 = t15 ^ t12, t17 = t4 ^ t14, t18 = t6 ^ t16, t19 = t9 ^ t14, t20 = t11 ^ t16;
  const Plane t21 = t17 ^ y20, t22 = t18 ^ y19, t23 = t19 ^ y21, t24 = t20 ^ y18, t25 = t21 ^ t22, t26 = t21 & t23;
  const Plane t27 = t24 ^ t26, t28 = t25 & t27, t29 = t28 ^ t22, t30 = t23 ^ t24, t31 = t22 ^ t26, t32 = t31 & t30;
  const Plane t33 = t32 ^ t24, t34 = t23 ^ t33, t35 = t27 ^ t33, t36 = t24 & t35, t37 = t36 ^ t34, t38 = t27 ^ t36;
  const Plane t39 = t29 & t38, t40 = t25 ^ t39, t41 = t40 ^ t37, t42 = t29 ^ t33, t43 = t29 ^ t40, t44 = t33 ^ t37;
  const Plane t45 = t42 ^ t41;
  const Plane z0 = t44 & y15, z1 = t37 & y6, z2 = t33 & x7, z3 = t43 & y16, z4 = t40 & y1, z5 = t29 & y7;
  const Plane z6 = t42 & y11, z7 = t45 & y17, z8 = t41 & y10, z9 = t44 & y12, z10 = t37 & y3, z11 = t33 & y4;
  const Plane z12 = t43 & y13, z13 = t40 & y5, z14 = t29 & y2, z15 = t42 & y9, z16 = t45 & y14, z17 = t41 & y8;
  // Bottom linear layer, the affine map within it.
  const Plane t46 = z15 ^ z16, t47 = z10 ^ z11, t48 = z5 ^ z13, t49 = z9 ^ z10, t50 = z2 ^ z12, t51 = z2 ^ z5;
  const Plane t52 = z7 ^ z8, t53 = z0 ^ z3, t54 = z6 ^ z7, t55 = z16 ^ z17, t56 = z12 ^ t48, t57 = t50 ^ t53;
  const Plane t58 = z4 ^ t46, t59 = z3 ^ t54, t60 = t46 ^ t57, t61 = z14 ^ t57, t62 = t52 ^ t58, t63 = t49 ^ t58;
  const Plane t64 = z4 ^ t59, t65 = t61 ^ t62, t66 = z1 ^ t63, t67 = t64 ^ t65, s3 = t53 ^ t66;
  q[7] = t59 ^ t63;
  q[6] = t64 ^ ~s3;
  q[5] = t55 ^ ~t67;
  q[4] = s3;
  q[3] = t51 ^ t66;
  q[2] = t47 ^ t65;
  q[1] = t56 ^ ~t62;
  q[0] = t48 ^ ~t60;
}

// The inverse of the S-box's affine map, less its constant: output bit i is input bits i+2, i+5, i+7 (modulo 8).
inline void InverseAffine(State& state) {
  for (int b : {0, 1, 5, 6}) state.planes[b] = ~state.planes[b];  // the constant 0x63
  const State in = state;
  for (int b = 0; b < 8; ++b)
    state.planes[b] = in.planes[(b + 2) % 8] ^ in.planes[(b + 5) % 8] ^ in.planes[(b + 7) % 8];
}

// S is affine after inversion, inversion is its own inverse: so S^-1 is the inverse affine map, then S, then it again.
inline void InverseSubBytes(State& state) {
  InverseAffine(state);
  SubBytes(state);
  InverseAffine(state);
}

// Row r (bits r, r+4, r+8, r+12 of a block's 16) moves left by `columns(r)` columns: a rotation to the right by 4 bits
// a column.
template <int kDirection>
inline void ShiftRows(State& state) {
  for (Plane& plane : state.planes) {
    Plane out = plane & All(0x1111111111111111);
    for (int row = 1; row < 4; ++row) {
      const int columns = kDirection > 0 ? row : 4 - row;
      const uint64_t block_row = uint64_t{0x1111} << row;
      const uint64_t kept = block_row & (0xffffu >> (4 * columns));
      const uint64_t wrapped = block_row & ~kept;
      constexpr uint64_t kEachBlock = 0x0001000100010001;
      out |= ((plane >> (4 * columns)) & All(kept * kEachBlock)) |
             ((plane << (16 - 4 * columns)) & All(wrapped * kEachBlock));
    }
    plane = out;
  }
}

// Each column's bytes moved up by `rows`: a rotation within each group of four bits.
inline Plane RotateColumn(Plane plane, int rows) {
  const uint64_t kept = (uint64_t{0xf} >> rows) * 0x1111111111111111;
  return ((plane >> rows) & All(kept)) | ((plane << (4 - rows)) & All(~kept));
}

// Multiplication of every byte by x modulo x^8 + x^4 + x^3 + x + 1.
inline State TimesX(const State& in) {
  const Plane carry = in.planes[7];
  return {{carry, in.planes[0] ^ carry, in.planes[1], in.planes[2] ^ carry, in.planes[3] ^ carry, in.planes[4],
           in.planes[5], in.planes[6]}};
}

// out[r] = 2 a[r] + 3 a[r+1] + a[r+2] + a[r+3] = 2 (a[r] + a[r+1]) + a[r+1] + a[r+2] + a[r+3].
inline void MixColumns(State& state) {
  State sum;
  State rest;
  for (int b = 0; b < 8; ++b) {
    const Plane a = state.planes[b], a1 = RotateColumn(a, 1);
    sum.planes[b] = a ^ a1;
    rest.planes[b] = a1 ^ RotateColumn(sum.planes[b], 2);
  }
  const State doubled = TimesX(sum);
  for (int b = 0; b < 8; ++b) state.planes[b] = doubled.planes[b] ^ rest.planes[b];
}

// The inverse matrix is MixColumns after a[r] += 4 (a[r] + a[r+2]) (FIPS 197's {0e 0b 0d 09} = {02 03 01 01} x {05 00
// 04 00}).
inline void InverseMixColumns(State& state) {
  State sum;
  for (int b = 0; b < 8; ++b) sum.planes[b] = state.planes[b] ^ RotateColumn(state.planes[b], 2);
  const State fourfold = TimesX(TimesX(sum));
  for (int b = 0; b < 8; ++b) state.planes[b] ^= fourfold.planes[b];
  MixColumns(state);
}

}  // namespace

void SliceRoundKey(const uint8_t round_key[16], SlicedRoundKey& sliced) {
  for (int b = 0; b < 8; ++b) {
    uint64_t bits = 0;
    for (int j = 0; j < 16; ++j) bits |= uint64_t{round_key[j] >> b & 1u} << j;
    sliced.planes[b] = bits * 0x0001000100010001;
  }
}

void EncryptBlocks(const SlicedRoundKey* keys, int rounds, uint8_t blocks[kPortableBytes]) {
  State state = Load(blocks);
  AddRoundKey(state, keys[0]);
  for (int round = 1; round < rounds; ++round) {
    SubBytes(state);
    ShiftRows<1>(state);
    MixColumns(state);
    AddRoundKey(state, keys[round]);
  }
  SubBytes(state);
  ShiftRows<1>(state);
  AddRoundKey(state, keys[rounds]);
  Store(state, blocks);
}

void DecryptBlocks(const SlicedRoundKey* keys, int rounds, uint8_t blocks[kPortableBytes]) {
  State state = Load(blocks);
  AddRoundKey(state, keys[rounds]);
  for (int round = rounds - 1; round > 0; --round) {
    ShiftRows<-1>(state);
    InverseSubBytes(state);
    AddRoundKey(state, keys[round]);
    InverseMixColumns(state);
  }
  ShiftRows<-1>(state);
  InverseSubBytes(state);
  AddRoundKey(state, keys[0]);
  Store(state, blocks);
}

uint32_t SubWord(uint32_t word) {
  State state{};
  const WipeOnExit wipe(state);
  for (int b = 0; b < 8; ++b) {
    uint64_t bits = 0;
    for (int j = 0; j < 4; ++j) bits |= uint64_t{word >> (8 * j + b) & 1u} << j;
    state.planes[b][0] = bits;
  }
  SubBytes(state);
  uint32_t out = 0;
  for (int b = 0; b < 8; ++b) {
    for (int j = 0; j < 4; ++j) out |= static_cast<uint32_t>(state.planes[b][0] >> j & 1) << (8 * j + b);
  }
  return out;
}

}  // namespace volseal::xts
