// All experts of a layer in one tensor with inputs first, gates and ups in turn: how gpt-oss stores
// what other families store expert by expert.
#pragma once

#include <memory>
#include <string>

#include "nn/linear.h"
#include "quant/quant_scheme.h"
#include "weights/param_builder.h"

namespace gale {

struct StackedExpertsShape {
  int experts = 0;
  int64_t in = 0;
  int64_t out = 0;
  bool is_gate_up = false;  ///< outputs 2i are gates, 2i + 1 ups; they come out as [gates | ups]
};

/// Declares `name` [experts, in, out], or what `scheme` has in its place with outputs first, and
/// `name`_bias [experts, out], and makes of them a weight for LinearKernel::RunGrouped, [experts *
/// out, in]. Cost: a transposition on the host at load; three copies of one layer's tensor exist
/// meanwhile.
std::unique_ptr<Linear> DeclareStackedExperts(ParamBuilder& builder, const QuantScheme& scheme,
                                              const std::string& name,
                                              const StackedExpertsShape& shape);

}  // namespace gale
