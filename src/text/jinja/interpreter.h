// Runs a template's syntax tree: expressions to values, statements to output.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/value.h"

namespace gale::jinja {

/// Bounds on one rendering; templates come from downloads and are not trusted.
struct Limits {
  int max_depth = 600;                  ///< nested evaluations, macro calls included
  int64_t max_steps = 10'000'000;       ///< one for each node evaluated and each 16 bytes made
  size_t max_output_bytes = 64U << 20;  ///< of the output, and of any string on the way
};

/// Names of one block. Scopes live on the interpreter's heap because macros keep those around them.
class Scope {
 public:
  explicit Scope(Scope* parent) : parent_(parent) {}
  const Value* Find(std::string_view name) const;
  void Set(std::string_view name, Value value) {
    names_.insert_or_assign(std::string(name), std::move(value));
  }
  Scope* parent() const { return parent_; }

 private:
  Scope* parent_;
  std::unordered_map<std::string, Value> names_;
};

/// One rendering of one template. Not reused, not shared by threads.
class Interpreter {
 public:
  explicit Interpreter(const Limits& limits) : limits_(limits) {}

  Heap& heap() { return heap_; }
  /// Variables of the template; set them before Render.
  Scope& globals() { return globals_; }
  MarkedString Render(const Body& body);
  /// The stretches of the output inside of {% generation %}, in order.
  const std::vector<TextSpan>& generations() const { return generations_; }

  Value Evaluate(const Expr& expr);
  Value CallValue(const Value& callee, const CallArguments& arguments);
  Value Filter(std::string_view name, const Value& operand, const CallArguments& arguments);
  bool Test(std::string_view name, const Value& operand, const CallArguments& arguments);
  /// x.name and x[key], by Jinja's rules: undefined when there is none.
  Value Attribute(const Value& object, std::string_view name);
  Value Item(const Value& object, const Value& key);
  /// The elements that a for loop sees: of lists, the characters of strings, the keys of dicts. A
  /// generator is empty afterwards.
  std::vector<Value> Iterate(const Value& value);
  /// Runs a macro's body in a scope of its own and gives back its output.
  Value RunMacro(const MacroDefinition& macro, Scope* around, const CallArguments& arguments);
  /// Runs a for loop's body over `items`, also from loop(...) in a recursive loop.
  void RunLoop(const For& loop, Scope* around, const Value& iterable, int depth, MarkedString* out);

  /// Counts work; throws when there was too much.
  void Charge(size_t bytes);
  Value NewString(MarkedString text) {
    Charge(text.size());
    return Value::String(std::move(text));
  }
  Value NewString(std::string_view text) { return NewString(MarkedString(std::string(text))); }
  Value NewList(std::vector<Value> items, List::Shape shape = List::Shape::kList) {
    Charge(items.size() * sizeof(Value));
    return Value::Of(heap_.NewList(std::move(items), shape));
  }

 private:
  enum class Flow { kNext, kBreak, kContinue };
  class DepthGuard;
  class ScopeGuard;

  Flow Run(const Body& body, MarkedString* out);
  Flow RunStatement(const Statement& statement, MarkedString* out);
  Flow Execute(const Data& node, MarkedString* out);
  Flow Execute(const Print& node, MarkedString* out);
  Flow Execute(const For& node, MarkedString* out);
  Flow Execute(const If& node, MarkedString* out);
  Flow Execute(const struct Set& node, MarkedString* out);
  Flow Execute(const SetBlock& node, MarkedString* out);
  Flow Execute(const MacroDefinition& node, MarkedString* out);
  Flow Execute(const CallBlock& node, MarkedString* out);
  Flow Execute(const FilterBlock& node, MarkedString* out);
  Flow Execute(const With& node, MarkedString* out);
  Flow Execute(const Generation& node, MarkedString* out);
  Flow Execute(const Break& node, MarkedString* out);
  Flow Execute(const Continue& node, MarkedString* out);
  void Assign(const Target& target, Value value);
  void Write(const MarkedString& text, MarkedString* out);
  Value Capture(const Body& body);
  Value ApplyBlockFilter(const Expr& filter, const Value& block);

  Value Evaluate(const Literal& node);
  Value Evaluate(const Name& node);
  Value Evaluate(const ListLiteral& node);
  Value Evaluate(const DictLiteral& node);
  Value Evaluate(const Unary& node);
  Value Evaluate(const Binary& node);
  Value Evaluate(const Logical& node);
  Value Evaluate(const Comparison& node);
  Value Evaluate(const Conditional& node);
  Value Evaluate(const GetAttribute& node);
  Value Evaluate(const GetItem& node);
  Value Evaluate(const GetSlice& node);
  Value Evaluate(const Call& node);
  Value Evaluate(const FilterCall& node);
  Value Evaluate(const TestCall& node);
  CallArguments EvaluateArguments(const Arguments& arguments);
  bool CompareOnce(CompareOp op, const Value& a, const Value& b);

  Limits limits_;
  Heap heap_;
  std::vector<std::unique_ptr<Scope>> scopes_;
  Scope globals_{nullptr};
  Scope* scope_ = &globals_;
  const MarkedString* output_ = nullptr;  ///< of the whole template
  std::vector<TextSpan> generations_;
  const Value* block_output_ = nullptr;  ///< what a {% filter %} chain starts from
  int depth_ = 0;
  int64_t steps_ = 0;
  int64_t num_captures_ = 0;  ///< macros defined so far; each may keep the scopes around it
};

}  // namespace gale::jinja
