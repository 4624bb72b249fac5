// The tests of `x is ...`.
#include <fmt/format.h>

#include "text/jinja/arithmetic.h"
#include "text/jinja/builtins.h"

namespace gale::jinja {
namespace {

using In = Interpreter&;
using Self = const Value&;
using Args = const CallArguments&;

bool IsSequence(Self self) {
  return self.is_string() || self.is_dict() || self.is_undefined() ||
         (self.is_list() && self.AsList().is_indexed());
}

/// Python looks names up in a dict, so that lists and dicts are errors there.
bool IsName(Self self) {
  Dict().Find(self);
  return self.is_string();
}

bool IsIterable(Self self) { return IsSequence(self) || self.is_list(); }

template <int kExpectedSign, bool kOrEqual>
bool Ordered(In /*in*/, Self self, Args args) {
  const int order = Compare(self, args.Get(0, "other"));
  return (order > 0) - (order < 0) == kExpectedSign || (kOrEqual && order == 0);
}

bool LeavesRest(In in, Self self, const Value& divisor, int64_t rest) {
  return Equal(Arithmetic(in, BinaryOp::kModulo, self, divisor), Value::Int(rest));
}

bool SameAs(In /*in*/, Self self, Args args) {
  const Value other = args.Get(0, "other");
  if (self.kind() != other.kind()) return false;
  if (self.is_list()) return &self.AsList() == &other.AsList();
  if (self.is_dict()) return &self.AsDict() == &other.AsDict();
  return Equal(self, other);
}

const std::unordered_map<std::string_view, TestFunction>& Tests() {
  static const TestFunction equal = [](In, Self s, Args a) { return Equal(s, a.Get(0, "other")); };
  static const TestFunction not_equal = [](In, Self s, Args a) {
    return !Equal(s, a.Get(0, "other"));
  };
  static const std::unordered_map<std::string_view, TestFunction> table = {
      {"boolean", [](In, Self s, Args) { return s.is_bool(); }},
      {"callable",
       [](In, Self s, Args) {
         return s.is_undefined() || (s.is_object() && s.AsObject().is_callable());
       }},
      {"defined", [](In, Self s, Args) { return !s.is_undefined(); }},
      {"divisibleby", [](In in, Self s, Args a) { return LeavesRest(in, s, a.Get(0, "num"), 0); }},
      {"escaped", [](In, Self, Args) { return false; }},
      {"even", [](In in, Self s, Args) { return LeavesRest(in, s, Value::Int(2), 0); }},
      {"false", [](In, Self s, Args) { return s.is_bool() && !s.AsBool(); }},
      {"filter", [](In, Self s, Args) { return IsName(s) && FindFilter(s.bytes()) != nullptr; }},
      {"float", [](In, Self s, Args) { return s.is_float(); }},
      {"in", [](In, Self s, Args a) { return Contains(a.Get(0, "seq"), s); }},
      {"integer", [](In, Self s, Args) { return s.is_int(); }},
      {"iterable", [](In, Self s, Args) { return IsIterable(s); }},
      {"lower",
       [](In in, Self s, Args) {
         return FindMethod(Value::String(""), "islower")(in, Value::String(ToText(s)), {}).Truth();
       }},
      {"mapping", [](In, Self s, Args) { return s.is_dict(); }},
      {"none", [](In, Self s, Args) { return s.is_none(); }},
      {"number", [](In, Self s, Args) { return s.is_number(); }},
      {"odd", [](In in, Self s, Args) { return LeavesRest(in, s, Value::Int(2), 1); }},
      {"sameas", SameAs},
      {"sequence", [](In, Self s, Args) { return IsSequence(s); }},
      {"string", [](In, Self s, Args) { return s.is_string(); }},
      {"test", [](In, Self s, Args) { return IsName(s) && FindTest(s.bytes()) != nullptr; }},
      {"true", [](In, Self s, Args) { return s.is_bool() && s.AsBool(); }},
      {"undefined", [](In, Self s, Args) { return s.is_undefined(); }},
      {"upper",
       [](In in, Self s, Args) {
         return FindMethod(Value::String(""), "isupper")(in, Value::String(ToText(s)), {}).Truth();
       }},
      {"==", equal},
      {"eq", equal},
      {"equalto", equal},
      {"!=", not_equal},
      {"ne", not_equal},
      {"<", Ordered<-1, false>},
      {"lt", Ordered<-1, false>},
      {"lessthan", Ordered<-1, false>},
      {"<=", Ordered<-1, true>},
      {"le", Ordered<-1, true>},
      {">", Ordered<1, false>},
      {"gt", Ordered<1, false>},
      {"greaterthan", Ordered<1, false>},
      {">=", Ordered<1, true>},
      {"ge", Ordered<1, true>},
  };
  return table;
}

}  // namespace

TestFunction FindTest(std::string_view name) {
  const auto it = Tests().find(name);
  return it == Tests().end() ? nullptr : it->second;
}

}  // namespace gale::jinja
