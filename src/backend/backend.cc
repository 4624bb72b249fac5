#include "backend/backend.h"

#include "base/check.h"

namespace gale {

void LinearKernel::RunGrouped(Stream&, const GroupedLinearArgs&) const {
  GALE_CHECK(false && "a kernel that was not found for groups");
}

void LinearKernel::RunBatched(Stream&, const BatchedLinearArgs&) const {
  GALE_CHECK(false && "a kernel that was not found for groups");
}

double Backend::ProbeLibraryProduct(Stream& /*stream*/, const TensorView& /*memory*/) { return 0; }

void Backend::GatedLinear(Stream& stream, const LinearKernel& kernel, const LinearArgs& linear,
                          const GatedActivationArgs& gated) {
  kernel.Run(stream, linear);
  GatedActivation(stream, gated);
}

void Backend::QkvRopeWrite(Stream& stream, const QkvRopeArgs& args, AttentionBackend& attention,
                           int layer, const TensorView& slot_mapping) {
  QkvRope(stream, args);
  const int64_t tokens = args.qkv.dim(0);
  const auto heads = [&](int first, int count) {
    TensorView view =
        args.qkv.Slice(1, int64_t{first} * args.head_dim, int64_t{first + count} * args.head_dim);
    view.rank = 3;
    view.dims = {tokens, count, args.head_dim};
    view.strides = {args.qkv.strides[0], args.head_dim, 1};
    return view;
  };
  attention.WriteKv(stream, {.layer = layer,
                             .k = heads(args.q_heads, args.kv_heads),
                             .v = heads(args.q_heads + args.kv_heads, args.kv_heads),
                             .slot_mapping = slot_mapping});
}

Result<std::unique_ptr<Graph>> Backend::Capture(Stream&, const std::function<void()>&) {
  return nullptr;
}

Result<std::unique_ptr<FusedDecoder>> Backend::CreateFusedDecoder(const DecoderDescription&) {
  return nullptr;
}

}  // namespace gale
