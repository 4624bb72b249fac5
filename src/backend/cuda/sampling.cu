// Draws from rows of logits; equal to the CPU's on equal logits but for the last bits of exp. Rows
// are independent and nothing depends on scheduling: masses are summed as integers, and lists
// filled in any order are ranked before they are used. One block a row draws from the short list of
// its likeliest tokens (sampling_rows.cu), or from the whole row when there is none: no top-k, many
// ties, or a filter that few requests use.
#include "backend/cuda/sampling_select.cuh"
#include "backend/logits_edit.h"
#include "backend/op_checks.h"

namespace gale::cuda {
namespace {

struct Rare {
  const float* top_n_sigma;
  const float* typical_p;
  const float* xtc_probability;
  const float* xtc_threshold;
  const float* mirostat_tau;
  const float* mirostat_eta;
  float* mirostat_mu;
  float* mu_out;

  __device__ bool IsUsed(int64_t row) const {
    return top_n_sigma[row] > 0 || typical_p[row] < 1 || xtc_probability[row] > 0 ||
           mirostat_tau[row] > 0;
  }
};

struct Sampling {
  LogitsRows rows;
  const float* temperature;
  const float* top_p;
  const float* min_p;
  const uint64_t* seed;
  const uint64_t* counter;
  int64_t counter_stride;
  const int32_t* token_ids;  // null: columns are tokens
  int32_t* out;
  const int32_t* slots;  // null: no scatter
  int32_t* last_tokens;
  int32_t* history;  // null: none
  int64_t history_stride;
  Rare rare;
};

template <bool kRare>
class RowDraw : public RowSelect {
 public:
  __device__ RowDraw(const Sampling& s, int64_t row, DrawShared& shared)
      : RowSelect(Row(s.rows, row), shared), s_(s), row_(row) {}

  __device__ int32_t Draw() {
    max_ = RowMax(s_.rows, row_, shared_.maxima);
    const float temperature = s_.temperature[row_];
    if (!(temperature > 0) || !isfinite(max_)) return ArgMax();
    // A denormal temperature would make it infinite, and 0 * inf is not a number.
    inverse_temperature_ = fminf(1.0F / temperature, 1e30F);
    uniform_ = Uniform(RandomStream::kSample);
    const int k = s_.rows.top_k[row_];
    const bool cut_by_k = k > 0 && k < logits_.vocab;
    if constexpr (kRare) {
      if (s_.rare.IsUsed(row_)) return DrawThroughRareFilters(cut_by_k ? k : 0);
    }
    const int listed = s_.rows.num_listed[row_];
    if (cut_by_k && listed <= kMaxListed) return DrawFromList(min(k, listed), listed);
    return DrawFromRow(cut_by_k ? k : 0);
  }

 private:
  __device__ double Uniform(RandomStream stream) const {
    const uint64_t* counter = s_.counter + row_ * s_.counter_stride;
    const uint64_t high = stream == RandomStream::kSample ? counter[1]  // as the caller chose it
                                                          : InStream(counter[1], stream);
    return UniformDouble(s_.seed[row_], counter[0], high);
  }

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

  __device__ float Scaled(float logit) const { return (logit - max_) * inverse_temperature_; }
  __device__ Mass WeightOf(float logit) const {
    return __float2ull_rn(expf(Scaled(logit)) * kMassScale);
  }
  __device__ bool PassesMinP(float logit) const { return expf(Scaled(logit)) >= s_.min_p[row_]; }
  /// The mass at which a share of all is reached.
  static __device__ Mass Wanted(float share, Mass total) {
    return static_cast<Mass>(static_cast<double>(share) * static_cast<double>(total));
  }

  /// From the first k of n listed tokens. Masses are of ids in ascending order, as on the CPU.
  __device__ int32_t DrawFromList(int k, int n) {
    LoadRanked(s_.rows, row_, n, shared_.unsorted, shared_.ranked);
    const int i = static_cast<int>(threadIdx.x);
    const Mass weight = i < k ? WeightOf(shared_.ranked[i].logit) : 0;
    if (i < k) shared_.weight[i] = weight;
    const Mass wanted = Wanted(s_.top_p[row_], BlockSum(weight, shared_.sums));
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
    const Mass target = Target(uniform_, total);
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

  __device__ int32_t DrawFromRow(int k) {
    Cut cut;
    if (k > 0) cut = FindCut(cut, static_cast<Mass>(k), [](float) { return Mass{1}; });
    if (s_.top_p[row_] < 1) {
      const auto weight = [this](float logit) { return WeightOf(logit); };
      const Mass wanted = Wanted(s_.top_p[row_], Sum(cut, weight));
      cut = FindCut(cut, wanted > 0 ? wanted : 1, weight);
    }
    const auto weight = [this](float logit) { return PassesMinP(logit) ? WeightOf(logit) : 0; };
    const int32_t id = InverseCdf(cut, uniform_, weight);
    return id >= 0 ? id : ArgMax();
  }

  __device__ int32_t DrawThroughRareFilters(int k) {
    const auto weight = [this](float logit) { return WeightOf(logit); };
    Run run;
    if (s_.rare.top_n_sigma[row_] > 0) KeepNearMaximum(run);
    if (k > 0) run.low = FindCut(run, static_cast<Mass>(k), [](float) { return Mass{1}; });
    if (s_.rare.typical_p[row_] < 1) KeepTypical(run);
    if (s_.top_p[row_] < 1) {
      const Mass wanted = Wanted(s_.top_p[row_], Sum(run, weight));
      run.low = FindCut(run, wanted > 0 ? wanted : 1, weight);
    }
    if (s_.min_p[row_] > 0) KeepAtLeast(run, s_.min_p[row_] * WeightOf(Best(run)));
    if (Uniform(RandomStream::kXtc) < s_.rare.xtc_probability[row_]) ExcludeTopChoices(run);
    const Mass total = Sum(run, weight);
    const bool adapts = s_.rare.mirostat_tau[row_] > 0;
    float* mu = adapts ? s_.rare.mirostat_mu + s_.slots[row_] : nullptr;
    if (adapts) {
      const double least = static_cast<double>(total) * exp2(-static_cast<double>(*mu));
      KeepAtLeast(run, fmin(least, static_cast<double>(WeightOf(Best(run)))));
    }
    const int32_t id = InverseCdf(run, uniform_, weight);
    if (id < 0) return ArgMax();
    if (adapts && threadIdx.x == 0) {
      const double surprise =
          log2(static_cast<double>(total) / static_cast<double>(WeightOf(logits_[id])));
      *mu -=
          static_cast<float>(s_.rare.mirostat_eta[row_] * (surprise - s_.rare.mirostat_tau[row_]));
    }
    return id;
  }

  __device__ void KeepAtLeast(Run& run, double mass) {
    Narrow(run, [=, this](float logit) { return static_cast<double>(WeightOf(logit)) >= mass; });
  }

  __device__ void KeepNearMaximum(Run& run) {
    const auto each = [](auto term) {
      return [=](float x) { return x > kBannedLogit ? term(x) : 0.0; };
    };
    const double count = RealSum(run, each([](float) { return 1.0; }));
    const double mean = RealSum(run, each([](float x) { return double{x}; })) / count;
    const double squares = RealSum(run, each([=](float x) { return (x - mean) * (x - mean); }));
    const auto least = static_cast<float>(max_ - s_.rare.top_n_sigma[row_] * sqrt(squares / count));
    Narrow(run, [=](float logit) { return logit >= least; });
  }

  /// With y = Scaled(logit), a token's surprise is log(sum of e^y) - y and the entropy
  /// log(sum of e^y) - mean of y: what tells them apart is how far y is from its mean.
  __device__ void KeepTypical(Run& run) {
    const auto weight = [this](float logit) { return WeightOf(logit); };
    const Mass total = Sum(run, weight);
    const double sum = RealSum(run, [this](float logit) {
      const Mass w = WeightOf(logit);
      return w > 0 ? static_cast<double>(w) * Scaled(logit) : 0.0;
    });
    const auto mean = static_cast<float>(sum / static_cast<double>(total));
    const auto closeness = [=, this](float logit) {
      return OrderedBits(-fabsf(Scaled(logit) - mean));
    };
    const Mass wanted = Wanted(s_.rare.typical_p[row_], total);
    uint32_t last = 0;
    Mass left = 0;
    if (!FindBits(run, wanted > 0 ? wanted : 1, weight, closeness, &last, &left)) return;
    Narrow(run, [=](float logit) { return closeness(logit) >= last; });
  }

  __device__ void ExcludeTopChoices(Run& run) {
    const auto weight = [this](float logit) { return WeightOf(logit); };
    const double least = s_.rare.xtc_threshold[row_] * static_cast<double>(Sum(run, weight));
    Mass count = 0;
    Mass last = ~Mass{0};  // in the order of likelihood: bits, then the complement of the id
    ForEach(run, [&](float logit, uint32_t ordered, int id) {
      if (static_cast<double>(WeightOf(logit)) < least) return;
      ++count;
      last = min(last, Mass{ordered} << 32 | ~static_cast<uint32_t>(id));
    });
    count = BlockSum(count, shared_.sums);
    last = ~BlockMax(~last, shared_.sums);
    if (count < 2) return;
    run.above = {static_cast<uint32_t>(last >> 32),
                 static_cast<int32_t>(~static_cast<uint32_t>(last)) - 1};
  }

  const Sampling& s_;
  int64_t row_;
  float max_ = 0;
  float inverse_temperature_ = 1;
  double uniform_ = 0;
};

/// Blocks: a row each.
template <bool kRare>
__global__ void __launch_bounds__(kRowThreads) DrawKernel(Sampling s) {
  __shared__ DrawShared shared;
  LaunchDependents();
  WaitForPrerequisites();
  const int64_t row = blockIdx.x;
  int32_t id = RowDraw<kRare>(s, row, shared).Draw();
  if (threadIdx.x != 0) return;
  if (s.token_ids != nullptr) id = s.token_ids[id];
  s.out[row] = id;
  if (s.slots == nullptr || s.slots[row] < 0) return;
  const int64_t slot = s.slots[row];
  s.last_tokens[slot] = id;
  if (s.history != nullptr) {
    s.history[slot * s.history_stride + static_cast<int64_t>(s.counter[row * s.counter_stride])] =
        id;
  }
  if constexpr (kRare) s.rare.mu_out[row] = s.rare.mirostat_mu[slot];
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
  sampling.token_ids = args.token_ids.As<int32_t>();
  sampling.out = args.out.As<int32_t>();
  sampling.slots = args.slots.As<int32_t>();
  sampling.last_tokens = args.last_tokens.As<int32_t>();
  if (args.history) {
    sampling.history = args.history.As<int32_t>();
    sampling.history_stride = args.history.strides[0];
  }
  if (!ReduceRows(stream, rows, &sampling.rows)) return;
  const LaunchShape shape{dim3(static_cast<unsigned>(rows)), dim3(kRowThreads)};
  if (!args.rare.top_n_sigma) {
    stream.Launch(shape, DrawKernel<false>, sampling);
    return;
  }
  const RareFilters& rare = args.rare;
  sampling.rare = {rare.top_n_sigma.As<float>(),     rare.typical_p.As<float>(),
                   rare.xtc_probability.As<float>(), rare.xtc_threshold.As<float>(),
                   rare.mirostat_tau.As<float>(),    rare.mirostat_eta.As<float>(),
                   rare.mirostat_mu.As<float>(),     rare.mu_out.As<float>()};
  stream.Launch(shape, DrawKernel<true>, sampling);
}

}  // namespace gale::cuda
