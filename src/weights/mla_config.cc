#include "weights/mla_config.h"

#include <string_view>

#include <fmt/format.h>

#include "base/status_macros.h"

namespace gale {

Result<MlaConfig> ParseMlaConfig(const JsonObject& root) {
  constexpr int64_t kMaxWidth = 1 << 16;
  MlaConfig mla;
  const auto read = [&](std::string_view key, int* field) -> Status {
    GALE_ASSIGN_OR_RETURN(const JsonValue value, root.Get(key));
    GALE_ASSIGN_OR_RETURN(const int64_t number, value.Int(1, kMaxWidth));
    *field = static_cast<int>(number);
    return {};
  };
  if (!root.Find("kv_lora_rank")) return mla;
  GALE_RETURN_IF_ERROR(read("kv_lora_rank", &mla.kv_lora_rank));
  if (root.Find("q_lora_rank")) GALE_RETURN_IF_ERROR(read("q_lora_rank", &mla.q_lora_rank));
  GALE_RETURN_IF_ERROR(read("qk_nope_head_dim", &mla.qk_nope_head_dim));
  GALE_RETURN_IF_ERROR(read("qk_rope_head_dim", &mla.qk_rope_head_dim));
  GALE_RETURN_IF_ERROR(read("v_head_dim", &mla.v_head_dim));
  if (mla.qk_rope_head_dim % 2 != 0) {
    return tl::unexpected(root.Get("qk_rope_head_dim")->Wrong("an even number"));
  }
  if (const auto value = root.Find("rope_interleave")) {
    GALE_ASSIGN_OR_RETURN(mla.rope_interleave, value->Bool());
  }
  if (const auto bias = root.Find("attention_bias")) {
    GALE_ASSIGN_OR_RETURN(const bool has_bias, bias->Bool());
    if (has_bias) {
      return MakeError(
          ErrorCode::kUnsupported,
          fmt::format("{} (not supported with latent attention)", bias->Wrong("false").message));
    }
  }
  return mla;
}

}  // namespace gale
