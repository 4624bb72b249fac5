#include "text/jinja/parser.h"

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <optional>

#include <fmt/format.h>

#include "text/jinja/integer.h"
#include "text/jinja/lexer.h"

namespace gale::jinja {
namespace {

// Bounds the recursion of the parser, the evaluator and the tree's destructor.
constexpr int kMaxExprDepth = 200;
constexpr int kMaxBlockDepth = 50;

int DepthOf(const ExprPtr& expr) { return expr == nullptr ? 0 : expr->depth; }

int DepthOf(const Arguments& arguments) {
  int depth = 0;
  for (const ExprPtr& expr : arguments.positional) depth = std::max(depth, DepthOf(expr));
  for (const auto& [name, expr] : arguments.named) depth = std::max(depth, DepthOf(expr));
  return std::max({depth, DepthOf(arguments.spread), DepthOf(arguments.named_spread)});
}

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  Body Run() {
    Body body = ParseBody({});
    if (Current().kind != Token::Kind::kEnd) Unexpected("the end of the template");
    return body;
  }

 private:
  // ---- tokens ----

  const Token& Current() const { return tokens_[pos_]; }
  const Token& Ahead() const { return tokens_[std::min(pos_ + 1, tokens_.size() - 1)]; }
  Token Take() { return tokens_[pos_ + 1 < tokens_.size() ? pos_++ : pos_]; }

  static bool Is(const Token& token, Token::Kind kind, std::string_view text) {
    return token.kind == kind && token.text == text;
  }
  bool IsName(std::string_view name) const { return Is(Current(), Token::Kind::kName, name); }
  bool IsOp(std::string_view op) const { return Is(Current(), Token::Kind::kOperator, op); }
  bool SkipName(std::string_view name) { return IsName(name) && (Take(), true); }
  bool SkipOp(std::string_view op) { return IsOp(op) && (Take(), true); }

  [[noreturn]] void Fail(const std::string& message) const {
    throw TemplateError(message, Current().position);
  }

  [[noreturn]] void Unexpected(std::string_view expected) const {
    const Token& token = Current();
    std::string got = fmt::format("\"{}\"", token.text);
    if (token.kind == Token::Kind::kEnd) got = "the end of the template";
    if (token.kind == Token::Kind::kBlockEnd) got = "the end of the tag";
    if (token.kind == Token::Kind::kVariableEnd) got = "\"}}\"";
    Fail(fmt::format("expected {}, got {}", expected, got));
  }

  void ExpectOp(std::string_view op) {
    if (!SkipOp(op)) Unexpected(fmt::format("\"{}\"", op));
  }
  void Expect(Token::Kind kind, std::string_view what) {
    if (Current().kind != kind) Unexpected(what);
    Take();
  }
  std::string ExpectName() {
    if (Current().kind != Token::Kind::kName) Unexpected("a name");
    return Take().text;
  }

  // ---- statements ----

  /// Statements up to a tag whose name is one of `ends`, which is left to be read.
  Body ParseBody(std::initializer_list<std::string_view> ends) {
    if (++block_depth_ > kMaxBlockDepth) Fail("blocks are nested too deeply");
    Body body;
    while (Current().kind != Token::Kind::kEnd) {
      const Position position = Current().position;
      if (Current().kind == Token::Kind::kData) {
        body.push_back({Data{Take().text}, position});
      } else if (Current().kind == Token::Kind::kVariableBegin) {
        Take();
        ExprPtr expr = ParseTuple();
        Expect(Token::Kind::kVariableEnd, "\"}}\"");
        body.push_back({Print{std::move(expr)}, position});
      } else {
        const std::string& name = Ahead().text;
        if (std::find(ends.begin(), ends.end(), name) != ends.end()) break;
        Take();
        body.push_back(ParseStatement(position));
      }
    }
    --block_depth_;
    return body;
  }

  void EndTag() { Expect(Token::Kind::kBlockEnd, "\"%}\""); }

  /// The tag that ends a block: {% endfor %}.
  void EndBlock(std::string_view name) {
    if (Current().kind == Token::Kind::kEnd) Unexpected(fmt::format("{{% {} %}}", name));
    Take();
    Take();
    EndTag();
  }

  Statement ParseStatement(Position position) {
    const std::string name = ExpectName();
    if (name == "for") return {ParseFor(), position};
    if (name == "if") return {ParseIf(), position};
    if (name == "set") return ParseSet(position);
    if (name == "macro") return {ParseMacro(), position};
    if (name == "call") return {ParseCallBlock(), position};
    if (name == "filter") return {ParseFilterBlock(), position};
    if (name == "with") return {ParseWith(), position};
    if (name == "generation") {
      EndTag();
      return {Generation{ParseCaptured("endgeneration")}, position};
    }
    if (name == "break" || name == "continue") {
      if (loop_depth_ == 0) Fail(fmt::format("\"{}\" outside of a loop", name));
      EndTag();
      if (name == "break") return {Break{}, position};
      return {Continue{}, position};
    }
    throw TemplateError(
        fmt::format("unknown tag \"{}\"; known are break, call, continue, filter, for, "
                    "generation, if, macro, raw, set, with (other templates cannot be "
                    "read)",
                    name),
        position);
  }

  For ParseFor() {
    For loop{};
    loop.target = ParseTarget();
    if (!SkipName("in")) Unexpected("\"in\"");
    loop.iterable = ParseTuple(/*with_condition=*/false);
    if (SkipName("if")) loop.condition = ParseExpression();
    loop.recursive = SkipName("recursive");
    EndTag();
    ++loop_depth_;
    loop.body = ParseBody({"endfor", "else"});
    --loop_depth_;
    if (Is(Ahead(), Token::Kind::kName, "else")) {
      EndBlock("else");
      loop.otherwise = ParseBody({"endfor"});
    }
    EndBlock("endfor");
    return loop;
  }

  If ParseIf() {
    If result;
    while (true) {
      ExprPtr test = ParseTuple(/*with_condition=*/false);
      EndTag();
      Body body = ParseBody({"elif", "else", "endif"});
      result.branches.emplace_back(std::move(test), std::move(body));
      if (!Is(Ahead(), Token::Kind::kName, "elif")) break;
      Take();
      Take();
    }
    if (Is(Ahead(), Token::Kind::kName, "else")) {
      EndBlock("else");
      result.otherwise = ParseBody({"endif"});
    }
    EndBlock("endif");
    return result;
  }

  Statement ParseSet(Position position) {
    Target target = ParseTarget(/*with_attribute=*/true);
    if (SkipOp("=")) {
      Set set{std::move(target), ParseTuple()};
      EndTag();
      return {std::move(set), position};
    }
    SetBlock block{std::move(target), nullptr, {}};
    if (IsOp("|")) block.filter = ParseFilters(nullptr);
    EndTag();
    block.body = ParseCaptured("endset");
    return {std::move(block), position};
  }

  /// a, b and (c, d); with commas it is a tuple.
  Target ParseTarget(bool with_attribute = false) {
    Target first = ParseTargetPart(with_attribute);
    if (!IsOp(",")) return first;
    Target tuple;
    tuple.is_tuple = true;
    tuple.parts.push_back(std::move(first));
    while (SkipOp(",")) {
      if (Current().kind != Token::Kind::kName && !IsOp("(")) break;
      if (IsName("in")) break;
      tuple.parts.push_back(ParseTargetPart(with_attribute));
    }
    return tuple;
  }

  Target ParseTargetPart(bool with_attribute) {
    if (SkipOp("(")) {
      if (++expr_depth_ > kMaxExprDepth) Fail("the target is nested too deeply");
      Target target = ParseTarget(with_attribute);
      --expr_depth_;
      ExpectOp(")");
      return target;
    }
    Target target;
    static constexpr std::string_view kConstants[] = {"true",  "True", "false",
                                                      "False", "none", "None"};
    if (std::any_of(std::begin(kConstants), std::end(kConstants),
                    [&](std::string_view name) { return IsName(name); })) {
      Fail(fmt::format("\"{}\" cannot be assigned to", Current().text));
    }
    target.name = ExpectName();
    if (with_attribute && SkipOp(".")) target.attribute = ExpectName();
    return target;
  }

  std::vector<Parameter> ParseParameters() {
    std::vector<Parameter> parameters;
    ExpectOp("(");
    while (!IsOp(")")) {
      if (!parameters.empty()) {
        ExpectOp(",");
        if (IsOp(")")) break;
      }
      Parameter parameter{ExpectName(), nullptr};
      if (SkipOp("=")) parameter.fallback = ParseExpression();
      parameters.push_back(std::move(parameter));
    }
    ExpectOp(")");
    return parameters;
  }

  /// A body whose output is caught: break does not reach out of it.
  Body ParseCaptured(std::string_view end) {
    const int outer_loops = std::exchange(loop_depth_, 0);
    Body body = ParseBody({end});
    EndBlock(end);
    loop_depth_ = outer_loops;
    return body;
  }

  MacroDefinition ParseMacro() {
    MacroDefinition macro;
    macro.name = ExpectName();
    const size_t first_name = names_read_.size();
    macro.parameters = ParseParameters();
    EndTag();
    ParseMacroBody(&macro, "endmacro", first_name);
    return macro;
  }

  void ParseMacroBody(MacroDefinition* macro, std::string_view end, size_t first_name) {
    macro->body = ParseCaptured(end);
    const auto reads = [&](std::string_view name) {
      const auto is_it = [&](const Parameter& parameter) { return parameter.name == name; };
      return std::find(names_read_.begin() + static_cast<ptrdiff_t>(first_name), names_read_.end(),
                       name) != names_read_.end() &&
             std::none_of(macro->parameters.begin(), macro->parameters.end(), is_it);
    };
    macro->uses_caller = reads("caller");
    macro->uses_varargs = reads("varargs");
    macro->uses_kwargs = reads("kwargs");
    for (const Parameter& parameter : macro->parameters) {
      if (parameter.name == "caller") {
        if (parameter.fallback == nullptr) {
          Fail("the parameter \"caller\" needs a default, or to be left out");
        }
        macro->uses_caller = true;
      }
    }
  }

  CallBlock ParseCallBlock() {
    CallBlock block;
    if (IsOp("(")) block.caller.parameters = ParseParameters();
    block.call = ParseExpression();
    if (!std::holds_alternative<Call>(block.call->node)) Fail("{% call %} expects a call");
    EndTag();
    ParseMacroBody(&block.caller, "endcall", names_read_.size());
    return block;
  }

  FilterBlock ParseFilterBlock() {
    FilterBlock block{ParseFilters(nullptr, /*first_without_pipe=*/true), {}};
    EndTag();
    block.body = ParseCaptured("endfilter");
    return block;
  }

  With ParseWith() {
    With with;
    while (Current().kind != Token::Kind::kBlockEnd) {
      if (!with.assignments.empty()) ExpectOp(",");
      Target target = ParseTargetPart(/*with_attribute=*/false);
      ExpectOp("=");
      with.assignments.emplace_back(std::move(target), ParseExpression());
    }
    EndTag();
    with.body = ParseBody({"endwith"});
    EndBlock("endwith");
    return with;
  }

  // ---- expressions, loosest first ----

  template <class Node>
  ExprPtr Make(Position position, int depth_below, Node node) const {
    if (depth_below >= kMaxExprDepth) {
      throw TemplateError("the expression is nested too deeply", position);
    }
    return std::make_unique<const Expr>(Expr{std::move(node), position, depth_below + 1});
  }

  ExprPtr MakeBinary(Position position, BinaryOp op, ExprPtr left, ExprPtr right) const {
    const int depth = std::max(left->depth, right->depth);
    return Make(position, depth, Binary{op, std::move(left), std::move(right)});
  }

  bool EndsTuple() const {
    return Current().kind == Token::Kind::kVariableEnd ||
           Current().kind == Token::Kind::kBlockEnd || IsOp(")");
  }

  /// Expressions with commas between them make a tuple.
  ExprPtr ParseTuple(bool with_condition = true) {
    const Position position = Current().position;
    const auto parse = [&] { return with_condition ? ParseExpression() : ParseOr(); };
    ExprPtr first = parse();
    if (!IsOp(",")) return first;
    ListLiteral tuple{{}, true};
    int depth = first->depth;
    tuple.items.push_back(std::move(first));
    while (SkipOp(",") && !EndsTuple()) {
      tuple.items.push_back(parse());
      depth = std::max(depth, tuple.items.back()->depth);
    }
    return Make(position, depth, std::move(tuple));
  }

  ExprPtr ParseExpression() {
    if (++expr_depth_ > kMaxExprDepth) Fail("the expression is nested too deeply");
    ExprPtr expr = ParseOr();
    while (IsName("if")) {
      const Position position = Take().position;
      ExprPtr test = ParseOr();
      ExprPtr otherwise = SkipName("else") ? ParseExpression() : nullptr;
      const int depth = std::max({expr->depth, test->depth, DepthOf(otherwise)});
      expr = Make(position, depth,
                  Conditional{std::move(test), std::move(expr), std::move(otherwise)});
    }
    --expr_depth_;
    return expr;
  }

  ExprPtr ParseOr() {
    ExprPtr left = ParseAnd();
    while (IsName("or")) left = ParseLogical(std::move(left), /*is_and=*/false);
    return left;
  }

  ExprPtr ParseAnd() {
    ExprPtr left = ParseNot();
    while (IsName("and")) left = ParseLogical(std::move(left), /*is_and=*/true);
    return left;
  }

  ExprPtr ParseLogical(ExprPtr left, bool is_and) {
    const Position position = Take().position;
    ExprPtr right = is_and ? ParseNot() : ParseAnd();
    const int depth = std::max(left->depth, right->depth);
    return Make(position, depth, Logical{is_and, std::move(left), std::move(right)});
  }

  ExprPtr ParseNot() {
    if (!IsName("not")) return ParseComparison();
    if (++expr_depth_ > kMaxExprDepth) Fail("the expression is nested too deeply");
    const Position position = Take().position;
    ExprPtr operand = ParseNot();
    --expr_depth_;
    const int depth = operand->depth;
    return Make(position, depth, Unary{UnaryOp::kNot, std::move(operand)});
  }

  std::optional<CompareOp> TakeCompareOp() {
    static constexpr std::pair<std::string_view, CompareOp> kOps[] = {
        {"==", CompareOp::kEqual},  {"!=", CompareOp::kNotEqual},
        {"<", CompareOp::kLess},    {"<=", CompareOp::kLessEqual},
        {">", CompareOp::kGreater}, {">=", CompareOp::kGreaterEqual}};
    for (const auto& [text, op] : kOps) {
      if (SkipOp(text)) return op;
    }
    if (SkipName("in")) return CompareOp::kIn;
    if (IsName("not") && Is(Ahead(), Token::Kind::kName, "in")) {
      Take();
      Take();
      return CompareOp::kNotIn;
    }
    return std::nullopt;
  }

  ExprPtr ParseComparison() {
    const Position position = Current().position;
    ExprPtr first = ParseSum();
    Comparison comparison;
    int depth = first->depth;
    while (const auto op = TakeCompareOp()) {
      comparison.rest.emplace_back(*op, ParseSum());
      depth = std::max(depth, comparison.rest.back().second->depth);
    }
    if (comparison.rest.empty()) return first;
    comparison.first = std::move(first);
    return Make(position, depth, std::move(comparison));
  }

  ExprPtr ParseSum() {
    ExprPtr left = ParseConcat();
    while (IsOp("+") || IsOp("-")) {
      const Token op = Take();
      left = MakeBinary(op.position, op.text == "+" ? BinaryOp::kAdd : BinaryOp::kSubtract,
                        std::move(left), ParseConcat());
    }
    return left;
  }

  ExprPtr ParseConcat() {
    ExprPtr left = ParseProduct();
    while (IsOp("~")) {
      const Position position = Take().position;
      left = MakeBinary(position, BinaryOp::kConcat, std::move(left), ParseProduct());
    }
    return left;
  }

  ExprPtr ParseProduct() {
    ExprPtr left = ParsePower();
    while (IsOp("*") || IsOp("/") || IsOp("//") || IsOp("%")) {
      const Token op = Take();
      const BinaryOp kind = op.text == "*"    ? BinaryOp::kMultiply
                            : op.text == "/"  ? BinaryOp::kDivide
                            : op.text == "//" ? BinaryOp::kFloorDivide
                                              : BinaryOp::kModulo;
      left = MakeBinary(op.position, kind, std::move(left), ParsePower());
    }
    return left;
  }

  ExprPtr ParsePower() {
    ExprPtr left = ParseUnary();
    while (IsOp("**")) {
      const Position position = Take().position;
      left = MakeBinary(position, BinaryOp::kPower, std::move(left), ParseUnary());
    }
    return left;
  }

  ExprPtr ParseUnary(bool with_filter = true) {
    ExprPtr expr;
    if (IsOp("-") || IsOp("+")) {
      if (++expr_depth_ > kMaxExprDepth) Fail("the expression is nested too deeply");
      const Token op = Take();
      ExprPtr operand = ParseUnary(/*with_filter=*/false);
      --expr_depth_;
      const int depth = operand->depth;
      expr = Make(op.position, depth,
                  Unary{op.text == "-" ? UnaryOp::kMinus : UnaryOp::kPlus, std::move(operand)});
    } else {
      expr = ParsePrimary();
    }
    expr = ParsePostfix(std::move(expr));
    return with_filter ? ParseFiltersAndTests(std::move(expr)) : std::move(expr);
  }

  ExprPtr ParsePrimary() {
    const Position position = Current().position;
    switch (Current().kind) {
      case Token::Kind::kName: return ParseName();
      case Token::Kind::kString: {
        std::string text = Take().text;
        while (Current().kind == Token::Kind::kString) text += Take().text;
        return Make(position, 0, Literal{Value::String(std::move(text))});
      }
      case Token::Kind::kInteger:
      case Token::Kind::kFloat: return ParseNumber();
      default: break;
    }
    if (SkipOp("(")) {
      if (SkipOp(")")) return Make(position, 0, ListLiteral{{}, true});
      if (++expr_depth_ > kMaxExprDepth) Fail("the expression is nested too deeply");
      ExprPtr expr = ParseTuple();
      --expr_depth_;
      ExpectOp(")");
      return expr;
    }
    if (SkipOp("[")) return ParseList(position);
    if (SkipOp("{")) return ParseDict(position);
    Unexpected("an expression");
  }

  ExprPtr ParseName() {
    const Token token = Take();
    const std::string& name = token.text;
    if (name == "true" || name == "True")
      return Make(token.position, 0, Literal{Value::Bool(true)});
    if (name == "false" || name == "False") {
      return Make(token.position, 0, Literal{Value::Bool(false)});
    }
    if (name == "none" || name == "None") return Make(token.position, 0, Literal{Value::None()});
    if (name == "caller" || name == "varargs" || name == "kwargs") names_read_.push_back(name);
    return Make(token.position, 0, Name{name});
  }

  ExprPtr ParseNumber() {
    const Token token = Take();
    const char* begin = token.text.data();
    const char* end = begin + token.text.size();
    if (token.kind == Token::Kind::kInteger) {
      const std::optional<Value> number = ParseInteger(token.text, 0);
      if (!number) throw TemplateError("not an integer", token.position);
      return Make(token.position, 0, Literal{*number});
    }
    double number = 0;
    if (std::from_chars(begin, end, number).ec != std::errc()) {
      throw TemplateError("the number is out of range", token.position);
    }
    return Make(token.position, 0, Literal{Value::Float(number)});
  }

  ExprPtr ParseList(Position position) {
    ListLiteral list{{}, false};
    int depth = 0;
    while (!IsOp("]")) {
      if (!list.items.empty()) {
        ExpectOp(",");
        if (IsOp("]")) break;
      }
      list.items.push_back(ParseExpression());
      depth = std::max(depth, list.items.back()->depth);
    }
    ExpectOp("]");
    return Make(position, depth, std::move(list));
  }

  ExprPtr ParseDict(Position position) {
    DictLiteral dict;
    int depth = 0;
    while (!IsOp("}")) {
      if (!dict.items.empty()) {
        ExpectOp(",");
        if (IsOp("}")) break;
      }
      ExprPtr key = ParseExpression();
      ExpectOp(":");
      ExprPtr value = ParseExpression();
      depth = std::max({depth, key->depth, value->depth});
      dict.items.emplace_back(std::move(key), std::move(value));
    }
    ExpectOp("}");
    return Make(position, depth, std::move(dict));
  }

  ExprPtr ParsePostfix(ExprPtr expr) {
    while (true) {
      const Position position = Current().position;
      const int depth = expr->depth;
      if (SkipOp(".")) {
        if (Current().kind == Token::Kind::kInteger) {
          ExprPtr index = ParseNumber();
          expr = Make(position, depth, GetItem{std::move(expr), std::move(index)});
        } else {
          std::string name = ExpectName();
          expr = Make(position, depth, GetAttribute{std::move(expr), std::move(name)});
        }
      } else if (SkipOp("[")) {
        expr = ParseSubscript(position, std::move(expr));
      } else if (IsOp("(")) {
        expr = ParseCall(std::move(expr));
      } else {
        return expr;
      }
    }
  }

  ExprPtr ParseSubscript(Position position, ExprPtr object) {
    ExprPtr parts[3];
    size_t num_colons = 0;
    while (!IsOp("]")) {
      if (SkipOp(":")) {
        if (++num_colons > 2) Fail("a slice has at most three parts");
      } else {
        if (parts[num_colons] != nullptr) Unexpected("\"]\"");
        parts[num_colons] = ParseExpression();
        if (num_colons == 0 && IsOp(",")) parts[0] = ParseTupleIndex(std::move(parts[0]));
      }
    }
    const int depth =
        std::max({object->depth, DepthOf(parts[0]), DepthOf(parts[1]), DepthOf(parts[2])});
    if (num_colons == 0 && parts[0] == nullptr) Unexpected("an index");
    ExpectOp("]");
    if (num_colons == 0) {
      return Make(position, depth, GetItem{std::move(object), std::move(parts[0])});
    }
    return Make(
        position, depth,
        GetSlice{std::move(object), std::move(parts[0]), std::move(parts[1]), std::move(parts[2])});
  }

  /// x[a, b] has a tuple for its index.
  ExprPtr ParseTupleIndex(ExprPtr first) {
    const Position position = Current().position;
    ListLiteral tuple{{}, true};
    int depth = first->depth;
    tuple.items.push_back(std::move(first));
    while (SkipOp(",")) {
      tuple.items.push_back(ParseExpression());
      depth = std::max(depth, tuple.items.back()->depth);
    }
    if (!IsOp("]")) Unexpected("\"]\"");
    return Make(position, depth, std::move(tuple));
  }

  ExprPtr ParseCall(ExprPtr callee) {
    const Position position = Current().position;
    Arguments arguments = ParseArguments();
    const int depth = std::max(callee->depth, DepthOf(arguments));
    return Make(position, depth, Call{std::move(callee), std::move(arguments)});
  }

  Arguments ParseArguments() {
    Arguments arguments;
    ExpectOp("(");
    bool first = true;
    while (!IsOp(")")) {
      if (!first) {
        ExpectOp(",");
        if (IsOp(")")) break;
      }
      first = false;
      if (IsOp("*") || IsOp("**")) {
        const Token stars = Take();
        ExprPtr& spread = stars.text == "*" ? arguments.spread : arguments.named_spread;
        if (spread != nullptr || arguments.named_spread != nullptr) {
          throw TemplateError("* and ** may be given once, and ** last", stars.position);
        }
        spread = ParseExpression();
      } else if (Current().kind == Token::Kind::kName && Is(Ahead(), Token::Kind::kOperator, "=")) {
        std::string name = Take().text;
        Take();
        arguments.named.emplace_back(std::move(name), ParseExpression());
      } else if (!arguments.named.empty() || arguments.spread || arguments.named_spread) {
        Fail("positional arguments go before named ones");
      } else {
        arguments.positional.push_back(ParseExpression());
      }
    }
    ExpectOp(")");
    return arguments;
  }

  ExprPtr ParseFiltersAndTests(ExprPtr expr) {
    while (true) {
      if (IsOp("|")) {
        expr = ParseFilters(std::move(expr));
      } else if (IsName("is")) {
        expr = ParseTest(std::move(expr));
      } else if (IsOp("(")) {
        expr = ParseCall(std::move(expr));
      } else {
        return expr;
      }
    }
  }

  ExprPtr ParseFilters(ExprPtr operand, bool first_without_pipe = false) {
    while (first_without_pipe || SkipOp("|")) {
      first_without_pipe = false;
      const Position position = Current().position;
      std::string name = ExpectName();
      Arguments arguments;
      if (IsOp("(")) arguments = ParseArguments();
      const int depth = std::max(DepthOf(operand), DepthOf(arguments));
      operand = Make(position, depth,
                     FilterCall{std::move(operand), std::move(name), std::move(arguments)});
    }
    return operand;
  }

  /// A test may take one argument without parentheses: `x is divisibleby 3`.
  bool TestArgumentFollows() const {
    if (IsName("else") || IsName("or") || IsName("and") || IsName("is")) return false;
    switch (Current().kind) {
      case Token::Kind::kName: return !IsName("if") && !IsName("in") && !IsName("not");
      case Token::Kind::kString:
      case Token::Kind::kInteger:
      case Token::Kind::kFloat: return true;
      default: return IsOp("[") || IsOp("{");
    }
  }

  ExprPtr ParseTest(ExprPtr operand) {
    const Position position = Take().position;
    const bool negated = SkipName("not");
    std::string name = ExpectName();
    Arguments arguments;
    if (IsOp("(")) {
      arguments = ParseArguments();
    } else if (TestArgumentFollows()) {
      arguments.positional.push_back(ParsePostfix(ParsePrimary()));
    }
    const int depth = std::max(operand->depth, DepthOf(arguments));
    ExprPtr test =
        Make(position, depth, TestCall{std::move(operand), std::move(name), std::move(arguments)});
    if (!negated) return test;
    return Make(position, depth + 1, Unary{UnaryOp::kNot, std::move(test)});
  }

  std::vector<Token> tokens_;
  size_t pos_ = 0;
  std::vector<std::string> names_read_;  ///< of those that make a macro take more arguments
  int block_depth_ = 0;
  int loop_depth_ = 0;
  int expr_depth_ = 0;
};

}  // namespace

Body Parse(std::string_view source) { return Parser(Tokenize(source)).Run(); }

}  // namespace gale::jinja
