#include "weights/config_defaults.h"

#include <array>
#include <set>

#include <fmt/format.h>

#include "base/status_macros.h"

namespace gale {
namespace {

struct Defaults {
  std::string_view architecture;
  std::string_view json;
};

constexpr std::string_view kGemma3 = R"({"vocab_size":262208,"num_attention_heads":8,
    "num_key_value_heads":4,"head_dim":256,"hidden_activation":"gelu_pytorch_tanh",
    "max_position_embeddings":131072,"query_pre_attn_scalar":256,"sliding_window":4096,
    "sliding_window_pattern":6,"rope_theta":1000000,"rope_local_base_freq":10000,
    "tie_word_embeddings":true})";
constexpr std::string_view kGlm = R"({"partial_rotary_factor":0.5})";

constexpr std::array kDefaults = {
    Defaults{"Gemma2ForCausalLM", R"({"head_dim":256,"hidden_activation":"gelu_pytorch_tanh",
        "query_pre_attn_scalar":256,"sliding_window":4096,"attn_logit_softcapping":50,
        "final_logit_softcapping":30,"tie_word_embeddings":true})"},
    Defaults{"Gemma3ForCausalLM", kGemma3},
    Defaults{"Gemma3ForConditionalGeneration", kGemma3},
    Defaults{"Glm4ForCausalLM", kGlm},
    Defaults{"GlmForCausalLM", kGlm},
};

/// Appends the members of `object` whose keys are new. A null says "none" where there would be a
/// default, and so is a member too.
Status AppendMembers(const JsonObject& object, std::set<std::string>& keys, std::string& json) {
  return object.ForEach([&](std::string_view key, const JsonValue& value) -> Status {
    if (!keys.emplace(key).second) return {};
    json += fmt::format("{}\"{}\":{}", json.empty() ? "" : ",", key, value.Minified());
    return {};
  });
}

}  // namespace

Result<std::string> CompleteConfig(const JsonObject& root, std::string_view architecture) {
  std::string members;
  std::set<std::string> keys;
  if (const auto text = root.Find("text_config")) {
    GALE_ASSIGN_OR_RETURN(const JsonObject object, text->Object());
    // Of the outer object count only what is about the whole checkpoint.
    keys = {"architectures"};
    GALE_RETURN_IF_ERROR(AppendMembers(object, keys, members));
    keys.erase("architectures");
  }
  GALE_RETURN_IF_ERROR(AppendMembers(root, keys, members));
  for (const Defaults& defaults : kDefaults) {
    if (defaults.architecture != architecture) continue;
    GALE_ASSIGN_OR_RETURN(const JsonDocument document,
                          JsonDocument::Parse(defaults.json, "defaults"));
    GALE_ASSIGN_OR_RETURN(const JsonObject object, document.root().Object());
    GALE_RETURN_IF_ERROR(AppendMembers(object, keys, members));
  }
  return "{" + members + "}";
}

}  // namespace gale
