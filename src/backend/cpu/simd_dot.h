// Short dot products by the vector, for weights packed in panels: every lane is one output column
// and takes in two elements of bf16, or four of 8 bits, at a time. Layer L1b, included by
// panel_kernels.h only; one instruction each where the processor has it.
#pragma once

#include "backend/cpu/simd.h"

#if defined(__AVX512BF16__) && defined(__AVX512VNNI__)
#define GALE_DOT_INSTRUCTIONS 1
#else
#define GALE_DOT_INSTRUCTIONS 0
#endif

namespace gale::GALE_SIMD {

// Pairs: kLanes pairs of bf16 as they lie in memory.
// PairDot(acc, x, w): acc + x.first * w.first + x.second * w.second per lane.
// FirstOnly, SecondOnly: the pairs with zeros for the other element.
// Ints: kLanes int32. LoadInts reads 4 * kLanes bytes.
// Quad: four signed bytes in every lane.
// QuadDot(acc, w, x): acc + sum of the four products of unsigned bytes of w and signed ones of x.

#if GALE_DOT_INSTRUCTIONS

using Pairs = __m512bh;
GALE_INLINE Pairs LoadPairs(const void* p) { return (__m512bh)_mm512_loadu_si512(p); }
GALE_INLINE Pairs BroadcastPair(const void* p) {
  int32_t pair;
  std::memcpy(&pair, p, sizeof(pair));
  return (__m512bh)_mm512_set1_epi32(pair);
}
GALE_INLINE Vec PairDot(Vec acc, Pairs x, Pairs w) { return _mm512_dpbf16_ps(acc, x, w); }
GALE_INLINE Pairs FirstOnly(Pairs x) {
  return (__m512bh)_mm512_and_si512((__m512i)x, _mm512_set1_epi32(0xFFFF));
}
GALE_INLINE Pairs SecondOnly(Pairs x) {
  return (__m512bh)_mm512_andnot_si512(_mm512_set1_epi32(0xFFFF), (__m512i)x);
}
inline constexpr int kPairRegisters = 1;  ///< that one Pairs takes

#else

struct Pairs {
  Vec first, second;
};
GALE_INLINE Vec PairDot(Vec acc, const Pairs& x, const Pairs& w) {
  return Fma(x.second, w.second, Fma(x.first, w.first, acc));
}
GALE_INLINE Pairs BroadcastPair(const void* p) {
  Bf16 pair[2];
  std::memcpy(pair, p, sizeof(pair));
  return {Broadcast(ToFloat(pair[0])), Broadcast(ToFloat(pair[1]))};
}
GALE_INLINE Pairs FirstOnly(const Pairs& x) { return {x.first, Zero()}; }
GALE_INLINE Pairs SecondOnly(const Pairs& x) { return {Zero(), x.second}; }
inline constexpr int kPairRegisters = 2;

#endif

#if defined(__AVX512F__)

using Ints = __m512i;
GALE_INLINE Ints LoadInts(const void* p) { return _mm512_loadu_si512(p); }
GALE_INLINE Ints BroadcastInt(int32_t x) { return _mm512_set1_epi32(x); }
GALE_INLINE Ints AddInts(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
GALE_INLINE Ints LowNibbles(Ints x) { return _mm512_and_si512(x, _mm512_set1_epi8(15)); }
GALE_INLINE Ints HighNibbles(Ints x) { return LowNibbles(_mm512_srli_epi16(x, 4)); }
GALE_INLINE Vec ToFloats(Ints x) { return _mm512_cvtepi32_ps(x); }

#if GALE_DOT_INSTRUCTIONS
using Quad = Ints;
GALE_INLINE Quad BroadcastQuad(const int8_t* p) {
  int32_t bytes;
  std::memcpy(&bytes, p, sizeof(bytes));
  return BroadcastInt(bytes);
}
GALE_INLINE Ints QuadDot(Ints acc, Ints w, Quad x) { return _mm512_dpbusd_epi32(acc, w, x); }
#else
GALE_INLINE Pairs LoadPairs(const void* p) {
  const Ints bits = LoadInts(p);
  return {_mm512_castsi512_ps(_mm512_slli_epi32(bits, 16)),
          _mm512_castsi512_ps(_mm512_and_si512(bits, BroadcastInt(-65536)))};
}
GALE_INLINE Ints EvenBytes(Ints x) { return _mm512_and_si512(x, _mm512_set1_epi16(255)); }
GALE_INLINE Ints OddBytes(Ints x) { return _mm512_srli_epi16(x, 8); }
GALE_INLINE Ints MultiplyPairs(Ints a, Ints b) { return _mm512_madd_epi16(a, b); }
#endif

#elif defined(__AVX2__)

using Ints = __m256i;
GALE_INLINE Ints LoadInts(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
GALE_INLINE Ints BroadcastInt(int32_t x) { return _mm256_set1_epi32(x); }
GALE_INLINE Ints AddInts(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
GALE_INLINE Ints LowNibbles(Ints x) { return _mm256_and_si256(x, _mm256_set1_epi8(15)); }
GALE_INLINE Ints HighNibbles(Ints x) { return LowNibbles(_mm256_srli_epi16(x, 4)); }
GALE_INLINE Vec ToFloats(Ints x) { return _mm256_cvtepi32_ps(x); }
GALE_INLINE Pairs LoadPairs(const void* p) {
  const Ints bits = LoadInts(p);
  return {_mm256_castsi256_ps(_mm256_slli_epi32(bits, 16)),
          _mm256_castsi256_ps(_mm256_and_si256(bits, BroadcastInt(-65536)))};
}
GALE_INLINE Ints EvenBytes(Ints x) { return _mm256_and_si256(x, _mm256_set1_epi16(255)); }
GALE_INLINE Ints OddBytes(Ints x) { return _mm256_srli_epi16(x, 8); }
GALE_INLINE Ints MultiplyPairs(Ints a, Ints b) { return _mm256_madd_epi16(a, b); }

#else

using Ints = IntVec;
using Shorts = int16_t __attribute__((vector_size(16)));
using Bytes = uint8_t __attribute__((vector_size(16)));
GALE_INLINE Ints LoadInts(const void* p) {
  Ints x;
  std::memcpy(&x, p, sizeof(x));
  return x;
}
GALE_INLINE Ints BroadcastInt(int32_t x) { return Ints{x, x, x, x}; }
GALE_INLINE Ints AddInts(Ints a, Ints b) { return a + b; }
GALE_INLINE Ints LowNibbles(Ints x) {
  return reinterpret_cast<Ints>(reinterpret_cast<Bytes>(x) & 15);
}
GALE_INLINE Ints HighNibbles(Ints x) {
  return reinterpret_cast<Ints>(reinterpret_cast<Bytes>(x) >> 4);
}
GALE_INLINE Vec ToFloats(Ints x) { return __builtin_convertvector(x, Vec); }
GALE_INLINE Pairs LoadPairs(const void* p) {
  const Ints bits = LoadInts(p);
  return {reinterpret_cast<Vec>(bits << 16), reinterpret_cast<Vec>(bits & -65536)};
}
GALE_INLINE Ints EvenBytes(Ints x) {
  return reinterpret_cast<Ints>(reinterpret_cast<Shorts>(x) & 255);
}
GALE_INLINE Ints OddBytes(Ints x) {
  return reinterpret_cast<Ints>(reinterpret_cast<Shorts>(x) >> 8 & 255);
}
GALE_INLINE Ints MultiplyPairs(Ints a, Ints b) {
#if defined(__SSE2__)
  using Lanes = short __attribute__((vector_size(16)));
  return reinterpret_cast<Ints>(
      __builtin_ia32_pmaddwd128(reinterpret_cast<Lanes>(a), reinterpret_cast<Lanes>(b)));
#else
  const Ints low = (a << 16 >> 16) * (b << 16 >> 16);
  return low + (a >> 16) * (b >> 16);
#endif
}

#endif

#if !GALE_DOT_INSTRUCTIONS

/// Signed bytes 0 and 2, and 1 and 3, as 16-bit numbers.
struct Quad {
  Ints even, odd;
};
GALE_INLINE Quad BroadcastQuad(const int8_t* p) {
  const auto join = [](int low, int high) {
    return static_cast<int32_t>(static_cast<uint32_t>(high) << 16 |
                                (static_cast<uint32_t>(low) & 0xFFFF));
  };
  return {BroadcastInt(join(p[0], p[2])), BroadcastInt(join(p[1], p[3]))};
}
GALE_INLINE Ints QuadDot(Ints acc, Ints w, const Quad& x) {
  return AddInts(AddInts(acc, MultiplyPairs(EvenBytes(w), x.even)),
                 MultiplyPairs(OddBytes(w), x.odd));
}

#endif

}  // namespace gale::GALE_SIMD
