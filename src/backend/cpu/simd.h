// One vector of f32 in the instruction set that the including file is compiled for. Layer L1b,
// included by kernels_impl.h only. Everything lives in a namespace of its own per instruction set:
// the linker must never take one set's inline function for another's.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "tensor/bf16.h"
#include "tensor/f16.h"

#if defined(__AVX512BF16__) && defined(__AVX512VNNI__)
#define GALE_SIMD avx512_dot
#elif defined(__AVX512F__)
#define GALE_SIMD avx512
#elif defined(__AVX2__)
#define GALE_SIMD avx2
#else
#define GALE_SIMD portable
#endif
#define GALE_INLINE inline __attribute__((always_inline))

namespace gale::GALE_SIMD {

#if defined(__AVX512F__)

inline constexpr int kLanes = 16;
inline constexpr int kRegisters = 32;
using Vec = __m512;

GALE_INLINE Vec Zero() { return _mm512_setzero_ps(); }
GALE_INLINE Vec Broadcast(float x) { return _mm512_set1_ps(x); }
GALE_INLINE Vec Load(const float* p) { return _mm512_loadu_ps(p); }
GALE_INLINE Vec Load(const Bf16* p) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
GALE_INLINE Vec Load(const F16* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
GALE_INLINE Vec LoadBytes(const uint8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}
GALE_INLINE Vec LoadNibbles(const uint8_t* p, int shift) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  const __m512i wide = _mm512_srl_epi32(_mm512_cvtepu8_epi32(bytes), _mm_cvtsi32_si128(shift));
  return _mm512_cvtepi32_ps(_mm512_and_epi32(wide, _mm512_set1_epi32(15)));
}
GALE_INLINE Vec LoadF8(const uint8_t* p) {
  const __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m512i sign = _mm512_slli_epi32(_mm512_srli_epi32(wide, 7), 31);
  const __m512i magnitude = _mm512_slli_epi32(_mm512_and_epi32(wide, _mm512_set1_epi32(0x7F)), 20);
  const __m512 value = _mm512_mul_ps(_mm512_castsi512_ps(magnitude), _mm512_set1_ps(0x1p120F));
  return _mm512_castsi512_ps(_mm512_or_epi32(_mm512_castps_si512(value), sign));
}
GALE_INLINE float LoadHalf(const uint8_t* p) {
  uint16_t bits;
  std::memcpy(&bits, p, sizeof(bits));
  return _cvtsh_ss(bits);
}
GALE_INLINE void Store(float* p, Vec x) { _mm512_storeu_ps(p, x); }
GALE_INLINE Vec Add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
GALE_INLINE Vec Sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
GALE_INLINE Vec Mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
GALE_INLINE Vec Div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
GALE_INLINE Vec Fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
GALE_INLINE Vec Max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
GALE_INLINE Vec Min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
GALE_INLINE Vec RoundToInt(Vec x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
GALE_INLINE Vec PowerOfTwo(Vec n) {
  const __m512i bits =
      _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23);
  return _mm512_castsi512_ps(bits);
}
GALE_INLINE Vec ZeroBelow(Vec x, Vec bound, Vec value) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, bound, _CMP_NLT_UQ), value);
}
GALE_INLINE float ReduceAdd(Vec x) { return _mm512_reduce_add_ps(x); }
GALE_INLINE float ReduceMax(Vec x) { return _mm512_reduce_max_ps(x); }

#elif defined(__AVX2__)

inline constexpr int kLanes = 8;
inline constexpr int kRegisters = 16;
using Vec = __m256;

GALE_INLINE Vec Zero() { return _mm256_setzero_ps(); }
GALE_INLINE Vec Broadcast(float x) { return _mm256_set1_ps(x); }
GALE_INLINE Vec Load(const float* p) { return _mm256_loadu_ps(p); }
GALE_INLINE Vec Load(const Bf16* p) {
  const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}
GALE_INLINE Vec Load(const F16* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
GALE_INLINE Vec LoadBytes(const uint8_t* p) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}
GALE_INLINE Vec LoadNibbles(const uint8_t* p, int shift) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  const __m256i wide = _mm256_srl_epi32(_mm256_cvtepu8_epi32(bytes), _mm_cvtsi32_si128(shift));
  return _mm256_cvtepi32_ps(_mm256_and_si256(wide, _mm256_set1_epi32(15)));
}
GALE_INLINE Vec LoadF8(const uint8_t* p) {
  const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  const __m256i sign = _mm256_slli_epi32(_mm256_srli_epi32(wide, 7), 31);
  const __m256i magnitude = _mm256_slli_epi32(_mm256_and_si256(wide, _mm256_set1_epi32(0x7F)), 20);
  const __m256 value = _mm256_mul_ps(_mm256_castsi256_ps(magnitude), _mm256_set1_ps(0x1p120F));
  return _mm256_castsi256_ps(_mm256_or_si256(_mm256_castps_si256(value), sign));
}
GALE_INLINE float LoadHalf(const uint8_t* p) {
  uint16_t bits;
  std::memcpy(&bits, p, sizeof(bits));
  return _cvtsh_ss(bits);
}
GALE_INLINE void Store(float* p, Vec x) { _mm256_storeu_ps(p, x); }
GALE_INLINE Vec Add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
GALE_INLINE Vec Sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
GALE_INLINE Vec Mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
GALE_INLINE Vec Div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
GALE_INLINE Vec Fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
GALE_INLINE Vec Max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
GALE_INLINE Vec Min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
GALE_INLINE Vec RoundToInt(Vec x) {
  return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
GALE_INLINE Vec PowerOfTwo(Vec n) {
  const __m256i bits =
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_castsi256_ps(bits);
}
GALE_INLINE Vec ZeroBelow(Vec x, Vec bound, Vec value) {
  return _mm256_and_ps(_mm256_cmp_ps(x, bound, _CMP_NLT_UQ), value);
}
GALE_INLINE float ReduceAdd(Vec x) {
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}
GALE_INLINE float ReduceMax(Vec x) {
  __m128 max = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  max = _mm_max_ps(max, _mm_movehl_ps(max, max));
  return _mm_cvtss_f32(_mm_max_ss(max, _mm_movehdup_ps(max)));
}

#else

// Compiler vectors of 128 bits: SSE2 on x86-64, NEON on ARM.
inline constexpr int kLanes = 4;
inline constexpr int kRegisters = 16;
using Vec = float __attribute__((vector_size(16)));
using IntVec = int32_t __attribute__((vector_size(16)));

GALE_INLINE Vec Zero() { return Vec{}; }
GALE_INLINE Vec Broadcast(float x) { return Vec{x, x, x, x}; }
GALE_INLINE Vec Load(const float* p) {
  Vec x;
  std::memcpy(&x, p, sizeof(x));
  return x;
}
GALE_INLINE Vec Load(const Bf16* p) {
  return Vec{ToFloat(p[0]), ToFloat(p[1]), ToFloat(p[2]), ToFloat(p[3])};
}
GALE_INLINE Vec Load(const F16* p) {
  return Vec{ToFloat(p[0]), ToFloat(p[1]), ToFloat(p[2]), ToFloat(p[3])};
}
GALE_INLINE Vec LoadBytes(const uint8_t* p) {
  Vec x{};
  for (int i = 0; i < kLanes; ++i) x[i] = static_cast<float>(static_cast<int8_t>(p[i]));
  return x;
}
GALE_INLINE Vec LoadNibbles(const uint8_t* p, int shift) {
  Vec x{};
  for (int i = 0; i < kLanes; ++i) x[i] = static_cast<float>((p[i] >> shift) & 15);
  return x;
}
GALE_INLINE Vec LoadF8(const uint8_t* p) {
  IntVec wide{};
  for (int i = 0; i < kLanes; ++i) wide[i] = p[i];
  const Vec value = reinterpret_cast<Vec>((wide & 0x7F) << 20) * 0x1p120F;
  return reinterpret_cast<Vec>(reinterpret_cast<IntVec>(value) | (wide >> 7) << 31);
}
GALE_INLINE float LoadHalf(const uint8_t* p) {
  F16 half;
  std::memcpy(&half, p, sizeof(half));
  return ToFloat(half);
}
GALE_INLINE void Store(float* p, Vec x) { std::memcpy(p, &x, sizeof(x)); }
GALE_INLINE Vec Add(Vec a, Vec b) { return a + b; }
GALE_INLINE Vec Sub(Vec a, Vec b) { return a - b; }
GALE_INLINE Vec Mul(Vec a, Vec b) { return a * b; }
GALE_INLINE Vec Div(Vec a, Vec b) { return a / b; }
GALE_INLINE Vec Fma(Vec a, Vec b, Vec c) { return a * b + c; }  // two roundings: -ffp-contract=off
GALE_INLINE Vec Max(Vec a, Vec b) { return a > b ? a : b; }
GALE_INLINE Vec Min(Vec a, Vec b) { return a < b ? a : b; }
GALE_INLINE Vec RoundToInt(Vec x) {
  const Vec magic = Broadcast(0x1.8p23F);  // |x| < 2^22: the sum's last bit is worth 1
  return (x + magic) - magic;
}
GALE_INLINE Vec PowerOfTwo(Vec n) {
  const IntVec bits = (__builtin_convertvector(n, IntVec) + 127) << 23;
  return reinterpret_cast<Vec>(bits);
}
GALE_INLINE Vec ZeroBelow(Vec x, Vec bound, Vec value) { return x < bound ? Vec{} : value; }
GALE_INLINE float ReduceAdd(Vec x) { return (x[0] + x[2]) + (x[1] + x[3]); }
GALE_INLINE float ReduceMax(Vec x) {
  const float a = x[0] > x[2] ? x[0] : x[2];
  const float b = x[1] > x[3] ? x[1] : x[3];
  return a > b ? a : b;
}

#endif

// LoadBytes: kLanes signed bytes. LoadNibbles: of kLanes bytes the halves above bit `shift`, 0
// to 15. LoadF8: kLanes of e4m3, but that NaN is 480.

/// The first n < kLanes elements, then zeros; reads nothing past them.
template <class T>
GALE_INLINE Vec LoadPartial(const T* p, int64_t n) {
  T lanes[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
  return Load(lanes);
}

GALE_INLINE void StorePartial(float* p, Vec x, int64_t n) {
  float lanes[kLanes];
  Store(lanes, x);
  for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}

/// exp(x), relative error below 2e-7 for x <= 88; 0 below -87 and for -inf. Polynomial: Cephes
/// expf.
GALE_INLINE Vec Exp(Vec x) {
  const Vec lowest = Broadcast(-87.0F);
  const Vec clamped = Min(Max(x, lowest), Broadcast(88.0F));
  const Vec n = RoundToInt(Mul(clamped, Broadcast(1.44269504F)));
  Vec r = Fma(n, Broadcast(-0.693359375F), clamped);  // ln 2 in two parts, the first one exact
  r = Fma(n, Broadcast(2.12194440e-4F), r);
  Vec p = Broadcast(1.9875691500e-4F);
  p = Fma(p, r, Broadcast(1.3981999507e-3F));
  p = Fma(p, r, Broadcast(8.3334519073e-3F));
  p = Fma(p, r, Broadcast(4.1665795894e-2F));
  p = Fma(p, r, Broadcast(1.6666665459e-1F));
  p = Fma(p, r, Broadcast(5.0000001201e-1F));
  p = Add(Fma(Mul(p, r), r, r), Broadcast(1.0F));
  return ZeroBelow(x, lowest, Mul(p, PowerOfTwo(n)));
}

/// tanh(x), relative error below 3e-7. Polynomial for |x| < 0.625: Cephes tanhf.
GALE_INLINE Vec Tanh(Vec x) {
  const Vec one = Broadcast(1.0F);
  const Vec large = Sub(one, Div(Broadcast(2.0F), Add(Exp(Add(x, x)), one)));
  const Vec z = Mul(x, x);
  Vec p = Broadcast(-5.70498872745e-3F);
  p = Fma(p, z, Broadcast(2.06390887954e-2F));
  p = Fma(p, z, Broadcast(-5.37397155531e-2F));
  p = Fma(p, z, Broadcast(1.33314422036e-1F));
  p = Fma(p, z, Broadcast(-3.33332819422e-1F));
  const Vec small = Fma(Mul(p, z), x, x);
  const Vec magnitude = Max(x, Sub(Zero(), x));
  const Vec border = Broadcast(0.625F);
  // One of the two is zero.
  return Add(ZeroBelow(magnitude, border, large),
             ZeroBelow(Sub(Zero(), magnitude), Sub(Zero(), border), small));
}

}  // namespace gale::GALE_SIMD
