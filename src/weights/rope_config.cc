#include "weights/rope_config.h"

#include <array>
#include <cmath>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "base/status_macros.h"

namespace gale {
namespace {

constexpr double kMaxTheta = 1e12;
constexpr double kMaxFactor = 1e6;
constexpr int64_t kMaxPosition = 1 << 28;

struct TypeName {
  std::string_view name;
  RopeType type;
};
constexpr std::array kTypes = {
    TypeName{"default", RopeType::kDefault}, TypeName{"linear", RopeType::kLinear},
    TypeName{"dynamic", RopeType::kDynamic}, TypeName{"yarn", RopeType::kYarn},
    TypeName{"llama3", RopeType::kLlama3},   TypeName{"longrope", RopeType::kLongRope},
    TypeName{"su", RopeType::kLongRope},  // Phi-3's first word for it
};

/// transformers once wrote "type".
Result<RopeType> ParseType(const JsonObject& params) {
  auto value = params.Find("rope_type");
  if (!value) value = params.Find("type");
  if (!value) return RopeType::kDefault;
  GALE_ASSIGN_OR_RETURN(const std::string_view name, value->String());
  std::string known;
  for (const TypeName& type : kTypes) {
    if (type.name == name) return type.type;
    known += fmt::format("{}\"{}\"", known.empty() ? "" : ", ", type.name);
  }
  return MakeError(ErrorCode::kUnsupported,
                   fmt::format("{} (not supported)", value->Wrong("one of " + known).message));
}

/// The members that are there.
Status ReadNumbers(const JsonObject& params,
                   std::initializer_list<std::pair<std::string_view, double*>> fields) {
  constexpr double kLeast = 1e-6;
  for (const auto& [key, field] : fields) {
    if (const auto value = params.Find(key)) {
      GALE_ASSIGN_OR_RETURN(*field, value->Number(kLeast, kMaxFactor));
    }
  }
  return {};
}

Result<std::vector<float>> ReadDivisors(const JsonObject& params, std::string_view key,
                                        int rotary_dim) {
  GALE_ASSIGN_OR_RETURN(const JsonValue value, params.Get(key));
  GALE_ASSIGN_OR_RETURN(const std::vector<JsonValue> items, value.Items());
  if (std::ssize(items) != rotary_dim / 2) {
    return tl::unexpected(value.Wrong(fmt::format(
        "{} numbers, one for each rotated pair (there are {})", rotary_dim / 2, items.size())));
  }
  std::vector<float> divisors;
  for (const JsonValue& item : items) {
    GALE_ASSIGN_OR_RETURN(const double number, item.Number(1e-6, kMaxFactor));
    divisors.push_back(static_cast<float>(number));
  }
  return divisors;
}

Status ReadLlama3(const JsonObject& params, RopeConfig& rope) {
  for (const char* key :
       {"low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
    GALE_RETURN_IF_ERROR(params.Get(key));
  }
  GALE_RETURN_IF_ERROR(ReadNumbers(params, {{"low_freq_factor", &rope.low_freq_factor},
                                            {"high_freq_factor", &rope.high_freq_factor}}));
  if (rope.high_freq_factor > rope.low_freq_factor) return {};
  return tl::unexpected(
      params.Get("high_freq_factor")
          ->Wrong(fmt::format("high_freq_factor over low_freq_factor = {}", rope.low_freq_factor)));
}

Status ReadYarn(const JsonObject& params, RopeConfig& rope) {
  GALE_RETURN_IF_ERROR(ReadNumbers(params, {{"beta_fast", &rope.beta_fast},
                                            {"beta_slow", &rope.beta_slow},
                                            {"mscale", &rope.mscale},
                                            {"mscale_all_dim", &rope.mscale_all_dim}}));
  if (const auto truncate = params.Find("truncate")) {
    GALE_ASSIGN_OR_RETURN(rope.truncate, truncate->Bool());
  }
  rope.attention_factor =
      rope.mscale > 0 && rope.mscale_all_dim > 0
          ? YarnScale(rope.factor, rope.mscale) / YarnScale(rope.factor, rope.mscale_all_dim)
          : YarnScale(rope.factor, 1);
  return {};
}

Status ReadLongRope(const JsonObject& params, int rotary_dim, RopeConfig& rope) {
  GALE_ASSIGN_OR_RETURN(rope.short_divisors, ReadDivisors(params, "short_factor", rotary_dim));
  GALE_ASSIGN_OR_RETURN(rope.long_divisors, ReadDivisors(params, "long_factor", rotary_dim));
  if (rope.factor > 1 && rope.original_max_position > 1) {
    rope.attention_factor =
        std::sqrt(1 + std::log(rope.factor) / std::log(rope.original_max_position));
  }
  return {};
}

}  // namespace

double YarnScale(double factor, double weight) {
  return factor <= 1 ? 1 : 0.1 * weight * std::log(factor) + 1;
}

Result<RopeConfig> ParseRopeParams(const JsonObject& params, RopeConfig rope, int rotary_dim) {
  if (const auto theta = params.Find("rope_theta")) {
    GALE_ASSIGN_OR_RETURN(rope.theta, theta->Number(1, kMaxTheta));
  }
  GALE_ASSIGN_OR_RETURN(rope.type, ParseType(params));
  if (rope.type == RopeType::kDefault) return rope;
  const auto original = params.Find("original_max_position_embeddings");
  // kDynamic counts from max_position_embeddings, whatever else the file says.
  if (original && rope.type != RopeType::kDynamic) {
    GALE_ASSIGN_OR_RETURN(const int64_t positions, original->Int(1, kMaxPosition));
    rope.original_max_position = static_cast<int>(positions);
  }
  // Two kinds may say by both numbers of positions how much longer the context has become.
  if (params.Find("factor") || (rope.type != RopeType::kLongRope && rope.type != RopeType::kYarn)) {
    GALE_RETURN_IF_ERROR(params.Get("factor"));
    GALE_RETURN_IF_ERROR(ReadNumbers(params, {{"factor", &rope.factor}}));
  } else {
    rope.factor = static_cast<double>(rope.context) / rope.original_max_position;
  }
  if (rope.type == RopeType::kLlama3) GALE_RETURN_IF_ERROR(ReadLlama3(params, rope));
  if (rope.type == RopeType::kYarn) GALE_RETURN_IF_ERROR(ReadYarn(params, rope));
  if (rope.type == RopeType::kLongRope) {
    GALE_RETURN_IF_ERROR(ReadLongRope(params, rotary_dim, rope));
  }
  GALE_RETURN_IF_ERROR(ReadNumbers(params, {{"attention_factor", &rope.attention_factor}}));
  return rope;
}

}  // namespace gale
