#include "text/jinja/interpreter.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/check.h"
#include "text/jinja/arithmetic.h"
#include "text/jinja/builtins.h"
#include "text/utf8.h"

namespace gale::jinja {
namespace {

/// A macro with the scope it was defined in.
class Macro : public Object {
 public:
  Macro(const MacroDefinition* definition, Scope* around)
      : definition_(definition), around_(around) {}
  std::string_view type_name() const override { return "Macro"; }
  bool is_callable() const override { return true; }
  Value Call(Interpreter& interpreter, const CallArguments& arguments) override {
    return interpreter.RunMacro(*definition_, around_, arguments);
  }
  std::optional<Value> Attribute(Interpreter& interpreter, std::string_view name) override {
    if (name == "name") {
      return definition_->name.empty() ? Value::None() : interpreter.NewString(definition_->name);
    }
    if (name == "caller") return Value::Bool(definition_->uses_caller);
    if (name == "catch_varargs") return Value::Bool(definition_->uses_varargs);
    if (name == "catch_kwargs") return Value::Bool(definition_->uses_kwargs);
    if (name != "arguments") return std::nullopt;
    std::vector<Value> names;
    for (const Parameter& parameter : definition_->parameters) {
      names.push_back(interpreter.NewString(parameter.name));
    }
    return interpreter.NewList(std::move(names), List::Shape::kTuple);
  }
  MarkedString Text() const override {
    if (definition_->name.empty()) return MarkedString("<Macro anonymous>");
    return MarkedString(fmt::format("<Macro '{}'>", definition_->name));
  }

 private:
  const MacroDefinition* definition_;
  Scope* around_;
};

/// `loop` inside {% for %}. Calling it runs the loop again over other items: recursive loops.
class Loop : public Object {
 public:
  Loop(const For* node, Scope* around, std::vector<Value> items, int depth)
      : node_(node), around_(around), items_(std::move(items)), depth_(depth) {}

  std::string_view type_name() const override { return "LoopContext"; }
  bool is_callable() const override { return true; }

  Value Call(Interpreter& interpreter, const CallArguments& arguments) override {
    if (!node_->recursive || around_ == nullptr) {
      throw TemplateError("loop() needs {% for ... recursive %}, and only works inside of it");
    }
    arguments.Check("loop", {"iterable"});
    MarkedString out;
    interpreter.RunLoop(*node_, around_, arguments.Get(0, "iterable"), depth_ + 1, &out);
    return interpreter.NewString(std::move(out));
  }

  std::optional<Value> Attribute(Interpreter& interpreter, std::string_view name) override {
    const auto size = static_cast<int64_t>(items_.size());
    const auto index = static_cast<int64_t>(index_);
    if (name == "index") return Value::Int(index + 1);
    if (name == "index0") return Value::Int(index);
    if (name == "revindex") return Value::Int(size - index);
    if (name == "revindex0") return Value::Int(size - index - 1);
    if (name == "first") return Value::Bool(index == 0);
    if (name == "last") return Value::Bool(index + 1 == size);
    if (name == "length") return Value::Int(size);
    if (name == "depth") return Value::Int(depth_ + 1);
    if (name == "depth0") return Value::Int(depth_);
    if (name == "previtem")
      return index > 0 ? items_[index_ - 1] : NoItem("there is no previous item");
    if (name == "nextitem")
      return index + 1 < size ? items_[index_ + 1] : NoItem("there is no next item");
    const Value self = Value::Of(static_cast<Object*>(this));
    if (name == "cycle") return BindMethod(interpreter, self, name, &Cycle);
    if (name == "changed") return BindMethod(interpreter, self, name, &Changed);
    return std::nullopt;
  }

  MarkedString Text() const override {
    return MarkedString(fmt::format("<LoopContext {}/{}>", index_ + 1, items_.size()));
  }

  const std::vector<Value>& items() const { return items_; }
  void set_index(size_t index) { index_ = index; }
  void Finish() { around_ = nullptr; }  ///< its scope is about to go

 private:
  static Value NoItem(const char* what) { return Value::Undefined(what); }

  static Value Cycle(Interpreter& /*interpreter*/, const Value& self,
                     const CallArguments& arguments) {
    if (arguments.positional.empty())
      throw TemplateError("loop.cycle() needs items to cycle through");
    const auto& loop = static_cast<const Loop&>(self.AsObject());
    return arguments.positional[loop.index_ % arguments.positional.size()];
  }

  static Value Changed(Interpreter& interpreter, const Value& self,
                       const CallArguments& arguments) {
    auto& loop = static_cast<Loop&>(self.AsObject());
    const Value now = interpreter.NewList(arguments.positional, List::Shape::kTuple);
    const bool changed = loop.last_.is_undefined() || !Equal(loop.last_, now);
    loop.last_ = now;
    return Value::Bool(changed);
  }

  const For* node_;
  Scope* around_;
  std::vector<Value> items_;
  int depth_;
  size_t index_ = 0;
  Value last_;  ///< what changed() was last asked about
};

std::string Described(const Value& object) {
  if (object.is_none()) return "None";
  return fmt::format("{} object", object.TypeName());
}

}  // namespace

/// Counts nesting, so that a template cannot overflow the stack.
class Interpreter::DepthGuard {
 public:
  explicit DepthGuard(Interpreter* interpreter) : depth_(interpreter->depth_) {
    if (++depth_ > interpreter->limits_.max_depth) {
      throw TemplateError(fmt::format("nested more than {} deep; is a macro calling itself?",
                                      interpreter->limits_.max_depth));
    }
  }
  ~DepthGuard() { --depth_; }
  DepthGuard(const DepthGuard&) = delete;
  DepthGuard& operator=(const DepthGuard&) = delete;

 private:
  int& depth_;
};

/// Makes a new scope the current one. It goes with the guard, unless a macro was defined meanwhile,
/// which may keep it.
class Interpreter::ScopeGuard {
 public:
  ScopeGuard(Interpreter* interpreter, Scope* parent)
      : interpreter_(interpreter),
        outer_(interpreter->scope_),
        num_captures_(interpreter->num_captures_) {
    interpreter->Charge(sizeof(Scope));
    interpreter->scopes_.push_back(std::make_unique<Scope>(parent));
    interpreter->scope_ = interpreter->scopes_.back().get();
  }
  ~ScopeGuard() {
    const bool is_free = interpreter_->num_captures_ == num_captures_;
    if (is_free) interpreter_->scopes_.pop_back();
    interpreter_->scope_ = outer_;
  }
  ScopeGuard(const ScopeGuard&) = delete;
  ScopeGuard& operator=(const ScopeGuard&) = delete;

 private:
  Interpreter* interpreter_;
  Scope* outer_;
  int64_t num_captures_;
};

const Value* Scope::Find(std::string_view name) const {
  const std::string key(name);
  for (const Scope* scope = this; scope != nullptr; scope = scope->parent_) {
    const auto it = scope->names_.find(key);
    if (it != scope->names_.end()) return &it->second;
  }
  return nullptr;
}

void Interpreter::Charge(size_t bytes) {
  if (bytes > limits_.max_output_bytes) {
    throw TemplateError(fmt::format("a string of {} bytes; at most {} are allowed", bytes,
                                    limits_.max_output_bytes));
  }
  steps_ += 1 + static_cast<int64_t>(bytes / 16);
  if (steps_ > limits_.max_steps) {
    throw TemplateError(fmt::format("the template takes more than {} steps", limits_.max_steps));
  }
}

MarkedString Interpreter::Render(const Body& body) {
  MarkedString out;
  output_ = &out;
  Run(body, &out);
  return out;
}

// ---- statements ----

Interpreter::Flow Interpreter::Run(const Body& body, MarkedString* out) {
  for (const Statement& statement : body) {
    const Flow flow = RunStatement(statement, out);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::RunStatement(const Statement& statement, MarkedString* out) {
  const DepthGuard guard(this);
  Charge(0);
  try {
    return std::visit([&](const auto& node) { return Execute(node, out); }, statement.node);
  } catch (const TemplateError& error) {
    if (error.position().line > 0) throw;
    throw TemplateError(error.what(), statement.position);
  }
}

void Interpreter::Write(const MarkedString& text, MarkedString* out) {
  Charge(text.size());
  if (out->size() + text.size() > limits_.max_output_bytes) {
    throw TemplateError(fmt::format("the output is over {} bytes", limits_.max_output_bytes));
  }
  out->Append(text);
}

Interpreter::Flow Interpreter::Execute(const Data& node, MarkedString* out) {
  Charge(node.text.size());
  out->Append(node.text);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::Execute(const Print& node, MarkedString* out) {
  const Value value = Evaluate(*node.expr);
  Write(value.is_string() ? value.AsString() : ToText(value), out);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::Execute(const For& node, MarkedString* out) {
  RunLoop(node, scope_, Evaluate(*node.iterable), 0, out);
  return Flow::kNext;
}

void Interpreter::RunLoop(const For& node, Scope* around, const Value& iterable, int depth,
                          MarkedString* out) {
  const DepthGuard depth_guard(this);
  std::vector<Value> items = Iterate(iterable);
  if (node.condition != nullptr) {
    std::vector<Value> kept;
    for (Value& item : items) {
      const ScopeGuard scope(this, around);
      Assign(node.target, item);
      if (!Evaluate(*node.condition).Truth()) continue;
      // A filtered loop runs over what the target took apart, put together again.
      kept.push_back(node.target.is_tuple ? NewList(Iterate(item), List::Shape::kTuple)
                                          : std::move(item));
    }
    items = std::move(kept);
  }
  if (items.empty()) {
    const ScopeGuard scope(this, around);
    Run(node.otherwise, out);
    return;
  }
  Charge(items.size() * sizeof(Value) + sizeof(Loop));
  Loop* loop = heap_.NewObject<Loop>(&node, around, std::move(items), depth);
  for (size_t i = 0; i < loop->items().size(); ++i) {
    const ScopeGuard scope(this, around);
    loop->set_index(i);
    scope_->Set("loop", Value::Of(static_cast<Object*>(loop)));
    Assign(node.target, loop->items()[i]);
    if (Run(node.body, out) == Flow::kBreak) break;
  }
  loop->Finish();
}

Interpreter::Flow Interpreter::Execute(const If& node, MarkedString* out) {
  for (const auto& [test, body] : node.branches) {
    if (Evaluate(*test).Truth()) return Run(body, out);
  }
  return Run(node.otherwise, out);
}

Interpreter::Flow Interpreter::Execute(const struct Set& node, MarkedString* /*out*/) {
  Assign(node.target, Evaluate(*node.value));
  return Flow::kNext;
}

Interpreter::Flow Interpreter::Execute(const SetBlock& node, MarkedString* /*out*/) {
  Value block = Capture(node.body);
  if (node.filter != nullptr) block = ApplyBlockFilter(*node.filter, block);
  Assign(node.target, std::move(block));
  return Flow::kNext;
}

Interpreter::Flow Interpreter::Execute(const MacroDefinition& node, MarkedString* /*out*/) {
  ++num_captures_;
  Charge(sizeof(Macro));
  scope_->Set(node.name, Value::Of(static_cast<Object*>(heap_.NewObject<Macro>(&node, scope_))));
  return Flow::kNext;
}

Interpreter::Flow Interpreter::Execute(const CallBlock& node, MarkedString* out) {
  ++num_captures_;
  const auto& call = std::get<Call>(node.call->node);
  const Value callee = Evaluate(*call.callee);
  CallArguments arguments = EvaluateArguments(call.arguments);
  Charge(sizeof(Macro));
  arguments.named.emplace_back(
      "caller", Value::Of(static_cast<Object*>(heap_.NewObject<Macro>(&node.caller, scope_))));
  Write(ToText(CallValue(callee, arguments)), out);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::Execute(const FilterBlock& node, MarkedString* out) {
  Write(ToText(ApplyBlockFilter(*node.filter, Capture(node.body))), out);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::Execute(const With& node, MarkedString* out) {
  std::vector<Value> values;
  for (const auto& [target, expr] : node.assignments) values.push_back(Evaluate(*expr));
  const ScopeGuard scope(this, scope_);
  for (size_t i = 0; i < values.size(); ++i) Assign(node.assignments[i].first, values[i]);
  return Run(node.body, out);
}

Interpreter::Flow Interpreter::Execute(const Generation& node, MarkedString* out) {
  const ScopeGuard scope(this, scope_);
  const size_t begin = out->size();
  const Flow flow = Run(node.body, out);
  // Inside of a macro or a {% set %} block, the place in the output is not known.
  const bool is_placed = out == output_ && out->size() > begin;
  if (is_placed) generations_.push_back({begin, out->size()});
  return flow;
}

Interpreter::Flow Interpreter::Execute(const Break& /*node*/, MarkedString* /*out*/) {
  return Flow::kBreak;
}

Interpreter::Flow Interpreter::Execute(const Continue& /*node*/, MarkedString* /*out*/) {
  return Flow::kContinue;
}

void Interpreter::Assign(const Target& target, Value value) {
  if (!target.attribute.empty()) {
    const Value* object = scope_->Find(target.name);
    if (object == nullptr) throw TemplateError(fmt::format("'{}' is undefined", target.name));
    SetNamespaceAttribute(*object, target.attribute, std::move(value));
    return;
  }
  if (!target.is_tuple) {
    scope_->Set(target.name, std::move(value));
    return;
  }
  const std::vector<Value> parts = Iterate(value);
  if (parts.size() != target.parts.size()) {
    throw TemplateError(
        fmt::format("expected {} values to unpack, got {}", target.parts.size(), parts.size()));
  }
  for (size_t i = 0; i < parts.size(); ++i) Assign(target.parts[i], parts[i]);
}

Value Interpreter::Capture(const Body& body) {
  const ScopeGuard scope(this, scope_);
  MarkedString out;
  Run(body, &out);
  return NewString(std::move(out));
}

Value Interpreter::ApplyBlockFilter(const Expr& filter, const Value& block) {
  const Value* outer = std::exchange(block_output_, &block);
  Value result = Evaluate(filter);
  block_output_ = outer;
  return result;
}

Value Interpreter::RunMacro(const MacroDefinition& macro, Scope* around,
                            const CallArguments& arguments) {
  const DepthGuard depth_guard(this);
  const ScopeGuard scope(this, around);
  const size_t num_positional = std::min(arguments.positional.size(), macro.parameters.size());
  if (arguments.positional.size() > num_positional && !macro.uses_varargs) {
    throw TemplateError(fmt::format("macro '{}' takes not more than {} argument(s)", macro.name,
                                    macro.parameters.size()));
  }
  std::vector<std::pair<std::string, Value>> named = arguments.named;
  const auto take = [&named](std::string_view name) -> std::optional<Value> {
    for (auto it = named.begin(); it != named.end(); ++it) {
      if (it->first != name) continue;
      Value value = std::move(it->second);
      named.erase(it);
      return value;
    }
    return std::nullopt;
  };
  std::vector<std::optional<Value>> given(
      arguments.positional.begin(),
      arguments.positional.begin() + static_cast<ptrdiff_t>(num_positional));
  bool has_caller = false;
  for (size_t i = 0; i < macro.parameters.size(); ++i) {
    if (i >= num_positional) given.push_back(take(macro.parameters[i].name));
    has_caller = has_caller || macro.parameters[i].name == "caller";
  }
  if (macro.uses_caller && !has_caller) {
    scope_->Set("caller", take("caller").value_or(Value::Undefined("No caller defined")));
  }
  if (!named.empty() && !macro.uses_kwargs) {
    throw TemplateError(
        fmt::format("macro '{}' takes no keyword argument '{}'", macro.name, named[0].first));
  }
  if (macro.uses_kwargs) {
    Dict* kwargs = heap_.NewDict();
    for (auto& [name, value] : named) kwargs->Set(Value::String(name), std::move(value));
    scope_->Set("kwargs", Value::Of(kwargs));
  }
  if (macro.uses_varargs) {
    const auto first = arguments.positional.begin() + static_cast<ptrdiff_t>(num_positional);
    scope_->Set("varargs", NewList({first, arguments.positional.end()}, List::Shape::kTuple));
  }
  for (size_t i = 0; i < macro.parameters.size(); ++i) {
    const Parameter& parameter = macro.parameters[i];
    if (!given[i] && parameter.fallback != nullptr) given[i] = Evaluate(*parameter.fallback);
    if (!given[i]) {
      given[i] = Value::Undefined(fmt::format("parameter '{}' was not provided", parameter.name));
    }
    scope_->Set(parameter.name, *std::move(given[i]));
  }
  MarkedString out;
  Run(macro.body, &out);
  return NewString(std::move(out));
}

// ---- expressions ----

Value Interpreter::Evaluate(const Expr& expr) {
  const DepthGuard guard(this);
  Charge(0);
  try {
    return std::visit([&](const auto& node) { return Evaluate(node); }, expr.node);
  } catch (const TemplateError& error) {
    if (error.position().line > 0) throw;
    throw TemplateError(error.what(), expr.position);
  }
}

Value Interpreter::Evaluate(const Literal& node) { return node.value; }

Value Interpreter::Evaluate(const Name& node) {
  const Value* value = scope_->Find(node.name);
  return value != nullptr ? *value : Value::Undefined(fmt::format("'{}' is undefined", node.name));
}

Value Interpreter::Evaluate(const ListLiteral& node) {
  std::vector<Value> items;
  items.reserve(node.items.size());
  for (const ExprPtr& item : node.items) items.push_back(Evaluate(*item));
  return NewList(std::move(items), node.is_tuple ? List::Shape::kTuple : List::Shape::kList);
}

Value Interpreter::Evaluate(const DictLiteral& node) {
  Dict* dict = heap_.NewDict();
  Charge(sizeof(Dict) + node.items.size() * 2 * sizeof(Value));
  for (const auto& [key, value] : node.items) {
    const Value evaluated = Evaluate(*key);
    dict->Set(evaluated, Evaluate(*value));
  }
  return Value::Of(dict);
}

Value Interpreter::Evaluate(const Unary& node) {
  const Value value = Evaluate(*node.operand);
  if (node.op == UnaryOp::kNot) return Value::Bool(!value.Truth());
  if (node.op == UnaryOp::kMinus) return Negate(value);
  if (value.is_number()) return value.is_bool() ? Value::Int(value.AsInt()) : value;
  throw TemplateError(fmt::format("bad operand type for unary +: '{}'", value.TypeName()));
}

Value Interpreter::Evaluate(const Binary& node) {
  const Value left = Evaluate(*node.left);
  return Arithmetic(*this, node.op, left, Evaluate(*node.right));
}

Value Interpreter::Evaluate(const Logical& node) {
  Value left = Evaluate(*node.left);
  return left.Truth() == node.is_and ? Evaluate(*node.right) : left;
}

Value Interpreter::Evaluate(const Comparison& node) {
  Value left = Evaluate(*node.first);
  for (const auto& [op, expr] : node.rest) {
    Value right = Evaluate(*expr);
    if (!CompareOnce(op, left, right)) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

bool Interpreter::CompareOnce(CompareOp op, const Value& a, const Value& b) {
  switch (op) {
    case CompareOp::kEqual: return Equal(a, b);
    case CompareOp::kNotEqual: return !Equal(a, b);
    case CompareOp::kLess: return Compare(a, b) < 0;
    case CompareOp::kLessEqual: return Compare(a, b) <= 0;
    case CompareOp::kGreater: return Compare(a, b) > 0;
    case CompareOp::kGreaterEqual: return Compare(a, b) >= 0;
    case CompareOp::kIn: Charge(b.is_string() ? b.bytes().size() : 0); return Contains(b, a);
    case CompareOp::kNotIn: Charge(b.is_string() ? b.bytes().size() : 0); return !Contains(b, a);
  }
  return false;
}

Value Interpreter::Evaluate(const Conditional& node) {
  if (Evaluate(*node.test).Truth()) return Evaluate(*node.then);
  if (node.otherwise != nullptr) return Evaluate(*node.otherwise);
  return Value::Undefined("the inline if has no else, and its condition is false");
}

Value Interpreter::Evaluate(const GetAttribute& node) {
  return Attribute(Evaluate(*node.object), node.name);
}

Value Interpreter::Evaluate(const GetItem& node) {
  const Value object = Evaluate(*node.object);
  return Item(object, Evaluate(*node.index));
}

Value Interpreter::Evaluate(const GetSlice& node) {
  const auto bound = [&](const ExprPtr& expr) { return expr ? Evaluate(*expr) : Value(); };
  const Value object = Evaluate(*node.object);
  const Value begin = bound(node.begin);
  const Value end = bound(node.end);
  return Slice(*this, object, begin, end, bound(node.step));
}

CallArguments Interpreter::EvaluateArguments(const Arguments& arguments) {
  CallArguments result;
  for (const ExprPtr& expr : arguments.positional) result.positional.push_back(Evaluate(*expr));
  for (const auto& [name, expr] : arguments.named) result.named.emplace_back(name, Evaluate(*expr));
  if (arguments.spread != nullptr) {
    for (Value& value : Iterate(Evaluate(*arguments.spread))) {
      result.positional.push_back(std::move(value));
    }
  }
  if (arguments.named_spread != nullptr) {
    const Value spread = Evaluate(*arguments.named_spread);
    if (!spread.is_dict()) throw TemplateError("the argument after ** must be a mapping");
    for (const auto& [key, value] : spread.AsDict().entries()) {
      if (!key.is_string()) throw TemplateError("keywords must be strings");
      if (result.Has(SIZE_MAX, key.bytes())) {
        throw TemplateError(fmt::format("got multiple values for '{}'", key.bytes()));
      }
      result.named.emplace_back(key.bytes(), value);
    }
  }
  return result;
}

Value Interpreter::Evaluate(const Call& node) {
  const Value callee = Evaluate(*node.callee);
  return CallValue(callee, EvaluateArguments(node.arguments));
}

Value Interpreter::CallValue(const Value& callee, const CallArguments& arguments) {
  if (callee.is_undefined()) throw TemplateError(callee.UndefinedWhat());
  if (!callee.is_object()) {
    throw TemplateError(fmt::format("'{}' object is not callable", callee.TypeName()));
  }
  return callee.AsObject().Call(*this, arguments);
}

Value Interpreter::Evaluate(const FilterCall& node) {
  const Value operand = node.operand != nullptr ? Evaluate(*node.operand) : *block_output_;
  return Filter(node.name, operand, EvaluateArguments(node.arguments));
}

Value Interpreter::Filter(std::string_view name, const Value& operand,
                          const CallArguments& arguments) {
  const FilterFunction function = FindFilter(name);
  if (function == nullptr) throw TemplateError(fmt::format("there is no filter named '{}'", name));
  return function(*this, operand, arguments);
}

Value Interpreter::Evaluate(const TestCall& node) {
  const Value operand = Evaluate(*node.operand);
  return Value::Bool(Test(node.name, operand, EvaluateArguments(node.arguments)));
}

bool Interpreter::Test(std::string_view name, const Value& operand,
                       const CallArguments& arguments) {
  const TestFunction function = FindTest(name);
  if (function == nullptr) throw TemplateError(fmt::format("there is no test named '{}'", name));
  return function(*this, operand, arguments);
}

Value Interpreter::Attribute(const Value& object, std::string_view name) {
  if (object.is_undefined()) throw TemplateError(object.UndefinedWhat());
  if (IsMutator(object, name)) {
    return Value::Undefined(fmt::format(
        "'{}' of '{}' is not available: a template cannot change lists and dicts; build new ones "
        "with + and dict(), or use a namespace",
        name, object.TypeName()));
  }
  if (object.is_object()) {
    if (auto value = object.AsObject().Attribute(*this, name)) return *value;
  } else if (const FilterFunction method = FindMethod(object, name)) {
    return BindMethod(*this, object, name, method);
  } else if (object.is_dict()) {
    if (const Value* value = object.AsDict().Find(name)) return *value;
  } else if (object.is_list() && object.AsList().shape == List::Shape::kGroup) {
    if (name == "grouper") return object.AsList().items[0];
    if (name == "list") return object.AsList().items[1];
  }
  return Value::Undefined(fmt::format("'{}' has no attribute '{}'", Described(object), name));
}

Value Interpreter::Item(const Value& object, const Value& key) {
  if (object.is_undefined()) throw TemplateError(object.UndefinedWhat());
  if (object.is_dict()) {
    if (const Value* value = object.AsDict().Find(key)) return *value;
  } else if (key.is_integral() && !key.is_big_int() &&
             (object.is_string() || (object.is_list() && object.AsList().is_indexed()))) {
    const std::vector<size_t> offsets =
        object.is_string() ? CharacterOffsets(object.bytes()) : std::vector<size_t>();
    const auto size =
        static_cast<int64_t>(object.is_list() ? object.AsList().items.size() : offsets.size() - 1);
    const int64_t index = key.AsInt() < 0 ? key.AsInt() + size : key.AsInt();
    if (index >= 0 && index < size) {
      const auto i = static_cast<size_t>(index);
      if (object.is_list()) return object.AsList().items[i];
      Charge(object.bytes().size());
      return NewString(object.AsString().Slice(offsets[i], offsets[i + 1]));
    }
  }
  if (key.is_string()) return Attribute(object, key.bytes());
  return Value::Undefined(
      fmt::format("'{}' has no element {}", Described(object), Repr(key).bytes()));
}

std::vector<Value> Interpreter::Iterate(const Value& value) {
  std::vector<Value> items;
  if (value.is_list()) {
    List& list = value.AsList();
    items = list.is_generator() ? std::exchange(list.items, {}) : list.items;
  } else if (value.is_dict()) {
    for (const auto& [key, unused] : value.AsDict().entries()) items.push_back(key);
  } else if (value.is_string()) {
    const MarkedString& text = value.AsString();
    const std::vector<size_t> offsets = CharacterOffsets(text.bytes());
    Charge(offsets.size() * sizeof(Value));
    if (text.marks().size() > 1) {
      // Cutting looks at every mark, so many marks and many characters would multiply.
      Charge(text.marks().size() * offsets.size());
    }
    for (size_t i = 0; i + 1 < offsets.size(); ++i) {
      items.push_back(NewString(text.Slice(offsets[i], offsets[i + 1])));
    }
  } else if (!value.is_undefined()) {
    throw TemplateError(fmt::format("'{}' object is not iterable", value.TypeName()));
  }
  Charge(items.size() * sizeof(Value));
  return items;
}

}  // namespace gale::jinja
