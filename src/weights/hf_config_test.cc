#include "weights/hf_config.h"

#include <gtest/gtest.h>

#include "weights/presets.h"

namespace gale {
namespace {

const std::vector<std::string> kKnown = {
    "LlamaForCausalLM",   "Qwen3ForCausalLM",      "Qwen2ForCausalLM", "Qwen3MoeForCausalLM",
    "MixtralForCausalLM", "DeepseekV2ForCausalLM", "GptOssForCausalLM"};

constexpr char kRequired[] = R"("architectures":["LlamaForCausalLM"],"vocab_size":100,
    "hidden_size":64,"intermediate_size":96,"num_hidden_layers":2,"num_attention_heads":4,
    "max_position_embeddings":128)";

Result<HfConfig> Parse(const std::string& json) {
  return ParseHfConfig(json, "config.json", kKnown);
}
/// The required fields and `more`.
Result<HfConfig> ParseWith(const std::string& more) {
  return Parse("{" + std::string(kRequired) + (more.empty() ? "" : ",") + more + "}");
}

HfConfig MustParseWith(const std::string& more) {
  const auto config = ParseWith(more);
  EXPECT_TRUE(config) << config.error().message;
  return config.value_or(HfConfig{});
}

TEST(HfConfig, FillsInWhatTransformersFillsIn) {
  const HfConfig config = MustParseWith("");
  EXPECT_EQ(config.architecture, "LlamaForCausalLM");
  EXPECT_EQ(config.num_kv_heads, 4);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.rope.theta, 10000);
  EXPECT_EQ(config.rope.type, RopeType::kDefault);
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_FALSE(config.dtype);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_TRUE(config.eos_token_ids.empty());
  EXPECT_EQ(config.quant_method, "none");
}

TEST(HfConfig, ReadsWhatIsGiven) {
  const HfConfig config = MustParseWith(
      R"("head_dim":24,"num_key_value_heads":2,"rms_norm_eps":1e-05,"rope_theta":500000,
         "tie_word_embeddings":true,"attention_bias":true,"mlp_bias":true,"eos_token_id":[2,7],
         "torch_dtype":"bfloat16","quantization_config":{"quant_method":"awq","bits":4},
         "pad_token_id":null,"use_cache":true,"something_new":{"x":[1]})");
  EXPECT_EQ(config.head_dim, 24);
  EXPECT_EQ(config.num_kv_heads, 2);
  EXPECT_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_EQ(config.rope.theta, 500000);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_TRUE(config.attention_bias);
  EXPECT_TRUE(config.mlp_bias);
  EXPECT_EQ(config.eos_token_ids, (std::vector<TokenId>{2, 7}));
  EXPECT_EQ(config.dtype, DType::kBf16);
  EXPECT_EQ(config.quant_method, "awq");
}

TEST(HfConfig, BothSpellingsOfDTypeAndEos) {
  EXPECT_EQ(MustParseWith(R"("dtype":"float32")").dtype, DType::kF32);
  EXPECT_EQ(MustParseWith(R"("torch_dtype":"float16")").dtype, DType::kF16);
  EXPECT_EQ(MustParseWith(R"("dtype":"float32","torch_dtype":"float16")").dtype, DType::kF32);
  EXPECT_EQ(MustParseWith(R"("eos_token_id":99)").eos_token_ids, std::vector<TokenId>{99});
  EXPECT_TRUE(MustParseWith(R"("eos_token_id":null)").eos_token_ids.empty());
}

TEST(HfConfig, RopeInTheSpellingsOfTransformers4And5) {
  const std::string llama3 = R"("factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,
      "original_max_position_embeddings":8192)";
  for (const std::string& more :
       {R"("rope_theta":500000.0,"rope_scaling":{"rope_type":"llama3",)" + llama3 + "}",
        R"("rope_theta":500000.0,"rope_scaling":{"type":"llama3",)" + llama3 + "}",
        R"("rope_parameters":{"rope_theta":500000.0,"rope_type":"llama3",)" + llama3 + "}"}) {
    const HfConfig config = MustParseWith(more);
    EXPECT_EQ(config.rope.type, RopeType::kLlama3) << more;
    EXPECT_EQ(config.rope.theta, 500000) << more;
    EXPECT_EQ(config.rope.factor, 8);
    EXPECT_EQ(config.rope.low_freq_factor, 1);
    EXPECT_EQ(config.rope.high_freq_factor, 4);
    EXPECT_EQ(config.rope.original_max_position, 8192);
  }
  EXPECT_EQ(MustParseWith(R"("rope_scaling":null,"rope_theta":7)").rope.theta, 7);
  EXPECT_EQ(MustParseWith(R"("rope_parameters":{"rope_type":"default","rope_theta":9})").rope.theta,
            9);
}

TEST(HfConfig, EveryRequiredFieldIsMissed) {
  const std::string whole = "{" + std::string(kRequired) + "}";
  for (const std::string name :
       {"architectures", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "max_position_embeddings"}) {
    std::string json = whole;
    json.replace(json.find(name), name.size(), "other");
    const auto config = Parse(json);
    ASSERT_FALSE(config) << name;
    EXPECT_EQ(config.error().message, "config.json: " + name + ": missing");
  }
}

// The fields of Qwen/Qwen2.5-1.5B-Instruct's config.json as published.
TEST(HfConfig, ReadsQwen25AsPublished) {
  const auto config = Parse(R"({"architectures":["Qwen2ForCausalLM"],"attention_dropout":0.0,
      "bos_token_id":151643,"eos_token_id":151645,"hidden_act":"silu","hidden_size":1536,
      "initializer_range":0.02,"intermediate_size":8960,"max_position_embeddings":32768,
      "max_window_layers":21,"model_type":"qwen2","num_attention_heads":12,"num_hidden_layers":28,
      "num_key_value_heads":2,"rms_norm_eps":1e-06,"rope_theta":1000000.0,"sliding_window":32768,
      "tie_word_embeddings":true,"torch_dtype":"bfloat16","transformers_version":"4.43.1",
      "use_cache":true,"use_sliding_window":false,"vocab_size":151936})");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->head_dim, 128);
  EXPECT_EQ(config->rope.theta, 1e6);
  EXPECT_TRUE(config->tie_word_embeddings);
  EXPECT_FALSE(config->attention_bias);  // the architecture's own biases have no field
}

TEST(HfConfig, ReadsWindows) {
  const HfConfig qwen =
      MustParseWith(R"("use_sliding_window":false,"sliding_window":32,"max_window_layers":2)");
  EXPECT_FALSE(qwen.use_sliding_window);
  EXPECT_EQ(qwen.sliding_window, 32);
  EXPECT_EQ(qwen.max_window_layers, 2);
  EXPECT_TRUE(qwen.has_window.empty());
  EXPECT_EQ(MustParseWith(R"("sliding_window":null)").sliding_window, 0);
  EXPECT_EQ(MustParseWith(R"("sliding_window":7,
      "layer_types":["sliding_attention","full_attention"])")
                .has_window,
            (std::vector<bool>{true, false}));
}

TEST(HfConfig, ReadsEveryRopeScaling) {
  const RopeConfig linear = MustParseWith(R"("rope_scaling":{"type":"linear","factor":4})").rope;
  EXPECT_EQ(linear.type, RopeType::kLinear);
  EXPECT_EQ(linear.factor, 4);
  EXPECT_EQ(linear.context, 128);

  const HfConfig dynamic = MustParseWith(R"("rope_scaling":{"type":"dynamic","factor":4,
      "original_max_position_embeddings":7})");
  EXPECT_EQ(dynamic.rope.type, RopeType::kDynamic);
  EXPECT_EQ(dynamic.rope.original_max_position, 128);
  EXPECT_EQ(dynamic.max_position, 512);
  EXPECT_EQ(dynamic.rope.context, 512);

  const HfConfig yarn = MustParseWith(R"("rope_scaling":{"rope_type":"yarn","factor":4.0,
      "original_max_position_embeddings":64,"beta_fast":16,"truncate":false})");
  EXPECT_EQ(yarn.rope.type, RopeType::kYarn);
  EXPECT_EQ(yarn.max_position, 256);
  EXPECT_EQ(yarn.rope.beta_fast, 16);
  EXPECT_EQ(yarn.rope.beta_slow, 1);
  EXPECT_FALSE(yarn.rope.truncate);
  EXPECT_NEAR(yarn.rope.attention_factor, 1.138629436, 1e-9);
  const RopeConfig deepseek = MustParseWith(R"("rope_scaling":{"type":"yarn","factor":40,
      "mscale":1.0,"mscale_all_dim":0.5,"original_max_position_embeddings":4096})")
                                  .rope;
  EXPECT_NEAR(deepseek.attention_factor, 1.155721990, 1e-9);

  const HfConfig longrope = MustParseWith(R"("original_max_position_embeddings":32,
      "partial_rotary_factor":0.5,"rope_scaling":{"type":"su","short_factor":[1,1,1,1],
      "long_factor":[1,2,3,4]})");
  EXPECT_EQ(longrope.rotary_dim, 8);
  EXPECT_EQ(longrope.rope.type, RopeType::kLongRope);
  EXPECT_EQ(longrope.rope.original_max_position, 32);
  EXPECT_EQ(longrope.rope.long_divisors, (std::vector<float>{1, 2, 3, 4}));
  EXPECT_NEAR(longrope.rope.attention_factor, 1.183215957, 1e-9);
  EXPECT_EQ(longrope.max_position, 128);
}

// The text part of google/gemma-3-4b-it's config.json as published, and its frame.
TEST(HfConfig, FillsInGemma3AsPublished) {
  const auto config =
      ParseHfConfig(R"({"architectures":["Gemma3ForConditionalGeneration"],
      "boi_token_index":255999,"eos_token_id":[1,106],"initializer_range":0.02,
      "mm_tokens_per_image":256,"model_type":"gemma3","torch_dtype":"bfloat16",
      "text_config":{"hidden_size":2560,"intermediate_size":10240,"model_type":"gemma3_text",
      "num_hidden_layers":34,"rope_scaling":{"factor":8.0,"rope_type":"linear"},
      "sliding_window":1024},"vision_config":{"hidden_size":1152}})",
                    "config.json", std::vector<std::string>{"Gemma3ForConditionalGeneration"});
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->vocab_size, 262208);
  EXPECT_EQ(config->hidden_size, 2560);
  EXPECT_EQ(config->num_heads, 8);
  EXPECT_EQ(config->num_kv_heads, 4);
  EXPECT_EQ(config->head_dim, 256);
  EXPECT_EQ(config->sliding_window, 1024);
  EXPECT_EQ(config->sliding_window_pattern, 6);
  EXPECT_EQ(config->max_position, 131072);
  EXPECT_EQ(config->activation, Activation::kGeluTanh);
  EXPECT_EQ(config->rope.type, RopeType::kLinear);
  EXPECT_EQ(config->rope.theta, 1e6);
  ASSERT_TRUE(config->sliding_rope);
  EXPECT_EQ(config->sliding_rope->type, RopeType::kDefault);
  EXPECT_EQ(config->sliding_rope->theta, 1e4);
  EXPECT_TRUE(config->tie_word_embeddings);
  EXPECT_EQ(config->dtype, DType::kBf16);
  EXPECT_EQ(config->eos_token_ids, (std::vector<TokenId>{1, 106}));
}

TEST(HfConfig, RopeOfEachKindOfLayers) {
  const HfConfig config = MustParseWith(R"("rope_parameters":{
      "full_attention":{"rope_type":"linear","rope_theta":5e5,"factor":8},
      "sliding_attention":{"rope_type":"default","rope_theta":2e4}})");
  EXPECT_EQ(config.rope.theta, 5e5);
  EXPECT_EQ(config.rope.factor, 8);
  ASSERT_TRUE(config.sliding_rope);
  EXPECT_EQ(config.sliding_rope->theta, 2e4);
}

TEST(HfConfig, RefusesBadFieldsByName) {
  struct Bad {
    const char* more;
    ErrorCode code;
    const char* message;  ///< a part of it
  };
  constexpr ErrorCode kCorrupt = ErrorCode::kDataCorrupt;
  constexpr ErrorCode kUnsupported = ErrorCode::kUnsupported;
  const Bad cases[] = {
      {R"("vocab_size":1)", kCorrupt, "\"vocab_size\" stands twice"},
      {R"("num_key_value_heads":3)", kCorrupt,
       "num_key_value_heads: expected a divisor of num_attention_heads = 4, got 3"},
      {R"("num_key_value_heads":0)", kCorrupt, "num_key_value_heads: expected an integer in [1,"},
      {R"("num_key_value_heads":"2")", kCorrupt, "num_key_value_heads"},
      {R"("head_dim":17)", kCorrupt, "even head_dim"},
      {R"("head_dim":16.5)", kCorrupt, "head_dim: expected an integer"},
      {R"("head_dim":1000000)", kCorrupt, "head_dim: expected an integer"},
      {R"("rms_norm_eps":"1e-6")", kCorrupt, "rms_norm_eps: expected a number"},
      {R"("rms_norm_eps":-1)", kCorrupt, "rms_norm_eps: expected a number in [0, 1], got -1"},
      {R"("rope_theta":0)", kCorrupt, "rope_theta: expected a number"},
      {R"("tie_word_embeddings":1)", kCorrupt,
       "tie_word_embeddings: expected true or false, got 1"},
      {R"("attention_bias":"yes")", kCorrupt, "attention_bias: expected true or false"},
      {R"("mlp_bias":{})", kCorrupt, "mlp_bias: expected true or false, got an object"},
      {R"("eos_token_id":100)", kCorrupt, "eos_token_id: expected an integer in [0, 99], got 100"},
      {R"("eos_token_id":[1,-1])", kCorrupt, "eos_token_id[1]"},
      {R"("eos_token_id":"2")", kCorrupt, "eos_token_id: expected an integer"},
      {R"("dtype":"float8")", kUnsupported,
       "dtype: expected \"float32\", \"float16\" or \"bfloat16\""},
      {R"("dtype":16)", kCorrupt, "dtype: expected a string"},
      {R"("hidden_act":"gelu")", kUnsupported,
       "hidden_act: expected \"silu\" or \"gelu_pytorch_tanh\", got \"gelu\""},
      {R"("use_bidirectional_attention":true)", kUnsupported, "use_bidirectional_attention"},
      {R"("layer_types":["full_attention","chunked_attention"])", kUnsupported, "layer_types[1]"},
      {R"("layer_types":["full_attention"])", kCorrupt, "layer_types: expected 2 items"},
      {R"("layer_types":["full_attention","sliding_attention"])", kCorrupt,
       "layer_types[1]: expected a sliding_window over 0 beside such layers"},
      {R"("attn_logit_softcapping":-1)", kCorrupt, "attn_logit_softcapping"},
      {R"("rope_scaling":{"rope_type":"ntk","factor":4})", kUnsupported,
       "rope_scaling.rope_type: expected one of \"default\", \"linear\", \"dynamic\", \"yarn\", "
       "\"llama3\", \"longrope\", \"su\", got \"ntk\""},
      {R"("rope_scaling":{"rope_type":"linear"})", kCorrupt, "rope_scaling.factor: missing"},
      {R"("rope_scaling":{"rope_type":"longrope","short_factor":[1,1,1,1,1,1,1],
         "long_factor":[1,1,1,1,1,1,1,1]})",
       kCorrupt, "short_factor: expected 8 numbers"},
      {R"("rope_scaling":{"rope_type":"longrope","short_factor":[1,1,1,1,1,1,1,0],
         "long_factor":[1,1,1,1,1,1,1,1]})",
       kCorrupt, "short_factor[7]: expected a number"},
      {R"("rope_scaling":{"rope_type":"llama3"})", kCorrupt, "rope_scaling.factor: missing"},
      {R"("rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":4,"high_freq_factor":4,
         "original_max_position_embeddings":64})",
       kCorrupt, "high_freq_factor over low_freq_factor"},
      {R"("rope_scaling":{"rope_type":"llama3","factor":0,"low_freq_factor":1,"high_freq_factor":4,
         "original_max_position_embeddings":64})",
       kCorrupt, "rope_scaling.factor"},
      {R"("rope_parameters":{"rope_theta":1e4,"partial_rotary_factor":0.2})", kCorrupt,
       "partial_rotary_factor: expected an even number of a head's 16 elements (it is 3)"},
      {R"("partial_rotary_factor":0)", kCorrupt, "partial_rotary_factor"},
      {R"("rope_parameters":[])", kCorrupt, "rope_parameters: expected an object"},
      {R"("num_experts":8)", kCorrupt, "num_experts_per_tok: missing"},
      {R"("num_experts":8,"num_experts_per_tok":9,"moe_intermediate_size":8)", kCorrupt,
       "num_experts_per_tok"},
      {R"("quantization_config":{"bits":4})", kCorrupt,
       "quantization_config.quant_method: missing"},
  };
  for (const Bad& bad : cases) {
    const auto config = ParseWith(bad.more);
    ASSERT_FALSE(config) << bad.more;
    EXPECT_EQ(config.error().code, bad.code) << config.error().message;
    EXPECT_NE(config.error().message.find(bad.message), std::string::npos)
        << bad.more << ": " << config.error().message;
  }
  EXPECT_FALSE(Parse(""));
  EXPECT_FALSE(Parse("[]"));
  EXPECT_FALSE(Parse("{\"architectures\":["));
  EXPECT_FALSE(Parse(R"({"architectures":[]})"));
  EXPECT_FALSE(Parse(R"({"architectures":[7]})"));
}

TEST(HfConfig, UndividedHeadsNeedAHeadDim) {
  const std::string fields = R"({"architectures":["LlamaForCausalLM"],"vocab_size":100,
      "hidden_size":65,"intermediate_size":96,"num_hidden_layers":2,"num_attention_heads":4,
      "max_position_embeddings":128)";
  EXPECT_EQ(Parse(fields + "}").error().message,
            "config.json: num_attention_heads: expected a divisor of hidden_size = 65, as there is "
            "no head_dim, got 4");
  EXPECT_TRUE(Parse(fields + ",\"head_dim\":10}"));
}

TEST(HfConfig, UnknownArchitectureListsTheKnown) {
  const auto config = Parse(R"({"architectures":["GPT2LMHeadModel"],"n_embd":768})");
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(config.error().message,
            "config.json: unknown architecture \"GPT2LMHeadModel\"; known: LlamaForCausalLM, "
            "Qwen3ForCausalLM, Qwen2ForCausalLM, Qwen3MoeForCausalLM, MixtralForCausalLM, "
            "DeepseekV2ForCausalLM, GptOssForCausalLM");
}

TEST(HfConfig, EveryPresetParses) {
  for (const std::string& name : PresetNames()) {
    const auto config = Parse(std::string(PresetConfig(name)));
    EXPECT_TRUE(config) << config.error().message;
  }
  EXPECT_TRUE(PresetConfig("gpt-5").empty());
}

}  // namespace
}  // namespace gale
