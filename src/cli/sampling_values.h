// Values of sampling parameters out of flags and out of JSON. Each overload takes one type; what it
// refuses it names: "a number", "token ids such as 15,27".
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/value.hpp>

#include "gale/sampling_params.h"

namespace gale::cli {

/// What a value had to be, when it was not that.
using Mismatch = std::optional<std::string_view>;

/// `texts`: the flag's arguments, one for each time it was given.
Mismatch FromTexts(const std::vector<std::string>& texts, float& value);
Mismatch FromTexts(const std::vector<std::string>& texts, int& value);
Mismatch FromTexts(const std::vector<std::string>& texts, std::optional<int>& value);
Mismatch FromTexts(const std::vector<std::string>& texts, EarlyStopping& value);
Mismatch FromTexts(const std::vector<std::string>& texts, std::vector<std::string>& value);
Mismatch FromTexts(const std::vector<std::string>& texts, std::vector<TokenId>& value);
Mismatch FromTexts(const std::vector<std::string>& texts, std::vector<std::vector<TokenId>>& value);
Mismatch FromTexts(const std::vector<std::string>& texts, std::vector<LogitBias>& value);

/// Strictly: no number from a string, no integer from 1.5.
Mismatch FromJson(const boost::json::value& json, bool& value);
Mismatch FromJson(const boost::json::value& json, float& value);
Mismatch FromJson(const boost::json::value& json, int& value);
Mismatch FromJson(const boost::json::value& json, std::optional<int>& value);
Mismatch FromJson(const boost::json::value& json, std::optional<uint64_t>& value);
Mismatch FromJson(const boost::json::value& json, EarlyStopping& value);
Mismatch FromJson(const boost::json::value& json, Speculation& value);
Mismatch FromJson(const boost::json::value& json, std::string& value);
Mismatch FromJson(const boost::json::value& json, std::vector<std::string>& value);
Mismatch FromJson(const boost::json::value& json, std::vector<TokenId>& value);
Mismatch FromJson(const boost::json::value& json, std::vector<std::vector<TokenId>>& value);
Mismatch FromJson(const boost::json::value& json, std::vector<LogitBias>& value);

/// "no", "yes", "never".
std::string_view EarlyStoppingName(EarlyStopping stopping);

}  // namespace gale::cli
