// Draws from rows of logits, and their log-probabilities; equal to the CPU's on equal logits but
// for the last bits of exp. Rows are independent and nothing depends on scheduling: masses are
// summed as integers, and lists filled in any order are ranked before they are used.
//
// Three kernels: MaximaKernel finds the maximum of every 1024 logits; FilterKernel copies the few
// logits that top-k can want, those not below the k-th of these maxima, to a short list; one block
// a row then draws from the list, or from the whole row when there is none (no top-k, or many
// ties).
#include <algorithm>

#include "backend/cuda/element.cuh"
#include "backend/cuda/ops.h"
#include "backend/cuda/ptx.cuh"
#include "backend/op_checks.h"
#include "base/rng.h"

namespace gale::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kGroup = 1024;          // logits of one maximum
constexpr int kSegment = 2 * kGroup;  // logits of a block
constexpr int kMaxListed = 1024;
constexpr int kRowThreads = 1024;
constexpr int kRowWarps = kRowThreads / kWarp;
constexpr int kMaxMaxima = 1024;  // that the filter looks at: vocabularies up to 2^20

/// Weights, at most 1, as integers: sums do not depend on their order. 2^23 of them fit.
constexpr float kMassScale = 0x1p40F;
using Mass = unsigned long long;

struct Listed {
  float logit;
  int32_t id;
};

struct Rows {
  const float* logits;
  int64_t stride;
  int vocab;
  const int32_t* bitmask;  // null: all tokens are allowed
  int64_t bitmask_stride;
  int num_maxima;        // of a row
  float* maxima;         // [rows, num_maxima]
  int32_t* num_listed;   // [rows]; over kMaxListed: the list is not complete
  Listed* listed;        // [rows, kMaxListed]
  const int32_t* top_k;  // [rows], or null:
  int32_t top_k_of_all;
};

/// One row of logits, as seen through the mask. -0 reads as 0, so that equal values have equal
/// bits.
struct Row {
  const float* logits;
  const int32_t* bitmask;
  int vocab;

  __device__ Row(const Rows& rows, int64_t row)
      : logits(rows.logits + row * rows.stride),
        bitmask(rows.bitmask == nullptr ? nullptr : rows.bitmask + row * rows.bitmask_stride),
        vocab(rows.vocab) {}
  __device__ __forceinline__ float operator[](int i) const {
    const bool allowed =
        bitmask == nullptr || (static_cast<uint32_t>(bitmask[i / 32]) >> (i % 32) & 1U) != 0;
    return allowed ? logits[i] + 0.0F : -INFINITY;
  }
};

__device__ __forceinline__ float WarpMax(float x) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset >>= 1) {
    x = fmaxf(x, __shfl_xor_sync(~0U, x, offset));
  }
  return x;
}

__device__ __forceinline__ Mass WarpAdd(Mass x) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset >>= 1) x += __shfl_xor_sync(~0U, x, offset);
  return x;
}

/// Blocks: (row, segment). maxima[i]: the largest of logits i * kGroup up to the next. A warp looks
/// at consecutive logits of its group.
__global__ void __launch_bounds__(kThreads) MaximaKernel(Rows rows) {
  constexpr int kWarps = kThreads / kWarp;
  constexpr int kWarpLogits = kSegment / kWarps;
  constexpr int kGroupWarps = kGroup / kWarpLogits;
  __shared__ float warp_maxima[kWarps];
  LaunchDependents();
  WaitForPrerequisites();
  const int64_t row = blockIdx.x;
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  if (blockIdx.y == 0 && threadIdx.x == 0) rows.num_listed[row] = 0;
  const Row logits(rows, row);
  const int begin = static_cast<int>(blockIdx.y) * kSegment + warp * kWarpLogits;
  float max = -INFINITY;
#pragma unroll
  for (int j = 0; j < kWarpLogits; j += kWarp) {
    const int i = begin + j + lane;
    if (i < rows.vocab) max = fmaxf(max, logits[i]);
  }
  max = WarpMax(max);
  if (lane == 0) warp_maxima[warp] = max;
  __syncthreads();
  const int group =
      static_cast<int>(blockIdx.y) * (kSegment / kGroup) + static_cast<int>(threadIdx.x);
  if (threadIdx.x < kSegment / kGroup && group < rows.num_maxima) {
    max = warp_maxima[threadIdx.x * kGroupWarps];
    for (int w = 1; w < kGroupWarps; ++w) {
      max = fmaxf(max, warp_maxima[threadIdx.x * kGroupWarps + w]);
    }
    rows.maxima[row * rows.num_maxima + group] = max;
  }
}

/// Blocks: (row, segment). Lists the possible tokens whose logits are not below the k-th largest
/// maximum: the k likeliest are among them. Fewer than k maxima: lists all, if they are few enough.
__global__ void __launch_bounds__(kThreads) FilterKernel(Rows rows) {
  __shared__ float maxima[kMaxMaxima];
  __shared__ float bound;
  LaunchDependents();
  WaitForPrerequisites();
  const int64_t row = blockIdx.x;
  const int k = rows.top_k == nullptr ? rows.top_k_of_all : rows.top_k[row];
  if (k <= 0 || k >= rows.vocab) return;
  if (k > rows.num_maxima && rows.vocab > kMaxListed) {
    if (blockIdx.y == 0 && threadIdx.x == 0) rows.num_listed[row] = kMaxListed + 1;
    return;
  }
  if (threadIdx.x == 0) bound = -INFINITY;
  for (int i = threadIdx.x; i < rows.num_maxima; i += kThreads) {
    maxima[i] = rows.maxima[row * rows.num_maxima + i];
  }
  __syncthreads();
  if (k <= rows.num_maxima) {
    for (int i = threadIdx.x; i < rows.num_maxima; i += kThreads) {
      const float mine = maxima[i];
      int rank = 0;
      for (int j = 0; j < rows.num_maxima; ++j) {
        rank += maxima[j] > mine || (maxima[j] == mine && j < i) ? 1 : 0;
      }
      if (rank == k - 1) bound = mine;
    }
  }
  __syncthreads();
  const Row logits(rows, row);
  const int begin = static_cast<int>(blockIdx.y) * kSegment;
  for (int i = begin + threadIdx.x; i < min(begin + kSegment, rows.vocab); i += kThreads) {
    const float logit = logits[i];
    if (!(logit >= bound) || logit == -INFINITY) continue;
    const int at = atomicAdd(&rows.num_listed[row], 1);
    if (at < kMaxListed) rows.listed[row * kMaxListed + at] = {logit, i};
  }
}

__device__ __forceinline__ bool Likelier(const Listed& a, const Listed& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

/// Loads a row's list in the order of likelihood; `n` at most kMaxListed, one thread each.
__device__ void LoadRanked(const Rows& rows, int64_t row, int n, Listed* unsorted, Listed* ranked) {
  Listed mine{};
  if (threadIdx.x < n) unsorted[threadIdx.x] = mine = rows.listed[row * kMaxListed + threadIdx.x];
  __syncthreads();
  if (threadIdx.x < n) {
    int rank = 0;
    for (int j = 0; j < n; ++j) rank += Likelier(unsorted[j], mine) ? 1 : 0;
    ranked[rank] = mine;
  }
  __syncthreads();
}

/// Sum over the block of kRowThreads. `shared` has kRowWarps elements.
__device__ Mass BlockSum(Mass x, Mass* shared) {
  x = WarpAdd(x);
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = x;
  __syncthreads();
  Mass sum = 0;
  for (int w = 0; w < kRowWarps; ++w) sum += shared[w];
  __syncthreads();
  return sum;
}

/// The largest logit, from the maxima; the same in all threads.
__device__ float RowMax(const Rows& rows, int64_t row, float* shared) {
  float max = -INFINITY;
  for (int i = threadIdx.x; i < rows.num_maxima; i += kRowThreads) {
    max = fmaxf(max, rows.maxima[row * rows.num_maxima + i]);
  }
  max = WarpMax(max);
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = max;
  __syncthreads();
  max = shared[0];
  for (int w = 1; w < kRowWarps; ++w) max = fmaxf(max, shared[w]);
  __syncthreads();
  return max;
}

/// Order-preserving bits of a float; no NaN.
__device__ __forceinline__ uint32_t OrderedBits(float x) {
  const uint32_t bits = __float_as_uint(x);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

struct Sampling {
  Rows rows;
  const float* temperature;
  const float* top_p;
  const float* min_p;
  const uint64_t* seed;
  const uint64_t* counter;
  int64_t counter_stride;
  int32_t* out;
  const int32_t* slots;  // null: no scatter
  int32_t* last_tokens;
};

constexpr int kBinBits = 11;
constexpr int kBins = 1 << kBinBits;

struct DrawShared {
  union {
    struct {
      Listed unsorted[kMaxListed];
      Listed ranked[kMaxListed];
      Mass weight[kMaxListed];
    };
    struct {
      Mass bins[kBins];
    };
  };
  Mass sums[kRowWarps];
  float maxima[kRowWarps];
  Mass found;
  int32_t id;
};

/// Tokens whose OrderedBits are above `bits`, and of those equal to it the ones up to `last_id`.
/// Every filter leaves such a set.
struct Cut {
  uint32_t bits = 0;
  int32_t last_id = 0x7FFFFFFF;

  __device__ __forceinline__ bool Keeps(uint32_t ordered, int32_t id) const {
    return ordered > bits || (ordered == bits && id <= last_id);
  }
};

/// One row's draw by one block. All members are called by all threads.
class RowDraw {
 public:
  __device__ RowDraw(const Sampling& s, int64_t row, DrawShared& shared)
      : s_(s), row_(row), logits_(s.rows, row), shared_(shared) {}

  __device__ int32_t Draw() {
    max_ = RowMax(s_.rows, row_, shared_.maxima);
    const float temperature = s_.temperature[row_];
    if (!(temperature > 0) || !isfinite(max_)) return ArgMax();
    // A denormal temperature would make it infinite, and 0 * inf is not a number.
    inverse_temperature_ = fminf(1.0F / temperature, 1e30F);
    const uint64_t* counter = s_.counter + row_ * s_.counter_stride;
    uniform_ = UniformDouble(s_.seed[row_], counter[0], counter[1]);
    const int k = s_.rows.top_k[row_];
    const bool cut_by_k = k > 0 && k < logits_.vocab;
    const int listed = s_.rows.num_listed[row_];
    if (cut_by_k && listed <= kMaxListed) return DrawFromList(min(k, listed), listed);
    return DrawFromRow(cut_by_k ? k : 0);
  }

 private:
  /// Lowest id of the maximum; 0 when nothing compares.
  __device__ int32_t ArgMax() {
    if (threadIdx.x == 0) shared_.id = logits_.vocab;
    __syncthreads();
    const float* maxima = s_.rows.maxima + row_ * s_.rows.num_maxima;
    for (int i = threadIdx.x; i < s_.rows.num_maxima; i += kRowThreads) {
      if (maxima[i] == max_) atomicMin(&shared_.id, i);
    }
    __syncthreads();
    const int begin = shared_.id * kGroup;
    __syncthreads();
    if (threadIdx.x == 0) shared_.id = logits_.vocab;
    __syncthreads();
    static_assert(kGroup == kRowThreads);
    const int i = begin + static_cast<int>(threadIdx.x);
    if (i < logits_.vocab && logits_[i] == max_) atomicMin(&shared_.id, i);
    __syncthreads();
    return shared_.id < logits_.vocab ? shared_.id : 0;
  }

  __device__ Mass WeightOf(float logit) const {
    return __float2ull_rn(expf((logit - max_) * inverse_temperature_) * kMassScale);
  }
  __device__ bool PassesMinP(float logit) const {
    return expf((logit - max_) * inverse_temperature_) >= s_.min_p[row_];
  }
  /// The mass at which top-p stops.
  __device__ Mass Wanted(Mass total) const {
    return static_cast<Mass>(static_cast<double>(s_.top_p[row_]) * static_cast<double>(total));
  }

  /// From the first k of n listed tokens. Masses are of ids in ascending order, as on the CPU.
  __device__ int32_t DrawFromList(int k, int n) {
    LoadRanked(s_.rows, row_, n, shared_.unsorted, shared_.ranked);
    const int i = static_cast<int>(threadIdx.x);
    const Mass weight = i < k ? WeightOf(shared_.ranked[i].logit) : 0;
    if (i < k) shared_.weight[i] = weight;
    const Mass wanted = Wanted(BlockSum(weight, shared_.sums));
    bool kept = i < k;
    if (kept && s_.top_p[row_] < 1) {
      Mass before = 0;
      for (int j = 0; j < i; ++j) before += shared_.weight[j];
      kept = i == 0 || before < wanted;
    }
    if (kept) kept = PassesMinP(shared_.ranked[i].logit);
    __syncthreads();
    const Mass mine = kept ? weight : 0;
    if (i < k) shared_.weight[i] = mine;
    const Mass total = BlockSum(mine, shared_.sums);
    if (total == 0) return shared_.ranked[0].id;
    const Mass target = Target(total);
    if (mine > 0) {
      Mass before = 0;
      const int32_t id = shared_.ranked[i].id;
      for (int j = 0; j < k; ++j) {
        if (shared_.ranked[j].id < id) before += shared_.weight[j];
      }
      if (before <= target && target < before + mine) shared_.id = id;
    }
    __syncthreads();
    return shared_.id;
  }

  /// Less than total, which is not 0.
  __device__ Mass Target(Mass total) const {
    const Mass target = static_cast<Mass>(uniform_ * static_cast<double>(total));
    return target < total ? target : total - 1;
  }

  __device__ int32_t DrawFromRow(int k) {
    Cut cut;
    if (k > 0) cut = FindCut(cut, static_cast<Mass>(k), [](float) { return Mass{1}; });
    if (s_.top_p[row_] < 1) {
      const auto weight = [this](float logit) { return WeightOf(logit); };
      const Mass wanted = Wanted(Sum(cut, weight, 0, logits_.vocab));
      cut = FindCut(cut, wanted > 0 ? wanted : 1, weight);
    }
    const auto weight = [this](float logit) { return PassesMinP(logit) ? WeightOf(logit) : 0; };
    return InverseCdf(cut, weight);
  }

  /// Sum of `weight` over the kept ids in [begin, end).
  template <class Weight>
  __device__ Mass Sum(const Cut& cut, const Weight& weight, int begin, int end) {
    Mass sum = 0;
    for (int i = begin + static_cast<int>(threadIdx.x); i < end; i += kRowThreads) {
      const float logit = logits_[i];
      if (cut.Keeps(OrderedBits(logit), i)) sum += weight(logit);
    }
    return BlockSum(sum, shared_.sums);
  }

  /// The shortest cut inside `outer` whose weights, likeliest tokens first, reach `wanted`; `outer`
  /// when they do not. Three passes narrow down the bits, a fourth one counts off equal logits.
  template <class Weight>
  __device__ Cut FindCut(const Cut& outer, Mass wanted, const Weight& weight) {
    uint32_t prefix = 0;
    int known_bits = 0;
    Mass left = wanted;
    while (known_bits < 32) {
      const int bits = min(kBinBits, 32 - known_bits);
      const int shift = 32 - known_bits - bits;
      for (int i = threadIdx.x; i < kBins; i += kRowThreads) shared_.bins[i] = 0;
      if (threadIdx.x == 0) shared_.id = -1;
      __syncthreads();
      for (int i = threadIdx.x; i < logits_.vocab; i += kRowThreads) {
        const float logit = logits_[i];
        const uint32_t ordered = OrderedBits(logit);
        const bool in_prefix = known_bits == 0 || ordered >> (32 - known_bits) == prefix;
        if (in_prefix && outer.Keeps(ordered, i)) {
          const Mass w = weight(logit);
          if (w > 0) atomicAdd(&shared_.bins[ordered >> shift & ((1U << bits) - 1)], w);
        }
      }
      __syncthreads();
      FindBin(left, 1 << bits);
      const int bin = shared_.id;
      left = shared_.found;
      __syncthreads();
      if (bin < 0) return outer;
      prefix = prefix << bits | static_cast<uint32_t>(bin);
      known_bits += bits;
    }
    return {prefix, NthEqual(outer, prefix, left, weight)};
  }

  /// The highest bin at which the sum from above reaches `wanted`, in shared id (-1: none does);
  /// and in shared `found` what is wanted of that bin. By one warp, 32 bins at a time.
  __device__ void FindBin(Mass wanted, int bins) {
    if (threadIdx.x < kWarp) {
      Mass above = 0;
      for (int top = bins - 1; top >= 0; top -= kWarp) {
        const int bin = top - static_cast<int>(threadIdx.x);
        Mass sum = bin >= 0 ? shared_.bins[bin] : 0;
#pragma unroll
        for (int offset = 1; offset < kWarp; offset <<= 1) {
          const Mass other = __shfl_up_sync(~0U, sum, offset);
          if (threadIdx.x >= offset) sum += other;
        }
        const unsigned reached = __ballot_sync(~0U, above + sum >= wanted);
        if (reached != 0) {
          if (static_cast<int>(threadIdx.x) == __ffs(reached) - 1) {
            shared_.id = bin;
            shared_.found = wanted - (above + sum - shared_.bins[bin]);
          }
          break;
        }
        above += __shfl_sync(~0U, sum, kWarp - 1);
      }
    }
    __syncthreads();
  }

  /// Among the kept tokens with these bits, which have equal weights, the id at which ascending ids
  /// reach `wanted`.
  template <class Weight>
  __device__ int32_t NthEqual(const Cut& outer, uint32_t bits, Mass wanted, const Weight& weight) {
    if (threadIdx.x == 0) shared_.id = 0x7FFFFFFF;
    Mass before = 0;
    for (int begin = 0; begin < logits_.vocab && before < wanted; begin += kRowThreads) {
      const int i = begin + static_cast<int>(threadIdx.x);
      Mass mine = 0;
      if (i < logits_.vocab) {
        const float logit = logits_[i];
        if (OrderedBits(logit) == bits && outer.Keeps(bits, i)) mine = weight(logit);
      }
      Mass until = mine;  // inclusive prefix in the warp, then in the block
#pragma unroll
      for (int offset = 1; offset < kWarp; offset <<= 1) {
        const Mass other = __shfl_up_sync(~0U, until, offset);
        if (threadIdx.x % kWarp >= offset) until += other;
      }
      if (threadIdx.x % kWarp == kWarp - 1) shared_.sums[threadIdx.x / kWarp] = until;
      __syncthreads();
      Mass all = 0;
      for (int w = 0; w < kRowWarps; ++w) {
        if (w == static_cast<int>(threadIdx.x / kWarp)) until += before + all;
        all += shared_.sums[w];
      }
      if (until - mine < wanted && until >= wanted) shared_.id = i;
      before += all;
      __syncthreads();
    }
    const int32_t id = shared_.id;
    __syncthreads();
    return id;
  }

  /// Inverse CDF over ids in ascending order: the range of ids is narrowed down by 32 until it is
  /// one id. Weights are integers, so sums of parts agree exactly.
  template <class Weight>
  __device__ int32_t InverseCdf(const Cut& cut, const Weight& weight) {
    int begin = 0;
    int end = logits_.vocab;
    Mass target = 0;
    for (bool first = true; end - begin > 1; first = false) {
      const int share = (end - begin + kRowWarps - 1) / kRowWarps;
      const int warp = static_cast<int>(threadIdx.x / kWarp);
      const int lane = static_cast<int>(threadIdx.x % kWarp);
      Mass sum = 0;
      const int stop = min(begin + (warp + 1) * share, end);
      for (int i = begin + warp * share + lane; i < stop; i += kWarp) {
        const float logit = logits_[i];
        if (cut.Keeps(OrderedBits(logit), i)) sum += weight(logit);
      }
      sum = WarpAdd(sum);
      if (lane == 0) shared_.sums[warp] = sum;
      __syncthreads();
      if (first) {
        Mass total = 0;
        for (int w = 0; w < kRowWarps; ++w) total += shared_.sums[w];
        if (total == 0) return ArgMax();
        target = Target(total);
      }
      int w = 0;
      while (w + 1 < kRowWarps && target >= shared_.sums[w]) target -= shared_.sums[w++];
      __syncthreads();
      begin += w * share;
      end = min(begin + share, end);
    }
    return begin;
  }

  const Sampling& s_;
  int64_t row_;
  Row logits_;
  DrawShared& shared_;
  float max_ = 0;
  float inverse_temperature_ = 1;
  double uniform_ = 0;
};

/// Blocks: a row each.
__global__ void __launch_bounds__(kRowThreads) DrawKernel(Sampling s) {
  __shared__ DrawShared shared;
  LaunchDependents();
  WaitForPrerequisites();
  const int32_t id = RowDraw(s, blockIdx.x, shared).Draw();
  if (threadIdx.x != 0) return;
  s.out[blockIdx.x] = id;
  if (s.slots != nullptr && s.slots[blockIdx.x] >= 0) s.last_tokens[s.slots[blockIdx.x]] = id;
}

struct LogprobsParams {
  Rows rows;
  const int32_t* tokens;
  float* chosen;
  int k;
  int32_t* top_ids;  // [rows, k] with its stride
  int64_t ids_stride;
  float* top_logprobs;
  int64_t logprobs_stride;
};

/// Blocks: a row each. Sums in f32 over a thread's logits, in f64 over threads.
__global__ void __launch_bounds__(kRowThreads) LogprobsKernel(LogprobsParams p) {
  __shared__ Listed unsorted[kMaxListed];
  __shared__ Listed ranked[kMaxListed];
  __shared__ float maxima[kRowWarps];
  __shared__ double sums[kRowWarps];
  LaunchDependents();
  WaitForPrerequisites();
  const int64_t row = blockIdx.x;
  const Row logits(p.rows, row);
  const float max = RowMax(p.rows, row, maxima);
  float thread_sum = 0;
  for (int i = threadIdx.x; i < p.rows.vocab; i += kRowThreads) thread_sum += expf(logits[i] - max);
  double sum = thread_sum;
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset >>= 1) sum += __shfl_xor_sync(~0U, sum, offset);
  if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp] = sum;
  __syncthreads();
  sum = 0;
  for (int w = 0; w < kRowWarps; ++w) sum += sums[w];
  const double log_sum = max + log(sum);

  const int32_t token = p.tokens[row];
  if (threadIdx.x == 0 && token >= 0) {
    p.chosen[row] = static_cast<float>(logits[token] - log_sum);
  }
  int32_t* ids = p.top_ids + row * p.ids_stride;
  float* logprobs = p.top_logprobs + row * p.logprobs_stride;
  const int listed = p.rows.num_listed[row];
  if (p.k > 0 && listed >= p.k && listed <= kMaxListed) {
    LoadRanked(p.rows, row, listed, unsorted, ranked);
    for (int i = threadIdx.x; i < p.k; i += kRowThreads) {
      ids[i] = ranked[i].id;
      logprobs[i] = static_cast<float>(ranked[i].logit - log_sum);
    }
    return;
  }
  // No list: the best after the last best, k times.
  Listed last{INFINITY, -1};
  for (int n = 0; n < p.k; ++n) {
    Listed best{-INFINITY, 0x7FFFFFFF};
    for (int i = threadIdx.x; i < p.rows.vocab; i += kRowThreads) {
      const Listed candidate{logits[i], i};
      if (Likelier(last, candidate) && Likelier(candidate, best)) best = candidate;
    }
    unsorted[threadIdx.x] = best;
    __syncthreads();
    for (int half = kRowThreads / 2; half > 0; half /= 2) {
      if (threadIdx.x < half && Likelier(unsorted[threadIdx.x + half], unsorted[threadIdx.x])) {
        unsorted[threadIdx.x] = unsorted[threadIdx.x + half];
      }
      __syncthreads();
    }
    last = unsorted[0];
    __syncthreads();
    if (threadIdx.x == 0) {
      ids[n] = last.id;
      logprobs[n] = static_cast<float>(last.logit - log_sum);
    }
  }
}

/// Fills the scratch part of `rows` and launches the first two kernels.
bool ReduceRows(CudaStream& stream, int64_t num_rows, Rows* rows) {
  constexpr size_t kAlignment = 256;
  const auto aligned = [](size_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  };
  rows->num_maxima = (rows->vocab + kGroup - 1) / kGroup;
  GALE_CHECK_LE(rows->num_maxima, kMaxMaxima);
  const auto n = static_cast<size_t>(num_rows);
  const size_t maxima_bytes = aligned(n * static_cast<size_t>(rows->num_maxima) * sizeof(float));
  const size_t counts_bytes = aligned(n * sizeof(int32_t));
  auto* scratch = static_cast<char*>(
      stream.Scratch(maxima_bytes + counts_bytes + n * kMaxListed * sizeof(Listed)));
  if (scratch == nullptr) return false;
  rows->maxima = reinterpret_cast<float*>(scratch);
  rows->num_listed = reinterpret_cast<int32_t*>(scratch + maxima_bytes);
  rows->listed = reinterpret_cast<Listed*>(scratch + maxima_bytes + counts_bytes);
  const LaunchShape shape{dim3(static_cast<unsigned>(num_rows),
                               static_cast<unsigned>((rows->vocab + kSegment - 1) / kSegment)),
                          dim3(kThreads)};
  stream.Launch(shape, MaximaKernel, *rows);
  stream.Launch(shape, FilterKernel, *rows);
  return true;
}

}  // namespace

void Sample(CudaStream& stream, const SampleArgs& args) {
  CheckSampleArgs(args);
  const int64_t rows = args.logits.dim(0);
  const int64_t vocab = args.logits.dim(1);
  if (rows == 0) return;
  Sampling sampling{};
  sampling.rows.logits = args.logits.As<float>();
  sampling.rows.stride = args.logits.strides[0];
  sampling.rows.vocab = static_cast<int>(vocab);
  if (args.bitmask) {
    sampling.rows.bitmask = args.bitmask.As<int32_t>();
    sampling.rows.bitmask_stride = args.bitmask.strides[0];
  }
  sampling.rows.top_k = args.top_k.As<int32_t>();
  sampling.temperature = args.temperature.As<float>();
  sampling.top_p = args.top_p.As<float>();
  sampling.min_p = args.min_p.As<float>();
  sampling.seed = args.seed.As<uint64_t>();
  sampling.counter = args.counter.As<uint64_t>();
  sampling.counter_stride = args.counter.strides[0];
  sampling.out = args.out.As<int32_t>();
  sampling.slots = args.slots.As<int32_t>();
  sampling.last_tokens = args.last_tokens.As<int32_t>();
  if (!ReduceRows(stream, rows, &sampling.rows)) return;
  stream.Launch({dim3(static_cast<unsigned>(rows)), dim3(kRowThreads)}, DrawKernel, sampling);
}

void Logprobs(CudaStream& stream, const LogprobsArgs& args) {
  CheckLogprobsArgs(args);
  const int64_t rows = args.logits.dim(0);
  const int64_t vocab = args.logits.dim(1);
  const int64_t k = args.top_ids ? args.top_ids.dim(1) : 0;
  if (rows == 0) return;
  LogprobsParams params{};
  params.rows.logits = args.logits.As<float>();
  params.rows.stride = args.logits.strides[0];
  params.rows.vocab = static_cast<int>(vocab);
  params.rows.top_k_of_all = static_cast<int32_t>(k);
  params.tokens = args.tokens.As<int32_t>();
  params.chosen = args.chosen.As<float>();
  params.k = static_cast<int>(k);
  if (k > 0) {
    params.top_ids = args.top_ids.As<int32_t>();
    params.ids_stride = args.top_ids.strides[0];
    params.top_logprobs = args.top_logprobs.As<float>();
    params.logprobs_stride = args.top_logprobs.strides[0];
  }
  if (!ReduceRows(stream, rows, &params.rows)) return;
  stream.Launch({dim3(static_cast<unsigned>(rows)), dim3(kRowThreads)}, LogprobsKernel, params);
}

}  // namespace gale::cuda
