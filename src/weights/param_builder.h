// Parameters as layers declare them, before any weight is read. Constructors of models only
// declare; the loader checks all declarations at once and then hands each layer its tensors.
// Layer L2 of the compute column; used by nn/ and the weight loader.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "gale/engine_config.h"
#include "gale/status.h"
#include "tensor/tensor_view.h"
#include "weights/checkpoint.h"

namespace gale {

/// A tensor of the checkpoint that becomes (a slice of) a parameter.
struct ParamPart {
  std::vector<std::string> names;  ///< the first that the checkpoint has is read; the others may be
                                   ///< there too
  int64_t rows = 0;                ///< of dimension 0
};

/// What becomes of a parameter: ops read it as it is, or a linear kernel takes it, or both.
enum class WeightUse : uint8_t { kTable, kLinear, kLinearAndTable };

/// One tensor that a layer wants: its parts stacked along dimension 0.
struct ParamSpec {
  std::vector<ParamPart> parts;
  std::vector<int64_t> shape;  ///< of the whole; shape[0] is the sum of the parts' rows
  DType dtype = DType::kBf16;  ///< float tensors of another float type are converted
  float dummy_mean = 0;        ///< dummy weights: normal with this mean and deviation
  float dummy_std = 0;
  /// [rows, in] of which quantized blocks of a GGUF file are handed over as they are, if all parts
  /// are of one block type; else blocks are converted like any dtype.
  bool may_be_blocks = false;
  WeightUse use = WeightUse::kTable;
  QuantFormat made_into = {};  ///< what the layer makes of plain elements, unless that is plain too
  int groups = 1;              ///< as in Linear
  bool on_host = false;        ///< the layer reorders it there, whatever the device
  bool is_optional = false;  ///< the checkpoint may lack it; the layer then gets an empty RawParam

  uint64_t NumElements() const;
};

/// What a layer is given for a ParamSpec.
struct RawParam {
  TensorView view;            ///< contiguous; of blocks the bytes, u8 [rows, bytes of a row]
  Buffer storage;             ///< holds `view` unless it lies in a mapped file
  bool is_on_device = false;  ///< made there; else in memory that the host and Copy can read
  GgmlType blocks = GgmlType::kNone;
};

/// The rows of a block parameter as [rows, in], the way ops take them (see LinearWeight).
TensorView BlockRows(const TensorView& bytes, int64_t in);

/// Memory that bound weights live in. A model keeps it as long as its layers.
struct WeightStore {
  std::unique_ptr<const Checkpoint> checkpoint;  ///< null for dummy weights
  std::vector<Buffer> buffers;
  size_t mapped_bytes = 0;   ///< used in place from the checkpoint's mappings
  size_t private_bytes = 0;  ///< `buffers`, and storage that packed weights own
};

/// What a layer needs to take its weights.
struct BindContext {
  Backend& backend;
  Stream& stream;
  WeightStore& store;

  /// Keeps host memory alive for a view that goes on using it.
  void Keep(RawParam param);
  /// The parameter in device memory, in place where the device reads host memory.
  Result<TensorView> Place(RawParam param);
  /// Memory that the host can write and Copy can read.
  Result<RawParam> AllocateHost(DType dtype, std::initializer_list<int64_t> dims);
  /// Moves the parameter to such memory unless it is there: dummy weights are made on the device.
  Status BringToHost(RawParam& param);
  /// A table that the layer computed itself.
  Result<TensorView> PlaceTable(std::span<const float> values);
};

/// Takes the raw parameters in the order of their declaration.
using BindParams = std::function<Status(BindContext& context, std::vector<RawParam> params)>;

/// A linear layer's weight as far as memory and kernels go.
struct WeightPlan {
  QuantFormat format;
  int64_t in = 0;
  int64_t out = 0;
  int groups = 1;
};

/// Parameters that are bound together, so that only they are in memory twice while they are packed.
struct ParamGroup {
  std::vector<ParamSpec> specs;
  BindParams bind;
  /// What all specs make up together in the end; unset: each is a parameter of its own.
  std::optional<WeightPlan> together;
};

class ParamBuilder {
 public:
  ParamBuilder(DType dtype, Numerics numerics) : dtype_(dtype), numerics_(numerics) {}

  DType dtype() const { return dtype_; }  ///< of activations and plain weights
  Numerics numerics() const { return numerics_; }
  const std::shared_ptr<WeightStore>& store() const { return store_; }
  const std::vector<ParamGroup>& groups() const { return groups_; }

  /// `bind` is called once, before the layer is used; the layer must stay at its address.
  void Declare(std::vector<ParamSpec> specs, BindParams bind,
               std::optional<WeightPlan> together = std::nullopt);
  /// One tensor with a name of its own, put where the device reads it.
  void Declare(ParamSpec spec, TensorView* target);
  /// Of what is declared from now on, names that begin with `prefix` may begin with `alias` in its
  /// place: where the checkpoint is of a larger model.
  void AddAlias(std::string prefix, std::string alias) {
    aliases_.emplace_back(std::move(prefix), std::move(alias));
  }
  /// A tensor that checkpoints may hold and nobody needs; or all whose names begin so.
  void Ignore(std::string name) { ignored_.insert(std::move(name)); }
  void IgnorePrefix(std::string prefix) { ignored_prefixes_.push_back(std::move(prefix)); }
  bool Ignores(std::string_view name) const;

  /// Something that no checkpoint can make good, to be reported with what its tensors lack.
  void AddFault(std::string fault) { faults_.push_back(std::move(fault)); }
  const std::vector<std::string>& faults() const { return faults_; }

  uint64_t NumParameters() const;
  /// What a back end is asked for such a weight.
  LinearKey Key(const WeightPlan& weight) const {
    return {weight.format, weight.in, weight.out, dtype_, numerics_, weight.groups > 1};
  }

 private:
  DType dtype_;
  Numerics numerics_;
  std::shared_ptr<WeightStore> store_ = std::make_shared<WeightStore>();
  std::vector<ParamGroup> groups_;
  std::vector<std::string> faults_;
  std::vector<std::pair<std::string, std::string>> aliases_;
  std::set<std::string, std::less<>> ignored_;
  std::vector<std::string> ignored_prefixes_;
};

}  // namespace gale
