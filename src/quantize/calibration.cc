#include "quantize/calibration.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include "backend/registry.h"
#include "base/host_limits.h"
#include "base/rng.h"
#include "base/status_macros.h"
#include "models/model_registry.h"
#include "models/model_source.h"
#include "weights/float_convert.h"
#include "weights/weight_loader.h"

namespace gale {
namespace {

constexpr std::string_view kWeight = ".weight";

/// The projections of a group of parameters that a linear layer takes; none of other groups.
LinearInputs PlainLinear(const ParamGroup& group) {
  LinearInputs inputs;
  for (const ParamSpec& spec : group.specs) {
    if (spec.use != WeightUse::kLinear || spec.shape.size() != 2) continue;
    inputs.in = spec.shape[1];
    for (const ParamPart& part : spec.parts) {
      const std::string& name = part.names.front();
      if (name.ends_with(kWeight)) {
        inputs.names.push_back(name.substr(0, name.size() - kWeight.size()));
      }
    }
  }
  return inputs;
}

/// Rows of a device as f32 on the host.
Result<Matrix> BringToHost(Backend& backend, Stream& stream, const TensorView& rows) {
  const int64_t in = rows.dim(1);
  Matrix host(rows.dim(0), in);
  const size_t row_bytes = static_cast<size_t>(in) * DTypeBytes(rows.dtype);
  std::vector<std::byte> bytes(row_bytes * static_cast<size_t>(rows.dim(0)));
  for (int64_t row = 0; row < rows.dim(0); ++row) {
    backend.Copy(stream, &bytes[static_cast<size_t>(row) * row_bytes], rows.Rows(row, row + 1).data,
                 row_bytes);
  }
  GALE_RETURN_IF_ERROR(stream.Synchronize());
  ConvertElements(bytes, rows.dtype, TensorView(host.data(), DType::kF32, {rows.dim(0), in}));
  return host;
}

}  // namespace

Calibrator::Calibrator(std::unique_ptr<Backend> device,
                       std::span<const std::vector<TokenId>> sequences)
    : sequences_(sequences),
      device_(std::move(device)),
      backend_(std::make_unique<ObservingBackend>(*device_)),
      threads_(AvailableCpus()) {}

Result<std::unique_ptr<Calibrator>> Calibrator::Create(
    const std::string& folder, const std::string& device, int threads,
    std::span<const std::vector<TokenId>> sequences) {
  GALE_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend,
                        CreateBackend(device, {.threads = threads}));
  std::unique_ptr<Calibrator> calibrator(new Calibrator(std::move(backend), sequences));
  GALE_RETURN_IF_ERROR(calibrator->Load(folder));
  return calibrator;
}

/// Groups of parameters are bound one after another, and progress is told of each, which says whose
/// weight is being packed.
Status Calibrator::Load(const std::string& folder) {
  GALE_ASSIGN_OR_RETURN(ModelSource source, ReadModelSource(folder));
  GALE_ASSIGN_OR_RETURN(const ModelFactory factory, FindModel(source.config.architecture));
  GALE_ASSIGN_OR_RETURN(std::unique_ptr<const Checkpoint> checkpoint, Checkpoint::Open(folder));
  const DType dtype = ResolveDType(ModelDType::kAuto, source.config.dtype.value_or(DType::kBf16));
  ParamBuilder builder(dtype, Numerics::kBatchInvariant);
  model_ = factory(source.config, PlainScheme(), builder);
  size_t group = 0;
  backend_->set_pack_observer([&](const PackedLinear& weight) {
    LinearInputs inputs = PlainLinear(builder.groups()[group]);
    if (inputs.names.empty()) return;
    index_of_[weight.data.data] = inputs_.size();
    inputs_.push_back(std::move(inputs));
  });
  GALE_RETURN_IF_ERROR(
      LoadWeights(builder, std::move(checkpoint), *backend_, [&](uint64_t, uint64_t) { ++group; }));
  backend_->set_pack_observer({});
  GALE_ASSIGN_OR_RETURN(
      runner_,
      SequenceRunner::Create(*backend_, *model_, static_cast<int>(sequences_.front().size())));
  backend_->set_observer([this](Stream& stream, const void* weight, const TensorView& rows) {
    Observe(stream, weight, rows);
  });
  return {};
}

size_t Calibrator::Bytes(const LinearInputs& inputs, StatisticsKind kind) {
  const auto in = static_cast<size_t>(inputs.in);
  return sizeof(float) * (kind == StatisticsKind::kGram ? in * (in + 2) : 2 * in);
}

Result<std::vector<InputStatistics>> Calibrator::Collect(
    std::span<const size_t> which, StatisticsKind kind,
    const std::function<void(uint64_t, uint64_t)>& progress) {
  kind_ = kind;
  statistics_.clear();
  status_ = {};
  for (const size_t index : which) {
    const int64_t in = inputs_[index].in;
    InputStatistics& one = statistics_[index];
    one.mean_abs = Vector::Zero(in);
    one.max_abs = Vector::Zero(in);
    if (kind == StatisticsKind::kGram) one.gram = Matrix::Zero(in, in);
  }
  for (size_t i = 0; i < sequences_.size(); ++i) {
    GALE_RETURN_IF_ERROR(runner_->Forward(sequences_[i]));
    GALE_RETURN_IF_ERROR(status_);
    if (progress) progress(i + 1, sequences_.size());
  }
  std::vector<InputStatistics> results;
  for (const size_t index : which) {
    InputStatistics& one = results.emplace_back(std::move(statistics_.at(index)));
    const auto rows = static_cast<float>(std::max<int64_t>(one.rows, 1));
    one.mean_abs /= rows;
    one.gram /= rows;
  }
  return results;
}

void Calibrator::Observe(Stream& stream, const void* weight, const TensorView& rows) {
  const auto index = index_of_.find(weight);
  if (index == index_of_.end() || !status_) return;
  const auto wanted = statistics_.find(index->second);
  if (wanted == statistics_.end()) return;
  const Result<Matrix> x = BringToHost(*device_, stream, rows);
  if (!x) {
    status_ = tl::unexpected(x.error());
    return;
  }
  InputStatistics& one = wanted->second;
  one.rows += x->rows();
  one.mean_abs += x->cwiseAbs().colwise().sum().transpose();
  one.max_abs = one.max_abs.cwiseMax(x->cwiseAbs().colwise().maxCoeff().transpose());
  if (kind_ == StatisticsKind::kGram) AddProduct(x->transpose(), *x, one.gram, threads_);
}

Result<std::vector<std::vector<TokenId>>> DrawSequences(std::span<const TokenId> tokens, int count,
                                                        int length, uint64_t seed) {
  const size_t size = static_cast<size_t>(length);
  const size_t available = tokens.size() / size;
  const auto wanted = static_cast<size_t>(count);
  if (available < wanted) {
    return MakeError(
        ErrorCode::kInvalidArgument,
        fmt::format("the calibration text is too short: expected {} samples of {} tokens, got {} "
                    "tokens in all; give more text, fewer samples or shorter ones",
                    count, length, tokens.size()));
  }
  std::vector<size_t> places(available);
  std::iota(places.begin(), places.end(), 0);
  std::vector<std::vector<TokenId>> sequences;
  for (size_t i = 0; i < wanted; ++i) {
    const double draw = UniformDouble(seed, i, 0);
    const size_t chosen = i + static_cast<size_t>(draw * static_cast<double>(available - i));
    std::swap(places[i], places[chosen]);
    const std::span<const TokenId> part = tokens.subspan(places[i] * size, size);
    sequences.emplace_back(part.begin(), part.end());
  }
  return sequences;
}

}  // namespace gale
