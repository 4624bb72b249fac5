#include "weights/param_builder.h"

#include <algorithm>

#include "base/status_macros.h"

namespace gale {

uint64_t ParamSpec::NumElements() const {
  uint64_t elements = 1;
  for (const int64_t dim : shape) elements *= static_cast<uint64_t>(dim);
  return elements;
}

TensorView BlockRows(const TensorView& bytes, int64_t in) {
  TensorView rows(bytes.data, DType::kU8, {bytes.dim(0), in});
  rows.strides[0] = bytes.dim(1);
  return rows;
}

void BindContext::Keep(RawParam param) {
  if (param.storage.data() == nullptr) {
    store.mapped_bytes += param.view.Bytes();
    return;
  }
  store.private_bytes += param.storage.bytes();
  store.buffers.push_back(std::move(param.storage));
}

Result<TensorView> BindContext::Place(RawParam param) {
  TensorView view = param.view;
  if (param.is_on_device || backend.info().is_host_memory) {
    Keep(std::move(param));
    return view;
  }
  GALE_ASSIGN_OR_RETURN(Buffer buffer, backend.Allocate(view.Bytes(), MemoryKind::kDevice));
  backend.Copy(stream, buffer.data(), view.data, view.Bytes());
  GALE_RETURN_IF_ERROR(stream.Synchronize());  // the host copy goes away on return
  view.data = buffer.data();
  Keep({view, std::move(buffer), true});
  return view;
}

Result<RawParam> BindContext::AllocateHost(DType dtype, std::initializer_list<int64_t> dims) {
  RawParam param;
  param.view = TensorView(nullptr, dtype, dims);
  const MemoryKind kind =
      backend.info().is_host_memory ? MemoryKind::kDevice : MemoryKind::kPinnedHost;
  GALE_ASSIGN_OR_RETURN(param.storage, backend.Allocate(param.view.Bytes(), kind));
  param.view.data = param.storage.data();
  return param;
}

Status BindContext::BringToHost(RawParam& param) {
  if (!param.is_on_device || backend.info().is_host_memory) return {};
  GALE_ASSIGN_OR_RETURN(RawParam host, AllocateHost(param.view.dtype, {param.view.NumElements()}));
  backend.Copy(stream, host.view.data, param.view.data, param.view.Bytes());
  GALE_RETURN_IF_ERROR(stream.Synchronize());
  param.view.data = host.view.data;
  param.storage = std::move(host.storage);
  param.is_on_device = false;
  return {};
}

Result<TensorView> BindContext::PlaceTable(std::span<const float> values) {
  GALE_ASSIGN_OR_RETURN(Buffer buffer, backend.Allocate(values.size_bytes(), MemoryKind::kDevice));
  backend.Copy(stream, buffer.data(), values.data(), values.size_bytes());
  GALE_RETURN_IF_ERROR(stream.Synchronize());
  const TensorView view(buffer.data(), DType::kF32, {static_cast<int64_t>(values.size())});
  Keep({view, std::move(buffer), true});
  return view;
}

void ParamBuilder::Declare(std::vector<ParamSpec> specs, BindParams bind,
                           std::optional<WeightPlan> together) {
  for (ParamSpec& spec : specs) {
    for (ParamPart& part : spec.parts) {
      const std::vector<std::string> names = part.names;
      for (const auto& [prefix, alias] : aliases_) {
        for (const std::string& name : names) {
          if (name.starts_with(prefix)) part.names.push_back(alias + name.substr(prefix.size()));
        }
      }
    }
  }
  groups_.push_back({std::move(specs), std::move(bind), std::move(together)});
}

bool ParamBuilder::Ignores(std::string_view name) const {
  return ignored_.contains(name) ||
         std::ranges::any_of(ignored_prefixes_,
                             [&](const std::string& prefix) { return name.starts_with(prefix); });
}

void ParamBuilder::Declare(ParamSpec spec, TensorView* target) {
  std::vector<ParamSpec> specs;
  specs.push_back(std::move(spec));
  Declare(std::move(specs), [target](BindContext& context, std::vector<RawParam> params) -> Status {
    GALE_ASSIGN_OR_RETURN(*target, context.Place(std::move(params[0])));
    return {};
  });
}

uint64_t ParamBuilder::NumParameters() const {
  uint64_t total = 0;
  for (const ParamGroup& group : groups_) {
    for (const ParamSpec& spec : group.specs) total += spec.NumElements();
  }
  return total;
}

}  // namespace gale
