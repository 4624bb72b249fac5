#include "support/random_quantized.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/check.h"
#include "gale/model_info.h"
#include "models/model_registry.h"
#include "quant/canonical_weight.h"
#include "quant/quant_scheme.h"
#include "tensor/nf4.h"
#include "weights/hf_config.h"

namespace gale {
namespace {

namespace fs = std::filesystem;

struct Tensor {
  DType dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};
using Tensors = std::map<std::string, Tensor>;

const char* FileDType(DType dtype) {
  switch (dtype) {
    case DType::kF32: return "F32";
    case DType::kI32: return "I32";
    case DType::kI8: return "I8";
    case DType::kU8: return "U8";
    case DType::kF8E4M3: return "F8_E4M3";
    default: break;
  }
  GALE_CHECK(false && "not a dtype of these tests");
  return "";
}

void WriteCheckpoint(const fs::path& folder, const std::string& config, const Tensors& tensors) {
  fs::create_directory(folder);
  std::ofstream(folder / "config.json") << config;
  std::string header = "{";
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    header +=
        fmt::format(R"({}"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                    header.size() > 1 ? "," : "", name, FileDType(tensor.dtype),
                    fmt::join(tensor.shape, ","), data.size(), data.size() + tensor.bytes.size());
    data += tensor.bytes;
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const uint64_t length = header.size();
  std::ofstream(folder / "model.safetensors", std::ios::binary)
          .write(reinterpret_cast<const char*>(&length), sizeof(length))
      << header << data;
}

template <class T>
T* Elements(Tensor& tensor) {
  return reinterpret_cast<T*>(tensor.bytes.data());
}

/// Fills tensors according to what they are.
class Filler {
 public:
  Filler(float scale, bool has_order) : scale_(scale), has_order_(has_order) {}

  Tensor Make(const std::string& name, const ParamSpec& spec, const ParamPart& part) {
    Tensor tensor{spec.dtype, spec.shape, {}};
    tensor.shape[0] = part.rows;
    size_t elements = 1;
    for (const int64_t dim : tensor.shape) elements *= static_cast<size_t>(dim);
    tensor.bytes.resize(elements * DTypeBytes(spec.dtype));
    if (name.ends_with("g_idx")) {
      FillGroups(tensor, elements);
    } else if (name.ends_with(".qzeros")) {
      // Of symmetric formats the middle less one; as good as any other of the rest.
      std::memset(tensor.bytes.data(), 0x77, tensor.bytes.size());
    } else if (name.ends_with("_scales")) {  // exponents
      for (size_t i = 0; i < elements; ++i)
        tensor.bytes[i] = static_cast<char>(120 + random_() % 4);
    } else if (name.ends_with(".quant_map")) {
      std::memcpy(tensor.bytes.data(), kNf4.data(), sizeof(kNf4));
    } else if (spec.dtype == DType::kF32) {
      FillFloats(tensor, elements, spec);
    } else {
      for (char& byte : tensor.bytes) byte = RandomByte(spec.dtype);
    }
    return tensor;
  }

 private:
  char RandomByte(DType dtype) {
    const auto byte = static_cast<uint8_t>(random_());
    const bool is_nan = dtype == DType::kF8E4M3 && (byte & 0x7F) == 0x7F;
    return static_cast<char>(is_nan ? byte - 1 : byte);
  }

  /// Spread over groups of 32 in an order that all tensors of as many inputs share.
  void FillGroups(Tensor& tensor, size_t elements) const {
    for (size_t i = 0; i < elements; ++i) {
      Elements<int32_t>(tensor)[i] = static_cast<int32_t>(i * (has_order_ ? 5 : 1) % elements / 32);
    }
  }

  void FillFloats(Tensor& tensor, size_t elements, const ParamSpec& spec) {
    // Plain parameters say what they are like; what says nothing is a scale.
    const bool is_scale = spec.dummy_mean == 0 && spec.dummy_std == 0;
    std::normal_distribution<float> normal(spec.dummy_mean, is_scale ? 1 : spec.dummy_std);
    std::uniform_real_distribution<float> scales(0.5F * scale_, 1.5F * scale_);
    for (size_t i = 0; i < elements; ++i) {
      Elements<float>(tensor)[i] = is_scale ? scales(random_) : normal(random_);
    }
  }

  float scale_;
  bool has_order_;  ///< act-order
  std::mt19937 random_{7};
};

std::string PlainName(std::string name) {
  constexpr std::string_view kWeight = ".weight";
  if (name.ends_with(kWeight)) name.resize(name.size() - kWeight.size());
  return name;
}

/// What the quantized tensors of a layer stand for.
std::vector<float> DequantizeLayer(const std::string& layer, const LinearLayout& layout,
                                   const LinearShape& shape, Tensors& quantized) {
  std::vector<RawParam> raw;
  for (const QuantParam& param : layout.Params(shape)) {
    const auto found = quantized.find(layer + param.suffix);
    GALE_CHECK(found != quantized.end());
    raw.emplace_back().view =
        TensorView(found->second.bytes.data(), param.dtype, std::span(param.shape));
  }
  const QuantFormat format = layout.Format(shape);
  const int64_t width = format.block.in == 0 ? shape.in : format.block.in;
  const int64_t height = format.block.out == 0 ? shape.out : format.block.out;
  const int64_t rows = (shape.out + height - 1) / height;
  const int64_t columns = (shape.in + width - 1) / width;
  std::vector<std::byte> codes(WeightBytesOf(format, shape.in, shape.out));
  std::vector<float> scales(static_cast<size_t>(rows * columns));
  std::vector<uint8_t> zeros(scales.size());
  std::vector<int32_t> permutation(static_cast<size_t>(shape.in));
  LinearWeight weight;
  weight.format = format;
  weight.in = shape.in;
  weight.out = shape.out;
  const auto row_bytes =
      static_cast<int64_t>(format.code == BlockCode::kGgmlBlock
                               ? WeightBytesOf(format, shape.in, 1)
                               : static_cast<size_t>(shape.in * CodeBits(format.codes) / 8));
  weight.data = TensorView(codes.data(), DType::kU8, {shape.out, row_bytes});
  if (format.code == BlockCode::kGgmlBlock) weight.data = BlockRows(weight.data, shape.in);
  weight.scales = TensorView(scales.data(), DType::kF32, {rows, columns});
  if (format.has_zeros) weight.zeros = TensorView(zeros.data(), DType::kU8, {rows, columns});
  if (format.has_permutation) {
    weight.permutation = TensorView(permutation.data(), DType::kI32, {shape.in});
  }
  ThreadPool threads(1);
  const Status status = layout.Unpack(raw, weight, threads);
  if (!status) internal::CheckFailed(__FILE__, __LINE__, status.error().message);
  std::vector<float> values(static_cast<size_t>(shape.in * shape.out));
  Dequantize(weight, TensorView(values.data(), DType::kF32, {shape.out, shape.in}), threads);
  return values;
}

/// Experts that a format stacks with outputs first, as the plain model has them.
std::vector<float> Transposed(const std::vector<float>& values, const std::vector<int64_t>& shape) {
  const auto in = static_cast<size_t>(shape[1]);
  const auto out = static_cast<size_t>(shape[2]);
  std::vector<float> transposed(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t row = i / in;
    transposed[(row / out * in + i % in) * out + row % out] = values[i];
  }
  return transposed;
}

/// The tensors of a model that `scheme` reads, or, with `twin` quantized tensors, what they stand
/// for.
template <class Make>
Tensors Declare(const HfConfig& config, const QuantScheme& scheme, Make&& make) {
  ParamBuilder builder(DType::kF32, Numerics::kBatchInvariant);
  const auto model = (*FindModel(config.architecture))(config, scheme, builder);
  GALE_CHECK(builder.faults().empty());
  Tensors tensors;
  for (const ParamGroup& group : builder.groups()) {
    for (const ParamSpec& spec : group.specs) {
      for (const ParamPart& part : spec.parts) {
        tensors.emplace(part.names[0], make(part.names[0], spec, part));
      }
    }
  }
  return tensors;
}

}  // namespace

RandomQuantized::RandomQuantized(const std::string& config_json,
                                 const std::string& quantization_config, float scale) {
  folder_ = fs::temp_directory_path() / "gale_quantized_XXXXXX";
  GALE_CHECK(mkdtemp(folder_.data()) != nullptr);
  const std::string quantized_json =
      fmt::format(R"({{"quantization_config":{},{})", quantization_config, config_json.substr(1));
  const auto config = ParseHfConfig(quantized_json, "config.json", SupportedArchitectures());
  GALE_CHECK(config.has_value());
  const auto scheme = MakeQuantScheme(*config, nullptr);
  GALE_CHECK(scheme.has_value());

  const bool has_order = quantization_config.find(R"("desc_act":true)") != std::string::npos;
  Filler filler(scale, has_order);
  Tensors quantized =
      Declare(*config, **scheme, [&](const auto& name, const auto& spec, const auto& part) {
        return filler.Make(name, spec, part);
      });
  const Tensors plain =
      Declare(*config, PlainScheme(), [&](const auto& name, const auto& spec, const auto& part) {
        const std::string layer = PlainName(name);
        const LinearLayout* layout = (*scheme)->LayoutOf(layer);
        const auto same = quantized.find(name);
        if (same != quantized.end() && same->second.dtype == DType::kF32) return same->second;
        GALE_CHECK(layout != nullptr);
        const bool is_stack = spec.shape.size() == 3;
        const LinearShape shape = {spec.shape[1],
                                   is_stack ? spec.shape[0] * spec.shape[2] : part.rows,
                                   DType::kF32, is_stack ? static_cast<int>(spec.shape[0]) : 1};
        std::vector<float> values = DequantizeLayer(layer, *layout, shape, quantized);
        if (is_stack) values = Transposed(values, spec.shape);
        Tensor tensor{DType::kF32, spec.shape, {}};
        tensor.shape[0] = part.rows;
        tensor.bytes.assign(reinterpret_cast<const char*>(values.data()),
                            values.size() * sizeof(float));
        return tensor;
      });
  WriteCheckpoint(this->quantized(), quantized_json, quantized);
  WriteCheckpoint(this->plain(), config_json, plain);
}

RandomQuantized::~RandomQuantized() {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

}  // namespace gale
