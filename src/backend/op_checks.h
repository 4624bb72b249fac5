// CHECKs on the arguments of ops, shared by all devices: a wrong shape is a bug in the caller.
// Layer L1b.
#pragma once

#include <initializer_list>

#include "backend/backend.h"
#include "backend/op_args.h"
#include "tensor/tensor_view.h"

namespace gale {

/// CHECKs that the last dimension is contiguous.
void CheckRows(const TensorView& view);
/// The same, and that `view` has exactly these dimensions.
void CheckShape(const TensorView& view, std::initializer_list<int64_t> dims);
void CheckDType(const TensorView& view, DType dtype);
/// CheckDType and CheckShape.
void CheckArray(const TensorView& view, DType dtype, std::initializer_list<int64_t> dims);
/// f32 or bf16.
void CheckActivation(const TensorView& view);
/// The shapes and dtypes that op_args.h states.
void CheckEmbeddingArgs(const EmbeddingArgs& args);
void CheckEditLogitsArgs(const EditLogitsArgs& args);
void CheckSampleArgs(const SampleArgs& args);
void CheckLogprobsArgs(const LogprobsArgs& args);
void CheckRotateArgs(const RotateArgs& args);
void CheckMoeRouteArgs(const MoeRouteArgs& args);
void CheckMoeCombineArgs(const MoeCombineArgs& args);
void CheckLinearArgs(const LinearArgs& args);
void CheckGroupedLinearArgs(const GroupedLinearArgs& args);
void CheckBatchedLinearArgs(const BatchedLinearArgs& args);
void CheckFillRandomArgs(const FillRandomArgs& args);

}  // namespace gale
