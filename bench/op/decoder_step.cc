#include "op/decoder_step.h"

#include "base/status_macros.h"
#include "weights/dummy_weights.h"

namespace gale::bench {

Result<std::unique_ptr<DecoderStep>> DecoderStep::Create(Backend& backend, Stream& stream,
                                                         Model& model, FusedDecoder* fused,
                                                         const StepShape& shape) {
  std::unique_ptr<DecoderStep> step(new DecoderStep(backend, model, fused));
  GALE_RETURN_IF_ERROR(step->Prepare(stream, shape));
  return step;
}

Result<TensorView> DecoderStep::Take(DType dtype, std::vector<int64_t> dims) {
  TensorView view(nullptr, dtype, std::span<const int64_t>(dims));
  GALE_ASSIGN_OR_RETURN(Buffer buffer, backend_.Allocate(view.Bytes(), MemoryKind::kDevice));
  view.data = buffer.data();
  buffers_.push_back(std::move(buffer));
  return view;
}

Result<TensorView> DecoderStep::Upload(Stream& stream, const std::vector<int32_t>& values,
                                       std::vector<int64_t> dims) {
  GALE_ASSIGN_OR_RETURN(const TensorView view, Take(DType::kI32, std::move(dims)));
  backend_.Copy(stream, view.data, values.data(), view.Bytes());
  GALE_RETURN_IF_ERROR(stream.Synchronize());
  return view;
}

Status DecoderStep::Prepare(Stream& stream, const StepShape& shape) {
  const AttentionSpec spec = model_.attention_groups()[0].spec;
  attention_ = backend_.CreateAttention(spec);
  const int block_tokens = attention_->BlockTokens()[0];
  const int64_t seq_blocks = (shape.context + block_tokens - 1) / block_tokens;
  const int64_t tokens = int64_t{shape.seqs} * shape.rows_each;
  const int64_t blocks = shape.seqs * seq_blocks;

  const auto block_bytes = static_cast<int64_t>(attention_->BytesPerBlock(block_tokens));
  const auto element_bytes = static_cast<int64_t>(DTypeBytes(spec.dtype));
  GALE_ASSIGN_OR_RETURN(TensorView pool, Take(spec.dtype, {blocks, block_bytes / element_bytes}));
  GALE_ASSIGN_OR_RETURN(DummyWeights numbers, DummyWeights::Create(backend_, stream));
  numbers.Fill({.name = "cache", .seed = 1}, pool);
  GALE_RETURN_IF_ERROR(stream.Synchronize());  // the numbers' table goes away
  cache_ = {TensorView(pool.data, DType::kU8, {blocks, block_bytes}), block_tokens};
  attention_->BindCache(cache_);
  cache_bytes_ = 2.0 * spec.layers * spec.kv_heads * spec.head_dim *
                 static_cast<double>(element_bytes) * shape.seqs * shape.context;

  std::vector<int32_t> ids, positions, slots, tables;
  cu_seqlens_ = {0};
  for (int seq = 0; seq < shape.seqs; ++seq) {
    for (int64_t i = 0; i < seq_blocks; ++i) {
      tables.push_back(static_cast<int32_t>(seq * seq_blocks + i));
    }
    for (int row = 0; row < shape.rows_each; ++row) {
      const int position = shape.context - shape.rows_each + row;
      ids.push_back((seq * 7919 + row * 31) % model_.vocab_size());
      positions.push_back(position);
      slots.push_back(static_cast<int32_t>(seq * seq_blocks) * block_tokens + position);
    }
    cu_seqlens_.push_back(static_cast<int32_t>(ids.size()));
    seq_lens_.push_back(shape.context);
  }
  AttentionBatch attention;
  plan_.resize(attention_->PlanBytes(static_cast<int>(tokens), shape.seqs));
  GALE_ASSIGN_OR_RETURN(const TensorView device_plan, Take(DType::kU8, {std::ssize(plan_)}));
  attention.cu_seqlens_q = cu_seqlens_;
  attention.seq_lens_upper = seq_lens_;
  GALE_ASSIGN_OR_RETURN(attention.seq_lens, Upload(stream, seq_lens_, {shape.seqs}));
  GALE_ASSIGN_OR_RETURN(attention.block_tables, Upload(stream, tables, {shape.seqs, seq_blocks}));
  GALE_ASSIGN_OR_RETURN(attention.slot_mapping, Upload(stream, slots, {tokens}));
  attention.host_plan = plan_;
  attention.device_plan = device_plan.data;
  GALE_ASSIGN_OR_RETURN(batch_.token_ids, Upload(stream, ids, {tokens}));
  GALE_ASSIGN_OR_RETURN(batch_.positions, Upload(stream, positions, {tokens}));
  batch_.attention = {attention};
  attention_->Plan(batch_.attention[0]);
  backend_.Copy(stream, device_plan.data, plan_.data(), plan_.size());
  GALE_RETURN_IF_ERROR(stream.Synchronize());

  if (fused_ != nullptr && !fused_->Supports(batch_.attention[0])) fused_ = nullptr;
  GALE_ASSIGN_OR_RETURN(hidden_, Take(model_.dtype(), {tokens, model_.hidden_size()}));
  GALE_ASSIGN_OR_RETURN(logits_, Take(DType::kF32, {tokens, model_.vocab_size()}));
  GALE_ASSIGN_OR_RETURN(
      Buffer scratch,
      backend_.Allocate(model_.ScratchBytes(static_cast<int>(tokens)), MemoryKind::kDevice));
  scratch_ = ScratchArena(std::move(scratch));
  return {};
}

void DecoderStep::Enqueue(Stream& stream) {
  if (fused_ != nullptr) {
    fused_->Run(stream, {.token_ids = batch_.token_ids,
                         .positions = batch_.positions,
                         .attention = batch_.attention.data(),
                         .cache = cache_,
                         .logits = logits_});
    return;
  }
  scratch_.Reset();
  ForwardContext context = {&backend_, &stream, {attention_.get()}, &scratch_};
  model_.Embed(context, batch_, hidden_);
  model_.Forward(context, batch_, hidden_);
  model_.ComputeLogits(context, hidden_, logits_);
}

}  // namespace gale::bench
