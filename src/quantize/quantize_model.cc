// gale quantize: decoder layer by decoder layer, each written before the next is read.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include <fmt/format.h>

#include "base/host_limits.h"
#include "base/status_macros.h"
#include "gale/model_info.h"
#include "gale/quantize.h"
#include "gale/tokenizer.h"
#include "models/model_source.h"
#include "quantize/gguf_export.h"
#include "quantize/layer_quantizer.h"
#include "quantize/output_folder.h"
#include "tensor/ggml_block.h"

namespace gale {
namespace {

/// The number behind "layers." in a tensor's name; -1 without one.
int LayerIndex(std::string_view name) {
  constexpr std::string_view kLayers = "layers.";
  const size_t begin = name.find(kLayers);
  if (begin == std::string_view::npos) return -1;
  return std::atoi(name.data() + begin + kLayers.size());
}

DType ScaleDType(const HfConfig& config) {
  return config.dtype.value_or(DType::kBf16) == DType::kF16 ? DType::kF16 : DType::kBf16;
}

class QuantizeRun {
 public:
  QuantizeRun(const QuantizeOptions& options, const QuantizeScheme& scheme,
              const QuantizeProgress& progress)
      : options_(options), scheme_(scheme), progress_(progress), threads_(Threads(options)) {}

  Result<QuantizeReport> Run() {
    GALE_RETURN_IF_ERROR(Read());
    if (scheme_.container == QuantizeContainer::kGguf) return RunGguf();
    GALE_RETURN_IF_ERROR(CheckShapes());
    GALE_RETURN_IF_ERROR(PrepareCalibration());
    const int num_shards = static_cast<int>(layers_.size()) + 1;
    GALE_ASSIGN_OR_RETURN(const OutputFolder out,
                          OutputFolder::Open(options_.out, num_shards, Description()));
    GALE_RETURN_IF_ERROR(QuantizeLayers(out));
    GALE_RETURN_IF_ERROR(WriteRest(out));
    GALE_RETURN_IF_ERROR(out.Finish(source_.folder, QuantizationConfigJson(Config())));
    return Report(out.TensorBytes());
  }

 private:
  Result<QuantizeReport> RunGguf() {
    GALE_RETURN_IF_ERROR(ExportGguf(source_, *checkpoint_, scheme_.ggml, options_.out, threads_,
                                    [&](const CheckpointTensor& tensor) {
                                      done_bytes_ += tensor.data.size();
                                      if (!progress_) return;
                                      progress_(QuantizePhase::kQuantizing, done_bytes_,
                                                source_bytes_);
                                    }));
    return Report(std::filesystem::file_size(options_.out));
  }

  static int Threads(const QuantizeOptions& options) {
    return options.threads > 0 ? options.threads : AvailableCpus();
  }

  Status Read() {
    GALE_ASSIGN_OR_RETURN(const std::string path, ResolveModel(options_.model));
    GALE_ASSIGN_OR_RETURN(source_, ReadModelSource(path));
    const HfConfig& config = source_.config;
    if (!std::filesystem::is_directory(source_.folder)) {
      return MakeError(
          ErrorCode::kUnsupported,
          fmt::format("{}: expected a folder with a plain safetensors checkpoint", options_.model));
    }
    if (config.quant_method != "none") {
      return MakeError(ErrorCode::kUnsupported,
                       fmt::format("{}: expected a plain checkpoint, got one whose weights are in "
                                   "the format {}",
                                   options_.model, config.quant_method));
    }
    if (Calibrates() && config.moe.num_experts > 0) {
      return MakeError(ErrorCode::kUnsupported,
                       fmt::format("scheme {}: expected a model without experts, whose inputs "
                                   "calibration cannot tell apart; use int4, int8 or fp8",
                                   scheme_.name));
    }
    GALE_ASSIGN_OR_RETURN(checkpoint_, Checkpoint::Open(source_.folder));
    layers_.resize(static_cast<size_t>(config.num_layers));
    for (const CheckpointTensor& tensor : checkpoint_->tensors()) {
      source_bytes_ += tensor.data.size();
      const int index = LayerIndex(tensor.name);
      const bool is_layers = index >= 0 && index < config.num_layers;
      (is_layers ? layers_[static_cast<size_t>(index)] : rest_).push_back(&tensor);
    }
    const int64_t group =
        options_.group_size < 0 || !scheme_.takes_group ? scheme_.group : options_.group_size;
    const bool is_packed = scheme_.container == QuantizeContainer::kPackedInt;
    format_ = {.bits = scheme_.bits,
               .has_zeros = scheme_.has_zeros || (scheme_.takes_zeros && options_.asymmetric),
               .group = group,
               .scale = is_packed ? ScaleDType(config) : DType::kF16};
    return {};
  }

  bool Calibrates() const { return NeededStatistics(scheme_) != StatisticsKind::kNone; }

  Status CheckShapes() const {
    const int64_t in_word = 32 / scheme_.bits;
    for (const auto& layer : layers_) {
      for (const CheckpointTensor* tensor : layer) {
        if (!IsQuantizable(*tensor)) continue;
        const int64_t in = tensor->shape[1];
        if (format_.group > 0 && in % format_.group != 0) {
          return MakeError(ErrorCode::kInvalidArgument,
                           fmt::format("group size {}: expected one that divides the {} inputs of "
                                       "{}; give another, or 0 for a scale a row",
                                       format_.group, in, tensor->name));
        }
        if (scheme_.takes_group && (in % in_word != 0 || tensor->shape[0] % in_word != 0)) {
          return MakeError(ErrorCode::kUnsupported,
                           fmt::format("{} [{}, {}]: scheme {} packs {} codes in a word: expected "
                                       "multiples of that",
                                       tensor->name, tensor->shape[0], in, scheme_.name, in_word));
        }
      }
    }
    return {};
  }

  Status PrepareCalibration() {
    if (!Calibrates()) return {};
    GALE_ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::FromFolder(source_.folder));
    const std::vector<TokenId> tokens = tokenizer->Encode(
        options_.calibration_text,
        {.add_special_tokens = false, .parse_special = true, .threads = threads_.threads()});
    GALE_ASSIGN_OR_RETURN(
        sequences_, DrawSequences(tokens, options_.samples, options_.sample_tokens, options_.seed));
    return {};
  }

  /// All that the result depends on, so that a run is continued only by its like.
  std::string Description() const {
    std::string text = fmt::format("model {}\nscheme {}\ngroup {}\nzeros {}\n", source_.folder,
                                   scheme_.name, format_.group, format_.has_zeros);
    if (!Calibrates()) return text;
    return text + fmt::format(
                      "calibration {:x}\nsamples {} of {} tokens, seed {}\nact-order {}, "
                      "damping {}, smoothing {}\n",
                      std::hash<std::string_view>()(options_.calibration_text), options_.samples,
                      options_.sample_tokens, options_.seed, options_.act_order, options_.damping,
                      options_.smoothing);
  }

  QuantizationConfig Config() const {
    QuantizationConfig config{.container = scheme_.container,
                              .format = format_,
                              .act_order = options_.act_order,
                              .damping = options_.damping,
                              .plain = {"lm_head"}};
    for (const CheckpointTensor& tensor : checkpoint_->tensors()) {
      if (!IsPlainLinear(tensor)) continue;
      config.plain.push_back(tensor.name.substr(0, tensor.name.rfind('.')));
    }
    return config;
  }

  Status QuantizeLayers(const OutputFolder& out) {
    for (size_t begin = 0; begin < layers_.size();) {
      if (out.HasShard(static_cast<int>(begin))) {
        CountLayer(begin++);
        continue;
      }
      size_t end = begin + 1;
      std::vector<std::vector<LayerQuantizer::Inputs>> inputs(1);
      if (Calibrates()) {
        GALE_ASSIGN_OR_RETURN(end, Calibrate(begin, inputs));
      }
      for (; begin < end; ++begin, inputs.erase(inputs.begin())) {
        GALE_RETURN_IF_ERROR(QuantizeLayer(begin, inputs.front(), out));
        CountLayer(begin);
      }
    }
    return {};
  }

  void CountLayer(size_t index) {
    for (const CheckpointTensor* tensor : layers_[index]) done_bytes_ += tensor->data.size();
    if (progress_) progress_(QuantizePhase::kQuantizing, done_bytes_, source_bytes_);
  }

  Status QuantizeLayer(size_t index, std::span<const LayerQuantizer::Inputs> inputs,
                       const OutputFolder& out) {
    const LayerQuantizer quantizer{.scheme = scheme_,
                                   .options = options_,
                                   .config = source_.config,
                                   .checkpoint = *checkpoint_,
                                   .format = format_,
                                   .scale_dtype = ScaleDType(source_.config),
                                   .threads = threads_};
    const float offset = calibrator_ ? calibrator_->norm_weight_offset() : 0;
    GALE_ASSIGN_OR_RETURN(const std::vector<OutputTensor> tensors,
                          quantizer.Quantize(layers_[index], inputs, offset));
    return out.WriteShard(static_cast<int>(index), tensors);
  }

  /// Gathers statistics of layers from `begin` on, as many as there is room for. The layers' end;
  /// `inputs` has one entry for each of them.
  Result<size_t> Calibrate(size_t begin, std::vector<std::vector<LayerQuantizer::Inputs>>& inputs) {
    if (calibrator_ == nullptr) {
      GALE_ASSIGN_OR_RETURN(calibrator_, Calibrator::Create(source_.folder, options_.device,
                                                            options_.threads, sequences_));
    }
    const StatisticsKind kind = NeededStatistics(scheme_);
    const size_t room = options_.statistics_bytes > 0 ? options_.statistics_bytes
                                                      : ReadHostMemory().available_bytes / 4;
    const std::vector<LinearInputs>& all = calibrator_->inputs();
    std::vector<size_t> which;
    size_t end = begin;
    for (size_t bytes = 0; end < layers_.size(); ++end) {
      std::vector<size_t> of_layer;
      for (size_t i = 0; i < all.size(); ++i) {
        if (LayerIndex(all[i].names.front()) != static_cast<int>(end)) continue;
        of_layer.push_back(i);
        bytes += Calibrator::Bytes(all[i], kind);
      }
      if (end > begin && bytes > room) break;
      which.insert(which.end(), of_layer.begin(), of_layer.end());
    }
    ++num_passes_;
    const uint64_t sequence_bytes = sequences_.front().size() * sizeof(TokenId);
    GALE_ASSIGN_OR_RETURN(
        statistics_, calibrator_->Collect(which, kind, [&](uint64_t done, uint64_t total) {
          if (!progress_) return;
          progress_(QuantizePhase::kCalibrating, done * sequence_bytes, total * sequence_bytes);
        }));
    inputs.assign(end - begin, {});
    for (size_t i = 0; i < which.size(); ++i) {
      const LinearInputs& projections = all[which[i]];
      const auto layer = static_cast<size_t>(LayerIndex(projections.names.front()));
      inputs[layer - begin].push_back({&projections, &statistics_[i]});
    }
    return end;
  }

  Status WriteRest(const OutputFolder& out) const {
    const int index = static_cast<int>(layers_.size());
    if (out.HasShard(index)) return {};
    std::vector<OutputTensor> tensors;
    for (const CheckpointTensor* tensor : rest_) {
      tensors.push_back({tensor->name, tensor->dtype_name, tensor->shape, {}, tensor->data});
    }
    return out.WriteShard(index, tensors);
  }

  QuantizeReport Report(uint64_t out_bytes) const {
    QuantizeReport report{
        .source_bytes = source_bytes_, .out_bytes = out_bytes, .num_passes = num_passes_};
    int64_t elements = 0;
    uint64_t block_bytes = 0;
    uint64_t plain_bytes = 0;
    for (const CheckpointTensor& tensor : checkpoint_->tensors()) {
      const bool is_quantized =
          IsQuantizable(tensor) && LayerIndex(tensor.name) < std::ssize(layers_);
      if (is_quantized) {
        ++report.num_quantized;
        elements += tensor.shape[0] * tensor.shape[1];
        const GgmlTypeInfo info =
            GgmlInfo(BlockTypeOf(tensor, scheme_.ggml).value_or(GgmlType::kNone));
        block_bytes +=
            static_cast<uint64_t>(tensor.shape[0] * tensor.shape[1] / info.elements * info.bytes);
      } else {
        plain_bytes += tensor.data.size();
      }
    }
    const bool is_gguf = scheme_.container == QuantizeContainer::kGguf;  // with its tokenizer
    report.bits_per_weight = 8.0 *
                             static_cast<double>(is_gguf ? block_bytes : out_bytes - plain_bytes) /
                             static_cast<double>(std::max<int64_t>(elements, 1));
    return report;
  }

  const QuantizeOptions& options_;
  const QuantizeScheme& scheme_;
  const QuantizeProgress& progress_;
  ThreadPool threads_;
  ModelSource source_;
  std::unique_ptr<const Checkpoint> checkpoint_;
  std::vector<std::vector<const CheckpointTensor*>> layers_;
  std::vector<const CheckpointTensor*> rest_;
  IntegerFormat format_;
  std::vector<std::vector<TokenId>> sequences_;
  std::unique_ptr<Calibrator> calibrator_;
  std::vector<InputStatistics> statistics_;  ///< of the layers of one pass
  uint64_t source_bytes_ = 0;
  uint64_t done_bytes_ = 0;
  int num_passes_ = 0;
};

}  // namespace

std::vector<QuantizeSchemeInfo> ListQuantizeSchemes() {
  std::vector<QuantizeSchemeInfo> list;
  for (const QuantizeScheme& scheme : QuantizeSchemes()) {
    list.push_back(
        {scheme.name, scheme.description, NeededStatistics(scheme) != StatisticsKind::kNone});
  }
  return list;
}

Result<QuantizeReport> QuantizeModel(const QuantizeOptions& options,
                                     const QuantizeProgress& progress) {
  GALE_ASSIGN_OR_RETURN(const QuantizeScheme* scheme, FindQuantizeScheme(options.scheme));
  return QuantizeRun(options, *scheme, progress).Run();
}

}  // namespace gale
