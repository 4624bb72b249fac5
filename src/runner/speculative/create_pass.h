// The arrays of a proposer's pass, in memory that is measured first. Layer L4.
#pragma once

#include <memory>
#include <utility>

#include "base/status_macros.h"
#include "runner/speculative/draft_proposer.h"
#include "runner/staged_array.h"

namespace gale {

/// A Pass has blocks `arrays` and `tables`, of which its constructor takes what it needs, and a
/// `sampler`. Errors: kResourceExhausted.
template <class Pass>
Result<std::unique_ptr<Pass>> CreatePass(const DraftDevice& device, const StepLimits& limits,
                                         int vocab_size) {
  StagedBlock arrays;
  StagedBlock tables;
  const Pass measured(arrays, tables, device, limits, vocab_size);
  GALE_ASSIGN_OR_RETURN(arrays, StagedBlock::Create(*device.backend, arrays.bytes()));
  GALE_ASSIGN_OR_RETURN(tables, StagedBlock::Create(*device.backend, tables.bytes()));
  auto pass = std::make_unique<Pass>(arrays, tables, device, limits, vocab_size);
  pass->arrays = std::move(arrays);
  pass->tables = std::move(tables);
  GALE_RETURN_IF_ERROR(pass->sampler.Allocate(*device.backend));
  return pass;
}

}  // namespace gale
