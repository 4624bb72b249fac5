#include "weights/moe_config.h"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

#include "base/status_macros.h"

namespace gale {
namespace {

constexpr int64_t kMaxExperts = 1 << 16;
constexpr int64_t kMaxWidth = 1 << 20;
constexpr int64_t kMaxLayers = 1 << 12;

/// Keeps the field when the key is absent.
Status ReadInt(const JsonObject& root, std::string_view key, int64_t min, int64_t max, int* field) {
  const auto value = root.Find(key);
  if (!value) return {};
  GALE_ASSIGN_OR_RETURN(const int64_t number, value->Int(min, max));
  *field = static_cast<int>(number);
  return {};
}

Status ReadNumber(const JsonObject& root, std::string_view key, float* field) {
  constexpr double kMin = 1e-6;
  constexpr double kMax = 1e6;
  const auto value = root.Find(key);
  if (!value) return {};
  GALE_ASSIGN_OR_RETURN(const double number, value->Number(kMin, kMax));
  *field = static_cast<float>(number);
  return {};
}

tl::unexpected<Error> Unsupported(const JsonValue& value, std::string_view supported) {
  return MakeError(ErrorCode::kUnsupported,
                   fmt::format("{} (not supported)", value.Wrong(supported).message));
}

Status ParseRouter(const JsonObject& root, MoeConfig& moe) {
  if (const auto value = root.Find("norm_topk_prob")) {
    GALE_ASSIGN_OR_RETURN(moe.norm_topk_prob, value->Bool());
  }
  if (const auto value = root.Find("scoring_func")) {
    GALE_ASSIGN_OR_RETURN(const std::string_view name, value->String());
    if (name != "softmax" && name != "sigmoid") {
      return Unsupported(*value, "\"softmax\" or \"sigmoid\"");
    }
    moe.score = name == "softmax" ? RouterScore::kSoftmax : RouterScore::kSigmoid;
  }
  GALE_RETURN_IF_ERROR(ReadNumber(root, "routed_scaling_factor", &moe.scale));
  if (const auto value = root.Find("topk_method")) {
    GALE_ASSIGN_OR_RETURN(const std::string_view name, value->String());
    if (name == "greedy") return {};  // whatever groups there are
    if (name != "group_limited_greedy" && name != "noaux_tc") {
      return Unsupported(*value, "\"greedy\", \"group_limited_greedy\" or \"noaux_tc\"");
    }
  }
  GALE_RETURN_IF_ERROR(ReadInt(root, "n_group", 1, moe.num_experts, &moe.num_groups));
  GALE_RETURN_IF_ERROR(ReadInt(root, "topk_group", 1, moe.num_groups, &moe.top_groups));
  if (moe.num_experts % moe.num_groups != 0) {
    return tl::unexpected(
        root.Get("n_group")->Wrong(fmt::format("a divisor of {} experts", moe.num_experts)));
  }
  const int candidates = moe.num_experts / moe.num_groups * moe.top_groups;
  if (moe.top_k > candidates) {
    return tl::unexpected(
        root.Get("num_experts_per_tok")
            ->Wrong(fmt::format("at most the {} experts that {} of {} groups have", candidates,
                                moe.top_groups, moe.num_groups)));
  }
  return {};
}

/// Which layers have experts: listed, or by the rules of Qwen and of DeepSeek.
Status ParseLayers(const JsonObject& root, int num_layers, MoeConfig& moe) {
  int sparse_step = 1;
  int first_sparse = 0;
  int layer_freq = 1;
  GALE_RETURN_IF_ERROR(ReadInt(root, "decoder_sparse_step", 1, kMaxLayers, &sparse_step));
  GALE_RETURN_IF_ERROR(ReadInt(root, "first_k_dense_replace", 0, kMaxLayers, &first_sparse));
  GALE_RETURN_IF_ERROR(ReadInt(root, "moe_layer_freq", 1, kMaxLayers, &layer_freq));
  for (int i = 0; i < num_layers; ++i) {
    moe.is_sparse.push_back((i + 1) % sparse_step == 0 && i >= first_sparse && i % layer_freq == 0);
  }
  if (const auto dense = root.Find("mlp_only_layers")) {
    GALE_RETURN_IF_ERROR(dense->ForEachItem([&](const JsonValue& item) -> Status {
      GALE_ASSIGN_OR_RETURN(const int64_t layer, item.Int(0, num_layers - 1));
      moe.is_sparse[static_cast<size_t>(layer)] = false;
      return {};
    }));
  }
  return {};
}

}  // namespace

Result<MoeConfig> ParseMoeConfig(const JsonObject& root, int num_layers, int intermediate_size) {
  MoeConfig moe;
  for (const char* key : {"num_experts", "num_local_experts", "n_routed_experts"}) {
    GALE_RETURN_IF_ERROR(ReadInt(root, key, 0, kMaxExperts, &moe.num_experts));
  }
  if (moe.num_experts == 0) return moe;
  GALE_ASSIGN_OR_RETURN(const JsonValue top_k, root.Get("num_experts_per_tok"));
  GALE_ASSIGN_OR_RETURN(const int64_t experts_per_token, top_k.Int(1, moe.num_experts));
  moe.top_k = static_cast<int>(experts_per_token);
  moe.intermediate_size = intermediate_size;
  GALE_RETURN_IF_ERROR(
      ReadInt(root, "moe_intermediate_size", 1, kMaxWidth, &moe.intermediate_size));
  GALE_RETURN_IF_ERROR(ReadInt(root, "shared_expert_intermediate_size", 0, kMaxWidth,
                               &moe.shared_intermediate_size));
  int shared_experts = 0;
  GALE_RETURN_IF_ERROR(ReadInt(root, "n_shared_experts", 0, kMaxExperts, &shared_experts));
  if (shared_experts > 0) {
    const int64_t width = int64_t{shared_experts} * moe.intermediate_size;
    if (width > kMaxWidth) {
      return tl::unexpected(root.Get("n_shared_experts")
                                ->Wrong(fmt::format("experts of at most {} together", kMaxWidth)));
    }
    moe.shared_intermediate_size = static_cast<int>(width);
  }
  GALE_RETURN_IF_ERROR(ReadNumber(root, "swiglu_alpha", &moe.swiglu_alpha));
  GALE_RETURN_IF_ERROR(ReadNumber(root, "swiglu_limit", &moe.swiglu_limit));
  GALE_RETURN_IF_ERROR(ParseRouter(root, moe));
  GALE_RETURN_IF_ERROR(ParseLayers(root, num_layers, moe));
  return moe;
}

}  // namespace gale
