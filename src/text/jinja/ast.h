// The syntax tree of a template.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "text/jinja/template_error.h"
#include "text/jinja/value.h"

namespace gale::jinja {

struct Expr;
struct Statement;
using ExprPtr = std::unique_ptr<const Expr>;
using Body = std::vector<Statement>;

struct Arguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr spread, named_spread;  ///< *expr and **expr, or null
};

struct Literal {
  Value value;
};
struct Name {
  std::string name;
};
struct ListLiteral {
  std::vector<ExprPtr> items;
  bool is_tuple;
};
struct DictLiteral {
  std::vector<std::pair<ExprPtr, ExprPtr>> items;
};
enum class UnaryOp { kNot, kMinus, kPlus };
struct Unary {
  UnaryOp op;
  ExprPtr operand;
};
enum class BinaryOp { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower, kConcat };
struct Binary {
  BinaryOp op;
  ExprPtr left, right;
};
struct Logical {
  bool is_and;
  ExprPtr left, right;
};
enum class CompareOp { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual, kIn, kNotIn };
/// a < b <= c: each operator compares with the operand before it.
struct Comparison {
  ExprPtr first;
  std::vector<std::pair<CompareOp, ExprPtr>> rest;
};
struct Conditional {
  ExprPtr test, then, otherwise;  ///< otherwise may be null
};
struct GetAttribute {
  ExprPtr object;
  std::string name;
};
struct GetItem {
  ExprPtr object, index;
};
struct GetSlice {
  ExprPtr object, begin, end, step;  ///< bounds may be null
};
struct Call {
  ExprPtr callee;
  Arguments arguments;
};
struct FilterCall {
  ExprPtr operand;  ///< null in {% filter %} and {% set x | f %}: the block's output
  std::string name;
  Arguments arguments;
};
struct TestCall {
  ExprPtr operand;
  std::string name;
  Arguments arguments;
};

struct Expr {
  std::variant<Literal, Name, ListLiteral, DictLiteral, Unary, Binary, Logical, Comparison,
               Conditional, GetAttribute, GetItem, GetSlice, Call, FilterCall, TestCall>
      node;
  Position position;
  int depth;  ///< of the tree below, itself included
};

/// Text that stands for itself.
struct Data {
  std::string text;
};
struct Print {
  ExprPtr expr;
};
/// What {% for %} and {% set %} assign to: a name, an attribute of a namespace, or parts of a
/// sequence.
struct Target {
  std::string name;
  std::string attribute;  ///< "ns.x": name = "ns", attribute = "x"
  std::vector<Target> parts;
  bool is_tuple = false;
};
struct For {
  Target target;
  ExprPtr iterable, condition;  ///< condition may be null
  Body body, otherwise;
  bool recursive;
};
struct If {
  std::vector<std::pair<ExprPtr, Body>> branches;
  Body otherwise;
};
struct Set {
  Target target;
  ExprPtr value;
};
struct SetBlock {
  Target target;
  ExprPtr filter;  ///< a chain of FilterCalls on the block's output, or null
  Body body;
};
struct Parameter {
  std::string name;
  ExprPtr fallback;  ///< null: undefined when not given
};
struct MacroDefinition {
  std::string name;  ///< "" for what {% call %} hands over
  std::vector<Parameter> parameters;
  Body body;
  // Whether the macro reads these, and so takes what they hold.
  bool uses_caller = false;
  bool uses_varargs = false;
  bool uses_kwargs = false;
};
struct CallBlock {
  MacroDefinition caller;
  ExprPtr call;
};
struct FilterBlock {
  ExprPtr filter;
  Body body;
};
struct With {
  std::vector<std::pair<Target, ExprPtr>> assignments;
  Body body;
};
/// Marks what the assistant wrote, for training.
struct Generation {
  Body body;
};
struct Break {};
struct Continue {};

struct Statement {
  std::variant<Data, Print, For, If, Set, SetBlock, MacroDefinition, CallBlock, FilterBlock, With,
               Generation, Break, Continue>
      node;
  Position position;
};

}  // namespace gale::jinja
