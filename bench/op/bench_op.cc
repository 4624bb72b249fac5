// Times the ops of a back end against what the machine can do: bytes moved and operations done per
// second, beside the read bandwidth and the multiply-add peak of the same run.
//   bench_op [--backend=cpu] [--threads=N] [--runs=7] [--filter=TEXT] [--json]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "backend/registry.h"
#include "base/host_limits.h"
#include "base/status_macros.h"
#include "op/machine_peaks.h"

namespace gale::bench {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string backend = "cpu";
  int threads = 0;
  int runs = 7;
  std::string filter;
  bool json = false;
  std::string command;
};

struct Sample {
  double median = 0;
  double low = 0;
  double high = 0;
};

Sample Summarize(std::vector<double> values) {
  std::ranges::sort(values);
  return {values[values.size() / 2], values.front(), values.back()};
}

/// One op ready to run; the arguments' memory lives in the closure.
struct Work {
  std::string name;
  double bytes = 0;       ///< that must move at least
  double operations = 0;  ///< floating-point, a multiply-add counts two
  std::function<void(int round)> run;
};

/// Seconds per call: `runs` samples of at least 30 ms, after one to warm up.
Sample Time(const Work& work, Stream& stream, int runs) {
  constexpr double kSampleSeconds = 0.03;
  int calls = 1;
  int round = 0;
  std::vector<double> seconds;
  while (std::ssize(seconds) < runs) {
    const auto begin = Clock::now();
    for (int i = 0; i < calls; ++i) work.run(round++);
    if (!stream.Synchronize()) std::abort();
    const double elapsed = std::chrono::duration<double>(Clock::now() - begin).count();
    if (elapsed < kSampleSeconds) {
      calls = std::max(calls + 1,
                       static_cast<int>(calls * 1.3 * kSampleSeconds / std::max(elapsed, 1e-6)));
      seconds.clear();
    } else {
      seconds.push_back(elapsed / calls);
    }
  }
  return Summarize(std::move(seconds));
}

/// Device memory holding small numbers of `dtype` (no denormals, no overflow).
class Tensors {
 public:
  Tensors(Backend& backend, Stream& stream) : backend_(backend), stream_(stream) {}

  TensorView Make(DType dtype, std::initializer_list<int64_t> dims) {
    TensorView view(nullptr, dtype, dims);
    view.data = Fill(view.Bytes(), dtype);
    return view;
  }
  TensorView Ints(std::vector<int32_t> values, std::initializer_list<int64_t> dims) {
    TensorView view(Fill(values.size() * sizeof(int32_t), DType::kI32), DType::kI32, dims);
    backend_.Copy(stream_, view.data, values.data(), view.Bytes());
    return view;
  }

 private:
  void* Fill(size_t bytes, DType dtype) {
    auto buffer = backend_.Allocate(bytes, MemoryKind::kDevice);
    if (!buffer) {
      std::fprintf(stderr, "%s\n", buffer.error().message.c_str());
      std::exit(1);
    }
    // 0x3C3C... is 0.0115 in f32 and bf16 and 1.06 in f16.
    const std::vector<char> pattern(bytes, dtype == DType::kI32 ? 0 : 0x3C);
    backend_.Copy(stream_, buffer->data(), pattern.data(), bytes);
    buffers_.push_back(std::make_shared<Buffer>(*std::move(buffer)));
    return buffers_.back()->data();
  }

  Backend& backend_;
  Stream& stream_;
  std::vector<std::shared_ptr<Buffer>> buffers_;
};

class Bench {
 public:
  Bench(Backend& backend, Options options)
      : backend_(backend), stream_(backend.CreateStream()), options_(std::move(options)) {}

  void Run() {
    threads_ = options_.threads > 0 ? options_.threads : AvailableCpus();
    MeasurePeaks();
    PrintHeader();
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      for (const int64_t out : {2048, 8192}) {
        for (const int64_t rows : {1, 8, 16, 64, 128, 512}) Linear(dtype, rows, 2048, out);
      }
      for (const int64_t tokens : {1, 512}) {
        RmsNorm(dtype, tokens, 2048);
        QkvRope(dtype, tokens);
        SiluMul(dtype, tokens, 8192);
      }
      Attention(dtype, 1, 4096);
      Attention(dtype, 512, 512);
    }
    for (const bool filtered : {false, true}) Sampling(1, 151936, filtered);
    Logprobs(1, 151936);
    MeasurePeaks();  // before and after: a noisy machine shows itself
    if (options_.json) std::puts(boost::json::serialize(Report()).c_str());
  }

 private:
  bool Wanted(const std::string& name) const {
    return name.find(options_.filter) != std::string::npos;
  }

  void MeasurePeaks() {
    for (int i = 0; i < options_.runs; ++i) {
      bandwidth_.push_back(ReadBandwidth(threads_));
      peak_.push_back(FmaPeak(threads_));
    }
  }

  void PrintHeader() const {
    if (options_.json) return;
    const Sample bandwidth = Summarize(bandwidth_);
    const Sample peak = Summarize(peak_);
    fmt::print(
        "{}\nread {:.1f} GB/s ({:.1f} to {:.1f}), multiply-add {:.0f} GFLOP/s ({:.0f} to "
        "{:.0f})\n\n",
        backend_.info().description, bandwidth.median / 1e9, bandwidth.low / 1e9,
        bandwidth.high / 1e9, peak.median / 1e9, peak.low / 1e9, peak.high / 1e9);
    fmt::print("{:<34} {:>11} {:>21} {:>9} {:>6} {:>9} {:>6}\n", "op", "median us", "spread us",
               "GB/s", "of rd", "GFLOP/s", "of pk");
  }

  void Report(const Work& work) {
    const Sample time = Time(work, *stream_, options_.runs);
    const double bandwidth = work.bytes / time.median;
    const double rate = work.operations / time.median;
    results_.push_back(boost::json::object{{"op", work.name},
                                           {"median_us", time.median * 1e6},
                                           {"low_us", time.low * 1e6},
                                           {"high_us", time.high * 1e6},
                                           {"bytes", work.bytes},
                                           {"operations", work.operations},
                                           {"bytes_per_s", bandwidth},
                                           {"flop_per_s", rate}});
    if (options_.json) return;
    fmt::print("{:<34} {:>11.1f} {:>10.1f}-{:<10.1f} {:>9.2f} {:>5.0f}% {:>9.1f} {:>5.0f}%\n",
               work.name, time.median * 1e6, time.low * 1e6, time.high * 1e6, bandwidth / 1e9,
               100 * bandwidth / Summarize(bandwidth_).median, rate / 1e9,
               100 * rate / Summarize(peak_).median);
    std::fflush(stdout);
  }

  boost::json::object Report() const {
    const auto machine = [](const Sample& s) {
      return boost::json::object{{"median", s.median}, {"low", s.low}, {"high", s.high}};
    };
    return {{"device", backend_.info().description},
            {"threads", threads_},
            {"runs", options_.runs},
            {"command", options_.command},
            {"read_bytes_per_s", machine(Summarize(bandwidth_))},
            {"fma_flop_per_s", machine(Summarize(peak_))},
            {"ops", results_}};
  }

  /// Calls take turns over copies of the weight, so that it comes from memory as in a real model.
  void Linear(DType dtype, int64_t rows, int64_t in, int64_t out) {
    const std::string name =
        fmt::format("linear {} {} x {} -> {}", DTypeName(dtype), rows, in, out);
    if (!Wanted(name)) return;
    Tensors tensors(backend_, *stream_);
    const QuantFormat format{BlockCode::kNone, dtype};
    const LinearKernel* kernel =
        backend_.FindLinear({format, in, out, dtype, Numerics::kBatchInvariant});
    const auto bytes = static_cast<double>(static_cast<size_t>(in * out) * DTypeBytes(dtype));
    constexpr double kBeyondCaches = 256e6;
    const int copies = rows > 64 ? 2 : static_cast<int>(kBeyondCaches / bytes) + 1;
    std::vector<std::vector<char>> weights;
    std::vector<PackedLinear> packed;
    for (int i = 0; i < copies; ++i) {
      weights.emplace_back(static_cast<size_t>(bytes), 0x3C);
      packed.push_back(
          *kernel->Prepare({format, in, out, TensorView(weights.back().data(), dtype, {out, in})}));
    }
    const TensorView x = tensors.Make(dtype, {rows, in});
    const TensorView y = tensors.Make(dtype, {rows, out});
    const double activations =
        static_cast<double>(rows * (in + out)) * static_cast<double>(DTypeBytes(dtype));
    Report({name, bytes + activations, 2.0 * static_cast<double>(rows * in * out), [&](int round) {
              kernel->Run(*stream_, {x, &packed[static_cast<size_t>(round % copies)], {}, y});
            }});
  }

  void RmsNorm(DType dtype, int64_t tokens, int64_t hidden) {
    const std::string name = fmt::format("rms_norm {} {} x {}", DTypeName(dtype), tokens, hidden);
    if (!Wanted(name)) return;
    Tensors tensors(backend_, *stream_);
    const RmsNormArgs args{.x = tensors.Make(dtype, {tokens, hidden}),
                           .weight = tensors.Make(dtype, {hidden}),
                           .residual = tensors.Make(dtype, {tokens, hidden}),
                           .out = tensors.Make(dtype, {tokens, hidden})};
    Report({name, 4.0 * static_cast<double>(args.x.Bytes()),
            5.0 * static_cast<double>(tokens * hidden),
            [&](int) { backend_.RmsNorm(*stream_, args); }});
  }

  void QkvRope(DType dtype, int64_t tokens) {
    const std::string name =
        fmt::format("qkv_rope {} {} x 16+2*8 heads of 128", DTypeName(dtype), tokens);
    if (!Wanted(name)) return;
    Tensors tensors(backend_, *stream_);
    QkvRopeArgs args;
    args.q_heads = 16;
    args.kv_heads = 8;
    args.head_dim = 128;
    args.qkv = tensors.Make(dtype, {tokens, int64_t{32} * args.head_dim});
    args.positions = tensors.Ints(std::vector<int32_t>(static_cast<size_t>(tokens), 7), {tokens});
    args.q_norm = args.k_norm = tensors.Make(dtype, {args.head_dim});
    args.inv_freq = tensors.Make(DType::kF32, {args.head_dim / 2});
    const auto rotated = static_cast<double>(tokens * 24 * args.head_dim);
    Report({name, 2 * rotated * static_cast<double>(DTypeBytes(dtype)), 8 * rotated,
            [&](int) { backend_.QkvRope(*stream_, args); }});
  }

  void SiluMul(DType dtype, int64_t tokens, int64_t n) {
    const std::string name = fmt::format("silu_mul {} {} x {}", DTypeName(dtype), tokens, n);
    if (!Wanted(name)) return;
    Tensors tensors(backend_, *stream_);
    const SiluMulArgs args{tensors.Make(dtype, {tokens, 2 * n}), tensors.Make(dtype, {tokens, n})};
    Report({name, 1.5 * static_cast<double>(args.gate_up.Bytes()),
            5.0 * static_cast<double>(tokens * n), [&](int) { backend_.SiluMul(*stream_, args); }});
  }

  /// One sequence, its last `queries` positions, 16 query heads on 8 kv heads of 128.
  void Attention(DType dtype, int queries, int positions) {
    const std::string name =
        fmt::format("attention {} {} of {}", DTypeName(dtype), queries, positions);
    if (!Wanted(name)) return;
    constexpr int kBlockTokens = 16;
    Tensors tensors(backend_, *stream_);
    const AttentionSpec spec{.layers = 1,
                             .q_heads = 16,
                             .kv_heads = 8,
                             .head_dim = 128,
                             .scale = 0.088F,
                             .dtype = dtype,
                             .kv = dtype};
    const auto attention = backend_.CreateAttention(spec);
    const int64_t blocks = positions / kBlockTokens;
    const TensorView pool = tensors.Make(
        DType::kU8, {blocks, static_cast<int64_t>(attention->BytesPerBlock(kBlockTokens))});
    attention->BindCache({pool, kBlockTokens});
    std::vector<int32_t> table(static_cast<size_t>(blocks));
    for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(i);
    std::vector<int32_t> slots(static_cast<size_t>(queries));
    for (int i = 0; i < queries; ++i) slots[static_cast<size_t>(i)] = positions - queries + i;
    const std::vector<int32_t> cu_seqlens = {0, queries};
    const std::vector<int32_t> upper = {positions};
    attention->Plan(*stream_, {cu_seqlens, upper, tensors.Ints({positions}, {1}),
                               tensors.Ints(table, {1, blocks}), tensors.Ints(slots, {queries})});
    const TensorView q = tensors.Make(dtype, {queries, spec.q_heads, spec.head_dim});
    const TensorView out = tensors.Make(dtype, {queries, spec.q_heads, spec.head_dim});
    const double pairs = queries * (positions - queries + (queries + 1) / 2.0);
    Report({name, static_cast<double>(pool.Bytes() + q.Bytes() + out.Bytes()),
            4.0 * pairs * spec.q_heads * spec.head_dim,
            [&](int) { attention->Run(*stream_, {0, q, out}); }});
  }

  void Sampling(int64_t rows, int64_t vocab, bool filtered) {
    const std::string name =
        fmt::format("sample {} x {} {}", rows, vocab, filtered ? "top-k 40 top-p .9" : "plain");
    if (!Wanted(name)) return;
    Tensors tensors(backend_, *stream_);
    const int32_t top_k = filtered ? 40 : 0;
    const TensorView ones = tensors.Make(DType::kF32, {rows});
    const SampleArgs args{
        .logits = tensors.Make(DType::kF32, {rows, vocab}),
        .temperature = ones,
        .top_k = tensors.Ints(std::vector<int32_t>(static_cast<size_t>(rows), top_k), {rows}),
        .top_p = ones,
        .min_p = tensors.Make(DType::kF32, {rows}),
        .seed = tensors.Make(DType::kU64, {rows}),
        .counter = tensors.Make(DType::kU64, {rows, 2}),
        .bitmask = {},
        .out = tensors.Make(DType::kI32, {rows})};
    std::vector<float> logits(static_cast<size_t>(rows * vocab));
    for (size_t i = 0; i < logits.size(); ++i)
      logits[i] = static_cast<float>(i * 2654435761U % 100003) * 1e-4F;
    backend_.Copy(*stream_, args.logits.data, logits.data(), args.logits.Bytes());
    const std::vector<float> probability(static_cast<size_t>(rows), filtered ? 0.9F : 1.0F);
    backend_.Copy(*stream_, args.top_p.data, probability.data(), args.top_p.Bytes());
    Report({name, static_cast<double>(args.logits.Bytes()), 0,
            [&](int) { backend_.Sample(*stream_, args); }});
  }

  void Logprobs(int64_t rows, int64_t vocab) {
    const std::string name = fmt::format("logprobs {} x {} top 20", rows, vocab);
    if (!Wanted(name)) return;
    Tensors tensors(backend_, *stream_);
    const LogprobsArgs args{tensors.Make(DType::kF32, {rows, vocab}),
                            tensors.Make(DType::kI32, {rows}), tensors.Make(DType::kF32, {rows}),
                            tensors.Make(DType::kI32, {rows, 20}),
                            tensors.Make(DType::kF32, {rows, 20})};
    Report({name, static_cast<double>(args.logits.Bytes()), 0,
            [&](int) { backend_.Logprobs(*stream_, args); }});
  }

  Backend& backend_;
  std::unique_ptr<Stream> stream_;
  Options options_;
  int threads_ = 1;
  std::vector<double> bandwidth_;
  std::vector<double> peak_;
  boost::json::array results_;
};

/// Empty when the flag is not `name`.
std::string_view ValueOf(std::string_view arg, std::string_view name) {
  return arg.starts_with(name) ? arg.substr(name.size()) : std::string_view();
}

Result<Options> ParseOptions(int argc, char** argv) {
  Options options;
  options.command = argv[0];
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    options.command += fmt::format(" {}", arg);
    if (arg == "--json") {
      options.json = true;
    } else if (const auto backend = ValueOf(arg, "--backend="); !backend.empty()) {
      options.backend = backend;
    } else if (const auto filter = ValueOf(arg, "--filter="); !filter.empty()) {
      options.filter = filter;
    } else if (const auto threads = ValueOf(arg, "--threads="); !threads.empty()) {
      options.threads = std::atoi(threads.data());
    } else if (const auto runs = ValueOf(arg, "--runs="); !runs.empty()) {
      options.runs = std::max(5, std::atoi(runs.data()));  // a median of fewer says little
    } else {
      return MakeError(
          ErrorCode::kInvalidArgument,
          fmt::format("unknown argument {}; known: --backend= --threads= --runs= --filter= --json",
                      arg));
    }
  }
  return options;
}

Status Main(int argc, char** argv) {
  GALE_ASSIGN_OR_RETURN(const Options options, ParseOptions(argc, argv));
  GALE_ASSIGN_OR_RETURN(const std::unique_ptr<Backend> backend,
                        CreateBackend(options.backend, {.threads = options.threads}));
  Bench(*backend, options).Run();
  return {};
}

}  // namespace
}  // namespace gale::bench

int main(int argc, char** argv) {
  const gale::Status status = gale::bench::Main(argc, argv);
  if (status) return 0;
  std::fprintf(stderr, "%s\n", status.error().message.c_str());
  return 2;
}
