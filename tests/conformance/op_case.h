// The conformance table: one row per op, shape, dtype and property, run for every back end.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "conformance/test_device.h"

namespace gale::test {

/// What a case computed: element i must satisfy |got - want| <= tolerance.
struct OpResult {
  std::vector<double> got;
  std::vector<double> want;
  std::vector<double> tolerance;
  std::string skipped = {};  ///< why there is nothing to compare

  void Add(double got_value, double want_value, double bound) {
    got.push_back(got_value);
    want.push_back(want_value);
    tolerance.push_back(bound);
  }
};

/// Deliberate mistakes of the reference. A case that does not notice them tests nothing.
enum class Mutation {
  kNone,
  kDropLastTerm,  ///< a sum without its last term
  kWrongRow,      ///< one row off in a look-up
  kSkipResidual,
  kSkipHeadNorm,
  kNoRope,
  kWrongTheta,
  kMaskOffByOne,  ///< a query does not see itself
  kWindowOffByOne,
  kNoSoftcap,
  kNoSinks,
  kSwapKvHeads,
  kPlainCache,       ///< keys and values not rounded to what the cache holds
  kWrongValues,      ///< the first elements of keys for their last ones
  kSwapHalves,       ///< gate taken for up
  kOtherActivation,  ///< SiLU for GELU and the reverse
  kNoScale,
  kNoWeightOffset,
  kOtherPairs,  ///< of the rotary embedding
  kSkipBias,
  kNoCorrection,     ///< experts ranked by their scores alone
  kNoGroupLimit,     ///< experts of all groups picked from
  kSkipRenormalize,  ///< weights that need not sum to 1
  kSkipShared,       ///< no shared experts
  kSkipGate,         ///< shared experts at full strength
  kCountPrompt,      ///< tokens of the prompt taken for drawn ones
  kLongerMatch,      ///< a repeated run must be one token longer
  kAllowAll,
  kOtherInput,  ///< the last bit of one input differs
};

struct OpCase {
  std::string name;
  std::function<OpResult(Device&, Mutation)> run;
  std::vector<Mutation> must_fail;
};

/// A property that a table of numbers cannot say; the result is empty or tells what is wrong.
struct PropertyCase {
  std::string name;
  std::function<std::string(Device&)> run;
};

std::vector<OpCase> RowOpCases();
std::vector<OpCase> LinearCases();
std::vector<OpCase> GatedLinearCases();
std::vector<OpCase> GgmlCases();
std::vector<OpCase> QuantLinearCases();
std::vector<OpCase> AttentionCases();
std::vector<OpCase> GroupedCases();
std::vector<OpCase> MoeCases();
std::vector<OpCase> InvarianceCases();
std::vector<PropertyCase> SamplingCases();
std::vector<PropertyCase> RareFilterCases();
std::vector<OpCase> LogitsEditCases();
std::vector<PropertyCase> LogitsEditProperties();

}  // namespace gale::test
