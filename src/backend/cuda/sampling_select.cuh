// How one block finds the tokens of a row that a filter keeps, without sorting the row, and draws
// from them. Layer L1b, device side.
#pragma once

#include "backend/cuda/sampling_rows.cuh"

namespace gale::cuda {

/// Order-preserving bits of a float; no NaN.
__device__ __forceinline__ uint32_t OrderedBits(float x) {
  const uint32_t bits = __float_as_uint(x);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}
__device__ __forceinline__ float FromOrderedBits(uint32_t ordered) {
  return __uint_as_float((ordered & 0x80000000U) != 0 ? ordered & 0x7FFFFFFFU : ~ordered);
}

/// Tokens whose OrderedBits are above `bits`, and of those equal to it the ones up to `last_id`.
struct Cut {
  uint32_t bits = 0;
  int32_t last_id = 0x7FFFFFFF;

  __device__ __forceinline__ bool Keeps(uint32_t ordered, int32_t id) const {
    return ordered > bits || (ordered == bits && id <= last_id);
  }
  __device__ __forceinline__ const Cut& lower() const { return *this; }
};

/// A run in the order of likelihood: what `low` keeps without what `above` keeps.
struct Run {
  Cut low;
  Cut above = {0xFFFFFFFFU, -1};

  __device__ __forceinline__ bool Keeps(uint32_t ordered, int32_t id) const {
    return low.Keeps(ordered, id) && !above.Keeps(ordered, id);
  }
  __device__ __forceinline__ const Cut& lower() const { return low; }
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
  double real_sums[kRowWarps];
  float maxima[kRowWarps];
  Mass found;
  int32_t id;
};

/// One row in the hands of one block of kRowThreads: all members are called by all of them. A
/// `Kept` is a Cut or a Run.
class RowSelect {
 public:
  __device__ RowSelect(const Row& logits, DrawShared& shared) : logits_(logits), shared_(shared) {}

 protected:
  /// Calls visit(logit, OrderedBits, id) for what this thread has of the kept ids.
  template <class Kept, class Visit>
  __device__ void ForEach(const Kept& kept, const Visit& visit) const {
    for (int i = threadIdx.x; i < logits_.vocab; i += kRowThreads) {
      const float logit = logits_[i];
      const uint32_t ordered = OrderedBits(logit);
      if (kept.Keeps(ordered, i)) visit(logit, ordered, i);
    }
  }

  template <class Kept, class Weight>
  __device__ Mass Sum(const Kept& kept, const Weight& weight) {
    Mass sum = 0;
    ForEach(kept, [&](float logit, uint32_t, int) { sum += weight(logit); });
    return BlockSum(sum, shared_.sums);
  }

  /// The same in f64; the order of the sum is always the same.
  template <class Kept, class Term>
  __device__ double RealSum(const Kept& kept, const Term& term) {
    double sum = 0;
    ForEach(kept, [&](float logit, uint32_t, int) { sum += term(logit); });
    return BlockSum(sum, shared_.real_sums);
  }

  /// Shrinks `run` to those of its tokens that fit, which are a run too. None: it stays.
  template <class Fits>
  __device__ void Narrow(Run& run, const Fits& fits) {
    uint32_t most = 0;
    uint32_t least = 0xFFFFFFFFU;
    ForEach(run, [&](float logit, uint32_t ordered, int) {
      if (!fits(logit)) return;
      most = max(most, ordered);
      least = min(least, ordered);
    });
    most = static_cast<uint32_t>(BlockMax(most, shared_.sums));
    least = ~static_cast<uint32_t>(BlockMax(~least, shared_.sums));
    if (most < least) return;
    if (least > run.low.bits) run.low = {least, 0x7FFFFFFF};
    if (most < run.above.bits) run.above = {most, -1};
  }

  /// The largest logit of a run.
  __device__ float Best(const Run& run) {
    uint32_t most = 0;
    ForEach(run, [&](float, uint32_t ordered, int) { most = max(most, ordered); });
    return FromOrderedBits(static_cast<uint32_t>(BlockMax(most, shared_.sums)));
  }

  /// The shortest cut inside `outer` whose weights, likeliest tokens first, reach `wanted`; all of
  /// `outer` when they do not.
  template <class Kept, class Weight>
  __device__ Cut FindCut(const Kept& outer, Mass wanted, const Weight& weight) {
    uint32_t bits = 0;
    Mass left = 0;
    const auto likelihood = [](float logit) { return OrderedBits(logit); };
    if (!FindBits(outer, wanted, weight, likelihood, &bits, &left)) return outer.lower();
    return {bits, NthEqual(outer, bits, left, weight)};
  }

  /// Taking tokens by descending `rank`, at which rank their weights reach `wanted`, and what is
  /// still wanted there. False: they do not. Three passes narrow down the 32 bits.
  template <class Kept, class Weight, class Rank>
  __device__ bool FindBits(const Kept& outer, Mass wanted, const Weight& weight, const Rank& rank,
                           uint32_t* bits_found, Mass* left) {
    uint32_t prefix = 0;
    int known_bits = 0;
    *left = wanted;
    while (known_bits < 32) {
      const int bits = min(kBinBits, 32 - known_bits);
      const int shift = 32 - known_bits - bits;
      for (int i = threadIdx.x; i < kBins; i += kRowThreads) shared_.bins[i] = 0;
      if (threadIdx.x == 0) shared_.id = -1;
      __syncthreads();
      ForEach(outer, [&](float logit, uint32_t, int) {
        const uint32_t r = rank(logit);
        if (known_bits != 0 && r >> (32 - known_bits) != prefix) return;
        const Mass w = weight(logit);
        if (w > 0) atomicAdd(&shared_.bins[r >> shift & ((1U << bits) - 1)], w);
      });
      __syncthreads();
      FindBin(*left, 1 << bits);
      const int bin = shared_.id;
      *left = shared_.found;
      __syncthreads();
      if (bin < 0) return false;
      prefix = prefix << bits | static_cast<uint32_t>(bin);
      known_bits += bits;
    }
    *bits_found = prefix;
    return true;
  }

  /// Inverse CDF over ids in ascending order: the range of ids is narrowed down by 32 until it is
  /// one id. Weights are integers, so sums of parts agree exactly. -1: they are all 0.
  template <class Kept, class Weight>
  __device__ int32_t InverseCdf(const Kept& kept, double uniform, const Weight& weight) {
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
        if (kept.Keeps(OrderedBits(logit), i)) sum += weight(logit);
      }
      sum = WarpAdd(sum);
      if (lane == 0) shared_.sums[warp] = sum;
      __syncthreads();
      if (first) {
        Mass total = 0;
        for (int w = 0; w < kRowWarps; ++w) total += shared_.sums[w];
        if (total == 0) return -1;
        target = Target(uniform, total);
      }
      int w = 0;
      while (w + 1 < kRowWarps && target >= shared_.sums[w]) target -= shared_.sums[w++];
      __syncthreads();
      begin += w * share;
      end = min(begin + share, end);
    }
    return begin;
  }

  /// Less than total, which is not 0.
  static __device__ Mass Target(double uniform, Mass total) {
    const Mass target = static_cast<Mass>(uniform * static_cast<double>(total));
    return target < total ? target : total - 1;
  }

  Row logits_;
  DrawShared& shared_;

 private:
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
  template <class Kept, class Weight>
  __device__ int32_t NthEqual(const Kept& outer, uint32_t bits, Mass wanted, const Weight& weight) {
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
};

}  // namespace gale::cuda
