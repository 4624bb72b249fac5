"""Templates at random, from a grammar over what chat templates use and more of Jinja besides."""

STRINGS = ["", "a", "Hello World", " x y ", "é🙂ß", "a,b,c", "<b>&'\"", "{}", "{0:>5}|{1!r}", "%s-%s",
           "%05.1f", "line\nnext\n\nlast", "ΑΣ ΣΑΣ", "12", "-3.5", "1e3", "0x1f", "ǆ ŉ ﬁ", "user"]
INTEGERS = ["0", "1", "2", "-1", "7", "100", "9223372036854775807", "123456789012345678901", "0x1F", "1_000"]
FLOATS = ["0.0", "1.5", "-2.25", "1e16", "1e-7", "0.1", "3.0"]
VARIABLES = ["n", "f", "s", "e", "u", "none_value", "yes", "list", "words", "d", "people", "floats",
             "nested", "missing", "people[0]", "d.a", "people[0].name", "loop", "x", "y", "ns.v"]
FILTERS = ["abs", "capitalize", "center(9)", "count", "default('z')", "d('q', true)", "dictsort",
           "dictsort(by='value')", "dictsort(reverse=true)", "e", "first", "float", "float(1)", "format(1)", "format('a', 2)",
           "groupby('age')", "groupby('name') | map(attribute='grouper')", "indent", "indent(2, true)", "indent(3, false, true)", "int", "int(5)", "int(0, 16)",
           "int(base=0)", "items", "join", "join('-')", "join('/', 'name')", "last", "length", "list",
           "lower", "map('upper')", "map(attribute='name')", "map(attribute='age', default=1)", "map('length')", "max",
           "max(attribute='age')", "min", "min(case_sensitive=true)", "reject", "reject('none')", "rejectattr('age')",
           "replace('a', 'B')", "replace('l', '', 1)", "reverse", "round", "round(1)", "round(-1)",
           "round(1, 'floor')", "round(method='ceil')", "select", "select('string')", "select('gt', 1)", "selectattr('age')",
           "selectattr('age', 'eq', 30)", "selectattr('pet', 'defined')", "sort", "sort(reverse=true)", "sort(attribute='age')",
           "sort(attribute='age,name')", "sort(case_sensitive=true)", "string", "sum", "sum('age')", "sum(start=2)", "title",
           "tojson", "tojson(indent=2)", "tojson(ensure_ascii=true)", "tojson(separators=(',', ':'))",
           "tojson(sort_keys=true)", "trim", "trim('ax ')", "truncate(5)", "truncate(7, true, '.', 0)", "unique", "unique(attribute='age')",
           "upper", "urlencode", "wordcount", "xmlattr", "batch(2) | list", "batch(2, 0) | list", "slice(2) | list",
           "slice(3, 'f') | list", "attr('keys')", "filesizeformat", "filesizeformat(true)", "nofilter"]
TESTS = ["defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "mapping",
         "sequence", "iterable", "callable", "odd", "even", "divisibleby 3", "eq 1", "ne 'a'", "gt 1", "lt 2",
         "ge 1", "le 3", "in [1, 2, 'a']", "sameas none", "true", "false", "lower", "upper", "escaped", "test", "filter", "notest"]
METHODS = ["upper()", "lower()", "title()", "capitalize()", "swapcase()", "casefold()", "strip()", "strip('a x')",
           "lstrip()", "rstrip()", "split()", "split(',')", "split(none, 1)", "split(' ', 1)", "rsplit(none, 1)",
           "rsplit('l', 1)", "splitlines()", "splitlines(true)", "startswith('a')", "startswith(('a', 'H'))", "startswith('e', 1)",
           "endswith('d')", "endswith(['d'])", "find('l')", "find('o', 5)", "find('', 3, 2)", "rfind('o')", "rfind('o', 0, -4)", "index('e')", "count('l')",
           "count('')", "replace('l', 'L')", "replace('', '.', 2)", "join(words)", "join(list)", "format(1, 'b')", "format(a=1)", "isdigit()",
           "isdecimal()", "isnumeric()", "isalpha()", "isalnum()", "isspace()", "isupper()", "islower()", "istitle()",
           "isascii()", "isidentifier()", "isprintable()", "center(11, '*')", "ljust(8)", "rjust(8, '.')", "zfill(7)",
           "expandtabs(4)", "partition(' ')", "rpartition('l')", "removeprefix('a')", "removesuffix('d')",
           "items()", "keys()", "values()", "get('b')", "get('z', 4)", "copy()", "append(1)", "update({})",
           "pop('b')", "index(1)", "count(1)", "b", "name", "age", "pet.kind", "items", "__class__", "nothing.more"]
SPECS = ["", ":5", ":<5", ":>8", ":^7", ":*^9", ":+d", ":05d", ":,", ":_x", ":#x", ":b", ":o", ":e", ":.2f",
         ":.3g", ":.1%", ":10.3", "!r", "!s:>6", "!a", "[0]", "[b]", ".name", ":08.2f", ":=+9", ":{1}", ":n", ":c", ":s", ":+,.2f"]
PERCENTS = ["%s", "%r", "%d", "%5d", "%-5d|", "%05d", "%+d", "%x", "%#x", "%o", "%e", "%.3f", "%g", "%c", "%%",
            "%10s", "%-10s|", "%.2s", "%a", "%i", "%G", "%.4d", "% d", "%X"]
BINARY = ["+", "-", "/", "//", "%", "~", "~", "+", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]


class Grammar:
    def __init__(self, rng):
        self.rng = rng

    def quoted(self, text):
        quote = self.rng.choice("'\"")
        escaped = text.replace("\\", "\\\\").replace(quote, "\\" + quote).replace("\n", "\\n")
        return quote + escaped + quote

    def expression(self, depth=0):
        pick = self.rng.random()
        choice = self.rng.choice
        sub = lambda: self.expression(depth + 1)
        if depth > 2 or pick < 0.3:
            kind = self.rng.random()
            if kind < 0.55:
                return choice(VARIABLES)
            if kind < 0.75:
                return self.quoted(choice(STRINGS))
            return choice(INTEGERS if kind < 0.88 else FLOATS + ["true", "none", "false"])
        if pick < 0.42:
            return f"{self.atom(depth)} | {choice(FILTERS)}"
        if pick < 0.57:
            return f"{self.atom(depth)}.{choice(METHODS)}"
        if pick < 0.64:
            return f"({sub()} {choice(BINARY)} {sub()})"
        if pick < 0.66:  # small on the right: Python has no limits
            return f"({sub()} {choice(['*', '**'])} {choice(['0', '1', '2', '3', '-1', '0.5', 'true'])})"
        if pick < 0.71:
            return f"{self.atom(depth)} is {choice(['', 'not '])}{choice(TESTS)}"
        if pick < 0.75:
            return f"({sub()} if {sub()} else {sub()})" if pick < 0.74 else f"({sub()} if {sub()})"
        if pick < 0.80:
            bounds = [choice(["", "", "0", "1", "-1", "2", "-3", "n", "99"]) for _ in range(3)]
            return f"{self.atom(depth)}[{':'.join(bounds[:choice([2, 3])])}]"
        if pick < 0.84:
            return f"{self.atom(depth)}[{sub()}]"
        if pick < 0.88:
            return f"[{sub()}, {sub()}]" if pick < 0.86 else f"({sub()}, {sub()},)"
        if pick < 0.90:
            return f"{{{self.quoted(choice(STRINGS))}: {sub()}, {sub()}: {sub()}}}"
        if pick < 0.925:
            fields = "".join("{" + choice(["", "", "0", "1"]) + choice(SPECS) + "}" for _ in range(choice([1, 1, 2])))
            return f"{self.quoted(fields)}.format({sub()}, {sub()})"
        if pick < 0.95:
            return f"({self.quoted(choice(PERCENTS) + choice(['', choice(PERCENTS)]))} % ({sub()}, {sub()}))" if pick < 0.935 else f"({self.quoted(choice(PERCENTS))} % {self.atom(depth)})"
        if pick < 0.965:
            return f"{choice(['-', '+', 'not '])}{self.atom(depth)}"
        if pick < 0.985:
            return f"range({choice(['3', 'n', '1, 5', '5, 0, -2', '0, 9, 4'])}){choice(['', '[1]', '[1:]', ' | list', ' | length', ' | sum'])}"
        return f"dict(a={sub()}, **{{'b': {sub()}}})"

    def atom(self, depth):
        expression = self.expression(depth + 1)
        return f"({expression})"

    def body(self, depth):
        return "".join(self.statement(depth + 1) for _ in range(self.rng.randint(1, 2)))

    def tag(self, text):
        dash = lambda: self.rng.choice(["", "", "", "-", "+"])
        return f"{{%{dash()} {text} {dash().replace('+', '')}%}}"

    def space(self):
        return self.rng.choice(["", "", " ", "\n", "\n  ", "  \n\n ", "\t"])

    def statement(self, depth=0):
        choice = self.rng.choice
        pick = self.rng.random()
        if depth > 3 or pick < 0.40:
            dash = choice(["", "", "", "-"])
            return f"{self.space()}{{{{{dash} {self.expression()} {dash}}}}}"
        if pick < 0.48:
            return self.space() + choice(["text", "a{b}", "{ {", "é", "{# note #}", "{#- x -#}\n", "{% raw %} {{ x }} {% endraw %}", "%}", "\r\n"]) + self.space()
        if pick < 0.58:
            return self.tag(f"if {self.expression()}") + self.body(depth) + choice(["", self.tag(f"elif {self.expression()}") + self.body(depth)]) + choice(["", self.tag("else") + self.body(depth)]) + self.tag("endif")
        if pick < 0.72:
            target, iterable = choice([("x", self.expression()), ("x", "list"), ("x", "people"), ("k, x", "d.items()"), ("x", "words"), ("x", "u"), ("a, (x)", "nested"), ("(x, y)", "d | dictsort")])
            condition = choice(["", "", "", f" if {self.expression()}", " if x"])
            inside = choice(["", "{{ loop.index }}{{ loop.last }}", "{{ loop.previtem }}{{ loop.nextitem is defined }}", "{{ loop.cycle(1, 2) }}{{ loop.changed(x) }}", "{{ loop.revindex0 }}/{{ loop.length }}", self.tag("if loop.index > 1") + self.tag(choice(["break", "continue"])) + self.tag("endif")])
            return self.tag(f"for {target} in {iterable}{condition}") + inside + self.body(depth) + choice(["", self.tag("else") + "none"]) + self.tag("endfor")
        if pick < 0.84:
            return self.tag(choice([f"set x = {self.expression()}", f"set y = {self.expression()}", "set ns = namespace(v=1)", f"set ns.v = {self.expression()}", f"set x, y = {self.expression()}", f"set x, y = 1, {self.expression()}"]))
        if pick < 0.88:
            return self.tag(choice(["set x", "set y | upper", "set x | trim | length"])) + self.body(depth) + self.tag("endset")
        if pick < 0.91:
            return self.tag(choice(["filter upper", "filter trim", "filter indent(2) | replace('a', 'b')"])) + self.body(depth) + self.tag("endfilter")
        if pick < 0.94:
            return self.tag(f"with x = {self.expression()}, q = x") + "{{ q }}" + self.body(depth) + self.tag("endwith")
        if pick < 0.98:
            signature = choice(["x", "x, y=1", "x=n, y=x", ""])
            extra = choice(["", "{{ varargs }}", "{{ kwargs }}", "{{ caller(1) if caller else 0 }}", "{{ varargs | length }}{{ kwargs.k }}"])
            call = choice(["m()", "m(1)", "m(1, 2)", "m(1, 2, 3)", "m(y=4)", "m(k=5)", "m(*list)", "m(**{'x': 1})", "m(1, x=2)", f"m({self.expression()})"])
            use = choice([f"{{{{ {call} }}}}", f"{{% call {call} %}}in{{% endcall %}}", f"{{% call(z) {call} %}}{{{{ z }}}}{{% endcall %}}"])
            return self.tag(f"macro m({signature})") + extra + self.body(depth) + self.tag("endmacro") + use
        return self.tag("generation") + self.body(depth) + self.tag("endgeneration")

    def template(self):
        return "".join(self.statement() for _ in range(self.rng.randint(1, 2))) + self.space()
