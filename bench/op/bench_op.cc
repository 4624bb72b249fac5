// Times the ops of a back end against what the device can do: bytes moved and operations done per
// second, beside the read bandwidth and the multiply-add peak of the same run. --help says more.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "backend/device_speed.h"
#include "backend/kv_format.h"
#include "backend/registry.h"
#include "base/status_macros.h"
#include "gale/model_info.h"
#include "op/decoder_step.h"
#include "op/quant_weight.h"
#include "tensor/ggml_quantize.h"
#include "weights/dummy_weights.h"
#include "weights/param_builder.h"

namespace gale::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kBeyondCaches = 256e6;  // bytes; an H200 caches 60 MB
constexpr char kHelp[] =
    R"(Times each op of a back end against the limits of the device, measured before and after:
  GB/s, of rd     bytes that the op must move, over the time; as a share of the read bandwidth
  TFLOP/s, of pk  operations, a multiply-add counting two; as a share of the multiply-add peak
Weights and keys and values take turns over copies of 256 MB together, so that they come from memory
as in a real model. Weights are normal numbers of deviation 1/sqrt(inputs). On a GPU 64 calls are a
graph, so that launching is no part of the time.

"decoder" lines are whole steps of a model: S sequences x R new tokens each, to the logits of all
rows; "fused" by the back end's fused decoder, "ops" one op after the other.

  --backend=NAME   cpu, cuda or auto (default cpu)
  --threads=N      of the CPU (default: all this process may use)
  --runs=N         samples of each op, at least 5 (default 7); median and range are shown
  --batch-invariant  linear layers and attention whose sums do not depend on what else is in the
                   batch (a GPU's need not)
  --filter=TEXT    only ops whose name contains TEXT
  --models=A,B     presets for the decoder lines (default on a GPU: qwen2.5-1.5b,llama3-8b)
  --json[=FILE]    as JSON: to FILE beside the table, or to standard output instead of it

A table from a device that is far slower than its kind (an H200 that reads under 4,400 GB/s or
multiplies under 700 TFLOP/s) is marked VOID.
)";

struct Options {
  std::string backend = "cpu";
  int threads = 0;
  int runs = 7;
  std::string filter;
  Numerics numerics = Numerics::kFast;  ///< of linear layers and attention
  std::vector<std::string> models;
  bool json = false;      ///< to standard output, in place of the table
  std::string json_file;  ///< beside the table
  bool help = false;
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

/// Errors end the program: there is nothing to measure without memory.
template <class T>
T Must(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "%s\n", result.error().message.c_str());
    std::exit(1);
  }
  return *std::move(result);
}

void Check(Status status) {
  Must<bool>(std::move(status).map([] { return true; }));
}

/// Device memory holding normal numbers.
class Tensors {
 public:
  Tensors(Backend& backend, Stream& stream, DummyWeights& numbers)
      : backend_(backend), stream_(stream), numbers_(numbers) {}

  TensorView Make(DType dtype, std::initializer_list<int64_t> dims, float std = 1, float mean = 0) {
    TensorView view(nullptr, dtype, dims);
    view.data = Allocate(view.Bytes());
    const std::string name = fmt::format("{}", buffers_.size());
    numbers_.Fill({.name = name, .seed = 1, .mean = mean, .std = std}, view);
    return view;
  }
  /// As LinearWeight has them; on a device with host memory.
  TensorView MakeBlocks(GgmlType type, int64_t rows, int64_t columns, float std) {
    const TensorView numbers = Make(DType::kF32, {rows, columns}, std);
    TensorView blocks(nullptr, DType::kU8, {rows, GgmlRowBytes(type, columns)});
    blocks.data = Allocate(blocks.Bytes());
    for (int64_t i = 0; i < rows * columns; i += kGgmlBlockElements) {
      QuantizeBlock(
          type, numbers.As<float>() + i,
          static_cast<std::byte*>(blocks.data) + i / kGgmlBlockElements * GgmlBlockBytes(type));
    }
    return BlockRows(blocks, columns);
  }
  template <class T>
  TensorView Array(DType dtype, const std::vector<T>& values, std::initializer_list<int64_t> dims) {
    const TensorView view(Allocate(values.size() * sizeof(T)), dtype, dims);
    backend_.Copy(stream_, view.data, values.data(), view.Bytes());
    Check(stream_.Synchronize());  // the host's values go away
    return view;
  }
  TensorView Ints(const std::vector<int32_t>& values, std::initializer_list<int64_t> dims) {
    return Array(DType::kI32, values, dims);
  }

 private:
  void* Allocate(size_t bytes) {
    buffers_.push_back(Must(backend_.Allocate(bytes, MemoryKind::kDevice)));
    return buffers_.back().data();
  }

  Backend& backend_;
  Stream& stream_;
  DummyWeights& numbers_;
  std::vector<Buffer> buffers_;
};

class Bench {
 public:
  Bench(Backend& backend, Options options)
      : backend_(backend),
        stream_(backend.CreateStream()),
        numbers_(Must(DummyWeights::Create(backend, *stream_))),
        options_(std::move(options)) {}

  void Run() {
    MeasureLimits();
    if (!options_.json) PrintHeader();
    for (const LinearShape& shape : LinearShapes()) {
      for (const int64_t rows : {1, 8, 16, 32, 64, 128, 256, 512, 2048}) Linear(shape, rows);
    }
    for (const NamedQuantFormat& format : QuantFormats()) {
      for (const int64_t rows : {1, 8, 16, 32, 64, 128, 256, 512, 2048}) {
        QuantLinear(format, rows, 1536, 17920);
        if (!backend_.info().is_host_memory) QuantLinear(format, rows, 14336, 4096);
      }
    }
    for (const int64_t rows : {128, 512, 2048}) {
      GatedLinear(rows, 1536, 17920);
      if (!backend_.info().is_host_memory) GatedLinear(rows, 4096, 28672);
    }
    for (const int64_t tokens : {1, 8, 32, 64, 512}) Experts(tokens);
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      for (const int64_t tokens : {1, 512}) {
        RmsNorm(dtype, tokens, 2048);
        QkvRope(dtype, tokens);
        GatedActivation(dtype, tokens, 8192);
      }
      Attention(dtype, {"1 of 4096", 16, 8, {4096}, 1});
      Attention(dtype, {"512 of 512", 16, 8, {512}, 512});
    }
    if (backend_.info().is_host_memory) {
      Attention(DType::kBf16, {"1 of 32k", 12, 2, {32768}, 1});
      Attention(DType::kBf16, {"1 of 32k in int8", 12, 2, {32768}, 1, KvFormat::kInt8});
      Attention(DType::kBf16, {"1 of 32k in fp8", 12, 2, {32768}, 1, KvFormat::kFp8});
      Attention(DType::kBf16, {"1 of 32k in int4", 12, 2, {32768}, 1, KvFormat::kInt4});
    } else {
      LargeAttention();
    }
    for (const int64_t rows : {1, 16}) {
      for (const bool filtered : {false, true}) Sampling(rows, 151936, filtered);
    }
    Logprobs(1, 151936);
    for (const std::string& model : Models()) Decoders(model);
    MeasureLimits();  // before and after: a noisy machine shows itself
    Finish();
  }

 private:
  struct LinearShape {
    DType dtype;
    int64_t in;
    int64_t out;
    GgmlType blocks = GgmlType::kNone;  ///< in place of elements; activations are `dtype`
  };

  /// On the CPU small ones; on a GPU those of Qwen2.5-1.5B and Llama-3-8B too.
  std::vector<LinearShape> LinearShapes() const {
    std::vector<LinearShape> shapes = {{DType::kF32, 2048, 2048},
                                       {DType::kF32, 2048, 8192},
                                       {DType::kBf16, 2048, 2048},
                                       {DType::kBf16, 2048, 8192}};
    if (backend_.info().is_host_memory) {
      for (const GgmlType blocks : {GgmlType::kNone, GgmlType::kQ8_0, GgmlType::kQ4_0}) {
        shapes.push_back({DType::kBf16, 1536, 17920, blocks});
        shapes.push_back({DType::kBf16, 8960, 1536, blocks});
      }
      return shapes;
    }
    for (const auto& [in, out] : {std::pair(1536, 2048),
                                  {1536, 17920},
                                  {8960, 1536},
                                  {1536, 151936},
                                  {4096, 6144},
                                  {4096, 28672},
                                  {14336, 4096},
                                  {4096, 128256}}) {
      shapes.push_back({DType::kBf16, in, out});
    }
    return shapes;
  }

  bool Wanted(const std::string& name) const {
    return name.find(options_.filter) != std::string::npos;
  }

  void MeasureLimits() {
    const size_t gib = backend_.info().is_host_memory ? 1 : 3;  // a GPU's cache must not count
    for (int i = 0; i < options_.runs; ++i) {
      const DeviceSpeed speed = Must(MeasureDeviceSpeed(backend_, gib << 30));
      bandwidth_.push_back(speed.read_bytes_per_s);
      peak_.push_back(speed.product_flop_per_s);
    }
  }

  std::string Limits() const {
    const Sample bandwidth = Summarize(bandwidth_);
    const Sample peak = Summarize(peak_);
    return fmt::format(
        "read {:.1f} GB/s ({:.1f} to {:.1f}), multiply-add {:.3f} TFLOP/s ({:.3f} to {:.3f})",
        bandwidth.median / 1e9, bandwidth.low / 1e9, bandwidth.high / 1e9, peak.median / 1e12,
        peak.low / 1e12, peak.high / 1e12);
  }

  std::string WhyVoid() const {
    return TooSlow(backend_.info().description, {.read_bytes_per_s = Summarize(bandwidth_).median,
                                                 .product_flop_per_s = Summarize(peak_).median});
  }

  void PrintHeader() const {
    fmt::print("{}\n{}\n\n{:<34} {:>11} {:>21} {:>9} {:>6} {:>9} {:>6}\n",
               backend_.info().description, Limits(), "op", "median us", "spread us", "GB/s",
               "of rd", "TFLOP/s", "of pk");
  }

  void Finish() const {
    const std::string report = boost::json::serialize(Report());
    if (options_.json) {
      std::puts(report.c_str());
      return;
    }
    fmt::print("\n{}\n", Limits());
    if (const std::string reason = WhyVoid(); !reason.empty()) fmt::print("VOID: {}\n", reason);
    if (!options_.json_file.empty()) std::ofstream(options_.json_file) << report << '\n';
  }

  /// Seconds per call: `runs` samples of at least 30 ms. On a device with graphs they hold a number
  /// of calls each, so that the host's launching is no part of the time.
  Sample Time(const Work& work) {
    constexpr double kSampleSeconds = 0.03;
    constexpr int kGraphCalls = 64;
    const auto run_all = [&] {
      for (int i = 0; i < kGraphCalls; ++i) work.run(i);
    };
    work.run(0);  // what grows, grows here, where it may
    Check(stream_->Synchronize());
    const std::unique_ptr<Graph> graph = Must(backend_.Capture(*stream_, run_all));
    int calls = 1;
    int round = 0;
    std::vector<double> seconds;
    while (std::ssize(seconds) < options_.runs) {
      const auto begin = Clock::now();
      for (int i = 0; i < calls; ++i) graph ? graph->Launch(*stream_) : work.run(round++);
      Check(stream_->Synchronize());
      const double elapsed = std::chrono::duration<double>(Clock::now() - begin).count();
      if (elapsed < kSampleSeconds) {
        calls = std::max(calls + 1,
                         static_cast<int>(calls * 1.3 * kSampleSeconds / std::max(elapsed, 1e-6)));
        seconds.clear();
      } else {
        seconds.push_back(elapsed / calls / (graph ? kGraphCalls : 1));
      }
    }
    return Summarize(std::move(seconds));
  }

  void Report(const Work& work) {
    const Sample time = Time(work);
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
    fmt::print("{:<34} {:>11.1f} {:>10.1f}-{:<10.1f} {:>9.2f} {:>5.0f}% {:>9.3f} {:>5.0f}%\n",
               work.name, time.median * 1e6, time.low * 1e6, time.high * 1e6, bandwidth / 1e9,
               100 * bandwidth / Summarize(bandwidth_).median, rate / 1e12,
               100 * rate / Summarize(peak_).median);
    std::fflush(stdout);
  }

  boost::json::object Report() const {
    const auto machine = [](const Sample& s) {
      return boost::json::object{{"median", s.median}, {"low", s.low}, {"high", s.high}};
    };
    return {{"device", backend_.info().description},
            {"runs", options_.runs},
            {"command", options_.command},
            {"read_bytes_per_s", machine(Summarize(bandwidth_))},
            {"product_flop_per_s", machine(Summarize(peak_))},
            {"void", WhyVoid()},
            {"ops", results_}};
  }

  /// How many operands of `bytes` to take in turns; fewer where products and not bytes count.
  static int Copies(double bytes, int64_t rows) {
    return rows > 64 ? 2 : static_cast<int>(kBeyondCaches / bytes) + 1;
  }

  void Linear(const LinearShape& shape, int64_t rows) {
    const auto [dtype, in, out, blocks] = shape;
    const bool is_plain = blocks == GgmlType::kNone;
    const std::string name =
        fmt::format("linear {} {} x {} -> {}", is_plain ? DTypeName(dtype) : GgmlTypeName(blocks),
                    rows, in, out);
    if (!Wanted(name)) return;
    Tensors tensors(backend_, *stream_, numbers_);
    const QuantFormat format = is_plain ? QuantFormat{BlockCode::kNone, dtype}
                                        : QuantFormat{BlockCode::kGgmlBlock, DType::kU8, blocks};
    const LinearKernel* kernel = backend_.FindLinear({format, in, out, dtype, options_.numerics});
    const double bytes =
        is_plain ? static_cast<double>(in * out) * static_cast<double>(DTypeBytes(dtype))
                 : static_cast<double>(GgmlRowBytes(blocks, in) * out);
    const int copies = Copies(bytes, rows);
    std::vector<PackedLinear> packed;
    for (int i = 0; i < copies; ++i) {
      const float std = 1 / std::sqrt(static_cast<float>(in));
      const TensorView weight =
          is_plain ? tensors.Make(dtype, {out, in}, std) : tensors.MakeBlocks(blocks, out, in, std);
      Check(stream_->Synchronize());  // Prepare has its own stream
      packed.push_back(Must(kernel->Prepare({format, in, out, weight})));
    }
    const TensorView x = tensors.Make(dtype, {rows, in});
    const TensorView y = tensors.Make(dtype, {rows, out});
    const double activations =
        static_cast<double>(rows * (in + out)) * static_cast<double>(DTypeBytes(dtype));
    Report({name, bytes + activations, 2.0 * static_cast<double>(rows * in * out), [&](int round) {
              kernel->Run(*stream_, {x, &packed[static_cast<size_t>(round % copies)], {}, y});
            }});
  }

  /// Codes beside their scales, which meet rows of bf16.
  void QuantLinear(const NamedQuantFormat& named, int64_t rows, int64_t in, int64_t out) {
    const std::string name = fmt::format("linear {} {} x {} -> {}", named.name, rows, in, out);
    const LinearKernel* kernel =
        backend_.FindLinear({named.format, in, out, DType::kBf16, options_.numerics});
    if (!Wanted(name) || kernel == nullptr) return;
    const QuantWeight weight(named.format, in, out);
    const int copies = Copies(weight.Bytes(), rows);
    std::vector<PackedLinear> packed;
    for (int i = 0; i < copies; ++i) packed.push_back(Must(kernel->Prepare(weight.weight)));
    Tensors tensors(backend_, *stream_, numbers_);
    const TensorView x = tensors.Make(DType::kBf16, {rows, in});
    const TensorView y = tensors.Make(DType::kBf16, {rows, out});
    Report({name, weight.Bytes() + 2 * static_cast<double>(rows * (in + out)),
            2.0 * static_cast<double>(rows * in * out), [&](int round) {
              kernel->Run(*stream_, {x, &packed[static_cast<size_t>(round % copies)], {}, y});
            }});
  }

  /// Gate and up with silu(gate) * up, of many rows: products are what counts, not the weights.
  void GatedLinear(int64_t rows, int64_t in, int64_t outputs) {
    const std::string name = fmt::format("gated linear bf16 {} x {} -> {}", rows, in, outputs);
    if (!Wanted(name)) return;
    Tensors tensors(backend_, *stream_, numbers_);
    const QuantFormat format{BlockCode::kNone, DType::kBf16};
    const LinearKernel* kernel =
        backend_.FindLinear({format, in, outputs, DType::kBf16, options_.numerics});
    const TensorView weight =
        tensors.Make(DType::kBf16, {outputs, in}, 1 / std::sqrt(static_cast<float>(in)));
    Check(stream_->Synchronize());
    const PackedLinear packed = Must(kernel->Prepare({format, in, outputs, weight}));
    const TensorView x = tensors.Make(DType::kBf16, {rows, in});
    const TensorView gate_up = tensors.Make(DType::kBf16, {rows, outputs});
    const TensorView out = tensors.Make(DType::kBf16, {rows, outputs / 2});
    const auto elements = static_cast<double>(outputs * in + rows * (in + outputs / 2));
    Report({name, elements * 2, 2.0 * static_cast<double>(rows * in * outputs), [&](int) {
              backend_.GatedLinear(*stream_, *kernel, {x, &packed, {}, gate_up}, {gate_up, out});
            }});
  }

  /// Who goes where in a mixture of experts, at random.
  struct Routing {
    MoeRouteArgs args;
    double experts = 0;  ///< that any token goes to
  };

  Routing MakeRouting(Tensors& tensors, int64_t tokens, int64_t experts, int64_t top_k) {
    Routing routing;
    MoeRouteArgs& args = routing.args;
    const int64_t picks = tokens * top_k;
    args.logits = tensors.Make(DType::kF32, {tokens, experts});
    args.renormalize = true;
    args.experts = tensors.Make(DType::kF32, {tokens, top_k});
    args.experts.dtype = DType::kI32;
    args.weights = tensors.Make(DType::kF32, {tokens, top_k});
    std::vector<int32_t> offsets(static_cast<size_t>(experts) + 1);
    const std::vector<int32_t> zeros(static_cast<size_t>(picks));
    args.offsets = tensors.Ints(offsets, {experts + 1});
    args.picks = tensors.Ints(zeros, {picks});
    args.tokens = tensors.Ints(zeros, {picks});
    backend_.MoeRoute(*stream_, args);
    backend_.Copy(*stream_, offsets.data(), args.offsets.data, args.offsets.Bytes());
    Check(stream_->Synchronize());
    for (size_t e = 0; e + 1 < offsets.size(); ++e) {
      if (offsets[e + 1] > offsets[e]) ++routing.experts;
    }
    return routing;
  }

  /// The router and the first product of Qwen3-30B-A3B's experts; each round picks others.
  void Experts(int64_t tokens) {
    constexpr int64_t kExperts = 128;
    constexpr int64_t kTopK = 8;
    constexpr int64_t kIn = 2048;
    constexpr int64_t kOut = 2 * 768;
    constexpr int kRoutings = 16;
    const std::string name =
        fmt::format("experts bf16 {} x {} of {}, {} -> {}", tokens, kTopK, kExperts, kIn, kOut);
    const std::string route_name = fmt::format("route {} x {} of {}", tokens, kTopK, kExperts);
    if (!Wanted(name) && !Wanted(route_name)) return;
    Tensors tensors(backend_, *stream_, numbers_);
    std::vector<Routing> routings;
    double experts = 0;
    for (int i = 0; i < kRoutings; ++i) {
      routings.push_back(MakeRouting(tensors, tokens, kExperts, kTopK));
      experts += routings.back().experts / kRoutings;
    }
    const auto routing = [&](int round) -> const MoeRouteArgs& {
      return routings[static_cast<size_t>(round % kRoutings)].args;
    };
    if (Wanted(route_name)) {
      Report({route_name, 4.0 * static_cast<double>(tokens * (kExperts + 4 * kTopK)),
              static_cast<double>(tokens * kExperts * kTopK),
              [&](int round) { backend_.MoeRoute(*stream_, routing(round)); }});
    }
    if (!Wanted(name)) return;
    const QuantFormat format{BlockCode::kNone, DType::kBf16};
    const LinearKernel* kernel = backend_.FindLinear({.format = format,
                                                      .in = kIn,
                                                      .out = kExperts * kOut,
                                                      .activation = DType::kBf16,
                                                      .numerics = options_.numerics,
                                                      .grouped = true});
    const TensorView weight = tensors.Make(DType::kBf16, {kExperts * kOut, kIn}, 0.02F);
    Check(stream_->Synchronize());  // Prepare has its own stream
    const PackedLinear packed = Must(kernel->Prepare({format, kIn, kExperts * kOut, weight}));
    const TensorView x = tensors.Make(DType::kBf16, {tokens, kIn});
    const TensorView y = tensors.Make(DType::kBf16, {tokens * kTopK, kOut});
    const double bytes = experts * kOut * kIn * 2.0 + static_cast<double>(x.Bytes() + y.Bytes());
    Report({name, bytes, 2.0 * static_cast<double>(tokens * kTopK * kIn * kOut), [&](int round) {
              const MoeRouteArgs& route = routing(round);
              kernel->RunGrouped(*stream_, {.x = x,
                                            .weight = &packed,
                                            .bias = {},
                                            .offsets = route.offsets,
                                            .x_rows = route.tokens,
                                            .out_rows = {},
                                            .out = y});
            }});
  }

  void RmsNorm(DType dtype, int64_t tokens, int64_t hidden) {
    const std::string name = fmt::format("rms_norm {} {} x {}", DTypeName(dtype), tokens, hidden);
    if (!Wanted(name)) return;
    Tensors tensors(backend_, *stream_, numbers_);
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
    Tensors tensors(backend_, *stream_, numbers_);
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

  void GatedActivation(DType dtype, int64_t tokens, int64_t n) {
    const std::string name = fmt::format("silu_mul {} {} x {}", DTypeName(dtype), tokens, n);
    if (!Wanted(name)) return;
    Tensors tensors(backend_, *stream_, numbers_);
    const GatedActivationArgs args{tensors.Make(dtype, {tokens, 2 * n}),
                                   tensors.Make(dtype, {tokens, n})};
    Report({name, 1.5 * static_cast<double>(args.gate_up.Bytes()),
            5.0 * static_cast<double>(tokens * n),
            [&](int) { backend_.GatedActivation(*stream_, args); }});
  }

  /// Sequences of so many positions, of which the last `queries` of each ask. Heads of 128.
  struct AttentionShape {
    std::string name;
    int q_heads;
    int kv_heads;
    std::vector<int> positions;
    int queries;
    std::optional<KvFormat> cache = {};  ///< unset: of the queries' dtype
  };

  /// Llama-3-8B's: decode of even and of very uneven lengths, and prompts.
  void LargeAttention() {
    constexpr DType kType = DType::kBf16;
    std::vector<int> uneven(31, 4096);
    uneven.push_back(131072);
    Attention(kType, {"64 x 1 of 4096", 32, 8, std::vector<int>(64, 4096), 1});
    Attention(kType, {"1 of 128k, 31 x 1 of 4096", 32, 8, uneven, 1});
    Attention(kType, {"1 of 32k", 32, 8, {32768}, 1});
    Attention(kType, {"256 x 1 of 128", 32, 8, std::vector<int>(256, 128), 1});
    Attention(kType, {"8192 of 8192", 32, 8, {8192}, 8192});
    Attention(kType, {"16 x 1024 of 1024", 32, 8, std::vector<int>(16, 1024), 1024});
    Attention(kType, {"2048 of 32k", 32, 8, {32768}, 2048});
    Attention(kType, {"64 of 4096", 32, 8, {4096}, 64});
    const std::pair<const char*, KvFormat> formats[] = {
        {"fp8", KvFormat::kFp8}, {"int8", KvFormat::kInt8}, {"int4", KvFormat::kInt4}};
    for (const auto& [name, cache] : formats) {
      const auto add = [&](std::string shape, std::vector<int> positions, int queries) {
        Attention(kType, {shape + " in " + name, 32, 8, std::move(positions), queries, cache});
      };
      add("64 x 1 of 4096", std::vector<int>(64, 4096), 1);
      add("1 of 32k", {32768}, 1);
      add("256 x 1 of 128", std::vector<int>(256, 128), 1);
      add("8192 of 8192", {8192}, 8192);
      add("2048 of 32k", {32768}, 2048);
    }
  }

  void Attention(DType dtype, const AttentionShape& shape) {
    const std::string name = fmt::format("attention {} {}", DTypeName(dtype), shape.name);
    if (!Wanted(name)) return;
    constexpr int kBlockTokens = 16;
    constexpr int kHeadDim = 128;
    Tensors tensors(backend_, *stream_, numbers_);
    const auto sequences = std::ssize(shape.positions);
    const int queries = static_cast<int>(sequences) * shape.queries;
    const int longest = std::ranges::max(shape.positions);
    const int64_t width = longest / kBlockTokens;
    std::vector<int32_t> table(static_cast<size_t>(sequences * width));
    std::vector<int32_t> slots;
    std::vector<int32_t> cu_seqlens = {0};
    int32_t blocks = 0;
    double pairs = 0;
    for (int64_t s = 0; s < sequences; ++s) {
      const int positions = shape.positions[static_cast<size_t>(s)];
      for (int i = 0; i < positions / kBlockTokens; ++i) {
        table[static_cast<size_t>(s * width + i)] = blocks++;
      }
      for (int i = 0; i < shape.queries; ++i) {
        slots.push_back(blocks * kBlockTokens - shape.queries + i);
      }
      cu_seqlens.push_back(cu_seqlens.back() + shape.queries);
      pairs += shape.queries * (positions - shape.queries + (shape.queries + 1) / 2.0);
    }
    const KvFormat cache = shape.cache.value_or(PlainKv(dtype));
    const int64_t rows = int64_t{2} * shape.kv_heads * blocks * kBlockTokens;
    const auto layer_bytes = static_cast<double>(KvBytes(cache, rows, kHeadDim));
    const int layers = Copies(layer_bytes, shape.queries);
    const AttentionSpec spec{.layers = layers,
                             .q_heads = shape.q_heads,
                             .kv_heads = shape.kv_heads,
                             .head_dim = kHeadDim,
                             .scale = 0.088F,
                             .dtype = dtype,
                             .kv = cache,
                             .numerics = options_.numerics};
    const auto attention = backend_.CreateAttention(spec);
    const auto block_bytes = static_cast<int64_t>(attention->BytesPerBlock(kBlockTokens));
    TensorView pool =
        tensors.Make(dtype, {blocks, block_bytes / static_cast<int64_t>(DTypeBytes(dtype))});
    pool = TensorView(pool.data, DType::kU8, {blocks, block_bytes});
    attention->BindCache({pool, kBlockTokens});
    std::vector<std::byte> plan(attention->PlanBytes(queries, static_cast<int>(sequences)));
    const TensorView device_plan = tensors.Array(DType::kU8, plan, {std::ssize(plan)});
    attention->Plan({.cu_seqlens_q = cu_seqlens,
                     .seq_lens_upper = shape.positions,
                     .seq_lens = tensors.Ints(shape.positions, {sequences}),
                     .block_tables = tensors.Ints(table, {sequences, width}),
                     .slot_mapping = tensors.Ints(slots, {queries}),
                     .host_plan = plan,
                     .device_plan = device_plan.data});
    backend_.Copy(*stream_, device_plan.data, plan.data(), plan.size());
    const TensorView q = tensors.Make(dtype, {queries, spec.q_heads, spec.head_dim});
    const TensorView out = tensors.Make(dtype, {queries, spec.q_heads, spec.head_dim});
    Report({name, layer_bytes + static_cast<double>(q.Bytes() + out.Bytes()),
            4.0 * pairs * spec.q_heads * spec.head_dim,
            [&](int round) { attention->Run(*stream_, {round % layers, q, out}); }});
  }

  void Sampling(int64_t rows, int64_t vocab, bool filtered) {
    const std::string name =
        fmt::format("sample {} x {} {}", rows, vocab, filtered ? "top-k 20 top-p .9" : "plain");
    if (!Wanted(name)) return;
    Tensors tensors(backend_, *stream_, numbers_);
    const auto n = static_cast<size_t>(rows);
    SampleArgs args;
    args.logits = tensors.Make(DType::kF32, {rows, vocab}, 2);
    args.temperature = tensors.Array(DType::kF32, std::vector<float>(n, 1), {rows});
    args.top_k = tensors.Ints(std::vector<int32_t>(n, filtered ? 20 : 0), {rows});
    args.top_p = tensors.Array(DType::kF32, std::vector<float>(n, filtered ? 0.9F : 1), {rows});
    args.min_p = tensors.Array(DType::kF32, std::vector<float>(n, 0), {rows});
    args.seed = tensors.Array(DType::kU64, std::vector<uint64_t>(n, 1), {rows});
    args.counter = tensors.Array(DType::kU64, std::vector<uint64_t>(2 * n, 1), {rows, 2});
    args.out = tensors.Ints(std::vector<int32_t>(n, 0), {rows});
    Report({name, static_cast<double>(args.logits.Bytes()), 0,
            [&](int) { backend_.Sample(*stream_, args); }});
  }

  void Logprobs(int64_t rows, int64_t vocab) {
    const std::string name = fmt::format("logprobs {} x {} top 20", rows, vocab);
    if (!Wanted(name)) return;
    Tensors tensors(backend_, *stream_, numbers_);
    constexpr int64_t kTop = 20;
    const std::vector<int32_t> zeros(static_cast<size_t>(rows * kTop), 0);
    LogprobsArgs args;
    args.logits = tensors.Make(DType::kF32, {rows, vocab}, 2);
    args.tokens = tensors.Ints(std::vector<int32_t>(static_cast<size_t>(rows), 0), {rows});
    args.chosen = tensors.Make(DType::kF32, {rows});
    args.top_ids = tensors.Ints(zeros, {rows, kTop});
    args.top_logprobs = tensors.Make(DType::kF32, {rows, kTop});
    Report({name, static_cast<double>(args.logits.Bytes()), 0,
            [&](int) { backend_.Logprobs(*stream_, args); }});
  }

  std::vector<std::string> Models() const {
    if (!options_.models.empty() || backend_.info().is_host_memory) return options_.models;
    return {"qwen2.5-1.5b", "llama3-8b"};
  }

  /// One sequence, a draft of eight tokens, and batches.
  void Decoders(const std::string& preset) {
    if (!Wanted("decoder " + preset) && !options_.filter.starts_with("decoder " + preset)) return;
    const LoadedModel loaded = Must(LoadModel({.model = preset,
                                               .format = LoadFormat::kDummy,
                                               .dtype = ModelDType::kBf16,
                                               .numerics = Numerics::kFast,
                                               .seed = 1},
                                              backend_));
    Model& model = *loaded.model;
    const auto description = model.Describe();
    std::unique_ptr<FusedDecoder> fused;
    if (description) fused = Must(backend_.CreateFusedDecoder(*description));
    const auto weights = static_cast<double>(Must(ReadModelInfo(preset)).num_parameters);
    const double table = loaded.config.tie_word_embeddings
                             ? 0
                             : static_cast<double>(model.vocab_size()) * model.hidden_size();
    for (const StepShape& shape :
         {StepShape{1, 1}, {1, 8}, {1, 512}, {8, 1}, {16, 1}, {32, 1}, {64, 1}, {256, 1}}) {
      for (FusedDecoder* way : {fused.get(), static_cast<FusedDecoder*>(nullptr)}) {
        const auto step = Must(DecoderStep::Create(backend_, *stream_, model, way, shape));
        if (way != nullptr && !step->is_fused()) continue;
        const double rows = shape.seqs * shape.rows_each;
        Report({fmt::format("decoder {} {}x{} {}", preset, shape.seqs, shape.rows_each,
                            step->is_fused() ? "fused" : "ops"),
                2 * (weights - table) + step->cache_bytes(), 2 * (weights - table) * rows,
                [&](int) { step->Enqueue(*stream_); }});
        if (way == nullptr && fused == nullptr) break;
      }
    }
  }

  Backend& backend_;
  std::unique_ptr<Stream> stream_;
  DummyWeights numbers_;
  Options options_;
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
    if (arg == "--help") {
      options.help = true;
    } else if (arg == "--json") {
      options.json = true;
    } else if (const auto file = ValueOf(arg, "--json="); !file.empty()) {
      options.json_file = file;
    } else if (const auto backend = ValueOf(arg, "--backend="); !backend.empty()) {
      options.backend = backend;
    } else if (arg == "--batch-invariant") {
      options.numerics = Numerics::kBatchInvariant;
    } else if (const auto filter = ValueOf(arg, "--filter="); !filter.empty()) {
      options.filter = filter;
    } else if (const auto models = ValueOf(arg, "--models="); !models.empty()) {
      std::istringstream names{std::string(models)};
      for (std::string name; std::getline(names, name, ',');) options.models.push_back(name);
    } else if (const auto threads = ValueOf(arg, "--threads="); !threads.empty()) {
      options.threads = std::atoi(threads.data());
    } else if (const auto runs = ValueOf(arg, "--runs="); !runs.empty()) {
      options.runs = std::max(5, std::atoi(runs.data()));  // a median of fewer says little
    } else {
      return MakeError(ErrorCode::kInvalidArgument,
                       fmt::format("unknown argument {}; --help lists those known", arg));
    }
  }
  return options;
}

Status Main(int argc, char** argv) {
  GALE_ASSIGN_OR_RETURN(const Options options, ParseOptions(argc, argv));
  if (options.help) {
    std::fputs(kHelp, stdout);
    return {};
  }
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
