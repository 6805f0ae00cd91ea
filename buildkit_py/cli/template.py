"""``--format``: Go's templates (text/template), as docker's ``--format`` has them, over JSON-like documents.

Understood: fields, variables, pipelines, parentheses, ``if``, ``range``, ``with``, ``break``, ``continue``,
comments, trimming, and the functions of ``buildkit_py.cli.functions``. ``define``, ``block`` and ``template``
are refused by name. Text is parsed into nodes first; then they are executed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from buildkit_py.cli import functions
from buildkit_py.cli.functions import MAPS, MISSING, OPTIONAL, SPELLED, show
from buildkit_py.errors import UsageError
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any

_ACTION = re.compile(r"\{\{(- )?((?:\"(?:\\.|[^\"\\])*\"|`[^`]*`|/\*.*?\*/|[^\"`])*?)( -)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"""\s+|"(?:\\.|[^"\\])*"|`[^`]*`|\$\w*|\.\w+|\.|:=|=|\||,|\(|\)|[-+]?\d+(?:\.\d+)?\b|\w+""", re.ASCII
)
_CONSTANTS = {"true": True, "false": False, "nil": None}
_BLOCKS = ("if", "range", "with")


class Operand(NamedTuple):
    kind: str
    """literal, dot, variable, function or pipe."""
    value: Any
    fields: tuple[str, ...] = ()
    """Looked up in it, one after the other."""


class Pipe(NamedTuple):
    names: tuple[str, ...]
    """Variables that are set."""
    new: bool
    """Whether they are declared here (``:=``)."""
    commands: tuple[tuple[Operand, ...], ...]
    text: str


class Node(NamedTuple):
    kind: str
    """text, show, if, range, with, break or continue."""
    text: str = ""
    pipe: Pipe | None = None
    body: tuple[Any, ...] = ()
    other: tuple[Any, ...] = ()
    """Nodes of ``else``."""


class Break(Exception):
    pass


class Continue(Exception):
    pass


def render(template: str, document: Any) -> str:
    """Raises UsageError for what is not understood, and for a field that isn't there."""
    out: list[str] = []
    _Run(document, out).nodes(parse(template), document)
    return "".join(out)


# Parsing


def parse(template: str) -> tuple[Node, ...]:
    parts = _Parts(template)
    nodes, end = parts.nodes(inside=False)
    if end:
        raise UsageError(f"--format: '{{{{{end}}}}}' ends nothing")
    return nodes


class _Parts:
    """The texts and actions of a template, and the nodes that they make up."""

    def __init__(self, template: str) -> None:
        self._parts = _split(template)
        self._loops = 0

    def nodes(self, *, inside: bool) -> tuple[tuple[Node, ...], str]:
        """Nodes up to ``{{else …}}`` or ``{{end}}``, and that action."""
        found: list[Node] = []
        for kind, text in self._parts:
            if kind == "text":
                found.append(Node("text", text))
                continue
            word = text.split(maxsplit=1)[0] if text else ""
            if text in ("break", "continue"):
                if not self._loops:
                    raise UsageError(f"--format: '{{{{{text}}}}}' is in no range")
                found.append(Node(text))
            elif word in ("else", "end"):
                return tuple(found), text
            elif word in _BLOCKS:
                found.append(self._block(word, text.removeprefix(word)))
            else:
                found.append(Node("show", text, _pipe(text)))
        if inside:
            raise UsageError("--format: '{{end}}' is missing")
        return tuple(found), ""

    def _block(self, kind: str, text: str) -> Node:
        pipe = _pipe(text.strip())
        self._loops += kind == "range"
        body, end = self.nodes(inside=True)
        self._loops -= kind == "range"
        other: tuple[Node, ...] = ()
        if end.startswith("else"):
            further = end.removeprefix("else").strip()
            word = further.split(maxsplit=1)[0] if further else ""
            if word in ("if", "with"):
                # It shares our {{end}}.
                return Node(kind, text, pipe, body, (self._block(word, further.removeprefix(word)),))
            if further:
                raise UsageError(f"--format: '{{{{{end}}}}}' is not understood")
            other, end = self.nodes(inside=True)
            if end != "end":
                raise UsageError(f"--format: '{{{{{end}}}}}' after an else")
        return Node(kind, text, pipe, body, other)


def _split(template: str) -> Iterator[tuple[str, str]]:
    """("text", text) and ("action", what is in the braces)."""
    position, trim = 0, False
    while True:
        found = _ACTION.search(template, position)
        text = template[position : found.start()] if found else template[position:]
        if not found and "{{" in text:
            reason = "a quote is not closed" if text.count('"') % 2 else "'{{' is not closed"
            raise UsageError(f"--format: {reason} in '{template}'")
        text = text.replace("\\t", "\t").replace("\\n", "\n")
        text = text.lstrip() if trim else text
        text = text.rstrip() if found and found.group(1) else text
        if text:
            yield "text", text
        if not found:
            return
        action = found.group(2).strip()
        if action.startswith("-") and not action[1:2].isdigit():
            action = action[1:].strip()
        trim, position = bool(found.group(3)), found.end()
        if not (action.startswith("/*") and action.endswith("*/")):
            yield "action", action


def _pipe(text: str) -> Pipe:
    tokens = _tokens(text)
    pipe, rest = _parse_pipe(tokens, text)
    if rest:
        raise _unknown(text)
    return pipe


def _tokens(text: str) -> list[tuple[str, bool]]:
    """Each with whether it stands right behind the one before."""
    tokens: list[tuple[str, bool]] = []
    position, joined = 0, False
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            if text[position] in '"`':
                raise UsageError(f"--format: a quote is not closed in '{{{{{text}}}}}'")
            raise _unknown(text)
        if found.group().isspace():
            joined = False
        else:
            tokens.append((found.group(), joined))
            joined = True
        position = found.end()
    return tokens


def _parse_pipe(tokens: list[tuple[str, bool]], text: str) -> tuple[Pipe, list[tuple[str, bool]]]:
    """Consumes tokens up to a closing parenthesis, or all."""
    names, new, rest = _declared(tokens)
    commands: list[tuple[Operand, ...]] = []
    command: list[Operand] = []
    while rest and rest[0][0] != ")":
        if rest[0][0] == "|":
            commands.append(tuple(command))
            command, rest = [], rest[1:]
            continue
        operand, rest = _parse_operand(rest, text)
        command.append(operand)
    commands.append(tuple(command))
    if not all(commands):
        raise UsageError(f"--format: a value is missing in '{{{{{text}}}}}'", hint="an empty {{}} is nothing")
    return Pipe(names, new, tuple(commands), text), rest


def _declared(tokens: list[tuple[str, bool]]) -> tuple[tuple[str, ...], bool, list[tuple[str, bool]]]:
    words = [word for word, _ in tokens[:4]]
    for count in (1, 3):
        if len(words) > count and words[count] in (":=", "=") and words[0].startswith("$"):
            if count == 3 and (words[1] != "," or not words[2].startswith("$")):
                continue
            return tuple(words[0:count:2]), words[count] == ":=", tokens[count + 1 :]
    return (), False, tokens


def _parse_operand(tokens: list[tuple[str, bool]], text: str) -> tuple[Operand, list[tuple[str, bool]]]:
    (word, _), *rest = tokens
    if word == "(":
        pipe, rest = _parse_pipe(rest, text)
        if not rest:
            raise UsageError(f"--format: a parenthesis is not closed in '{{{{{text}}}}}'")
        operand, rest = Operand("pipe", pipe), rest[1:]
    elif word[0] in '"`':
        return Operand("literal", functions.unquote(word)), rest
    elif word[0].isdigit() or word[0] in "+-":
        return Operand("literal", float(word) if "." in word else int(word)), rest
    elif word == ".":
        return Operand("dot", None), rest
    elif word[0] == ".":
        operand = Operand("dot", None, (word[1:],))
    elif word[0] == "$":
        operand = Operand("variable", word)
    elif word in _CONSTANTS:
        return Operand("literal", _CONSTANTS[word]), rest
    elif word in functions.KNOWN:
        return Operand("function", word), rest
    else:
        raise _unknown(text, word)
    while rest and rest[0][1] and rest[0][0][0] == "." and len(rest[0][0]) > 1:
        operand = operand._replace(fields=(*operand.fields, rest[0][0][1:]))
        rest = rest[1:]
    return operand, rest


def _unknown(text: str, word: str = "") -> UsageError:
    what = word if word and word != text else f"{{{{{text}}}}}"
    return UsageError(
        f"--format: '{what}' is not understood",
        hint="known are fields ({{.Config.Env}}), if, range, with, and " + ", ".join(functions.KNOWN),
    )


# Execution


class _Run:
    def __init__(self, document: Any, out: list[str]) -> None:
        self._out = out
        self._scopes: list[dict[str, Any]] = [{"$": document}]

    def nodes(self, nodes: Sequence[Node], dot: Any) -> None:
        self._scopes.append({})
        try:
            for node in nodes:
                self._node(node, dot)
        finally:
            self._scopes.pop()

    def _node(self, node: Node, dot: Any) -> None:
        if node.kind == "text":
            self._out.append(node.text)
        elif node.kind == "break":
            raise Break
        elif node.kind == "continue":
            raise Continue
        elif node.kind == "range":
            self._range(node, dot)
        elif node.kind == "show":
            assert node.pipe is not None
            value, field = self._value(node.pipe, dot)
            if not node.pipe.names:
                self._out.append(show(value, field))
        else:
            assert node.pipe is not None
            self._scopes.append({})
            value, _ = self._value(node.pipe, dot)
            inner = value if node.kind == "with" and value else dot
            self.nodes(node.body if value else node.other, inner)
            self._scopes.pop()

    def _range(self, node: Node, dot: Any) -> None:
        assert node.pipe is not None
        value, _ = self._value(node.pipe._replace(names=()), dot)
        items: list[tuple[Any, Any]]
        if isinstance(value, Mapping):
            items = [(key, value[key]) for key in sorted(value)]
        elif isinstance(value, list | tuple):
            items = list(enumerate(value))
        elif value is None or value is MISSING:
            items = []
        elif isinstance(value, int) and not isinstance(value, bool):
            items = [(n, n) for n in range(value)]
        else:
            raise UsageError(f"--format: '{node.pipe.text}' is no list and no map")
        if not items:
            self.nodes(node.other, dot)
        for key, item in items:
            pairs = (item,) if len(node.pipe.names) == 1 else (key, item)
            self._scopes.append(dict(zip(node.pipe.names, pairs, strict=False)))
            try:
                self.nodes(node.body, item)
            except Break:
                break
            except Continue:
                continue
            finally:
                self._scopes.pop()

    def _value(self, pipe: Pipe, dot: Any) -> tuple[Any, str]:
        """The value, and the name of the field that it was found in."""
        piped: tuple[Any, ...] = ()
        field = ""
        for command in pipe.commands:
            value, field = self._command(command, piped, dot, pipe.text)
            piped = (value,)
        (value,) = piped
        for name in pipe.names:
            self._set(name, value, new=pipe.new)
        return value, field

    def _set(self, name: str, value: Any, *, new: bool) -> None:
        (self._scopes[-1] if new else self._scope(name))[name] = value

    def _scope(self, name: str) -> dict[str, Any]:
        for scope in self._scopes[::-1]:
            if name in scope:
                return scope
        raise UsageError(f"--format: there is no variable '{name}'")

    def _command(
        self, command: Sequence[Operand], piped: tuple[Any, ...], dot: Any, text: str
    ) -> tuple[Any, str]:
        first, *operands = command
        if first.kind == "function":
            return self._call(first.value, operands, piped, dot, text), ""
        value, field = self._operand(first, dot)
        if callable(value):
            return value(*(self._operand(o, dot)[0] for o in operands), *piped), ""
        if operands or piped:
            raise _unknown(text)
        return value, field

    def _call(
        self, name: str, operands: Sequence[Operand], piped: tuple[Any, ...], dot: Any, text: str
    ) -> Any:
        if name in ("and", "or"):
            value: Any = None
            for operand in operands:
                value, _ = self._operand(operand, dot)
                if bool(value) == (name == "or"):
                    return value
            return piped[0] if piped else value
        values = [self._operand(operand, dot)[0] for operand in operands]
        return functions.call(name, (*values, *piped), text)

    def _operand(self, operand: Operand, dot: Any) -> tuple[Any, str]:
        if operand.kind == "literal":
            return operand.value, ""
        if operand.kind == "function":
            return functions.call(operand.value, (), operand.value), ""
        if operand.kind == "pipe":
            value, field = self._value(operand.value, dot)
        elif operand.kind == "variable":
            value, field = self._scope(operand.value)[operand.value], ""
        else:
            value, field = dot, ""
        for name in operand.fields:
            value, field = _field(value, name, field), name
        return value, field


def _field(value: Any, name: str, of: str) -> Any:
    if isinstance(value, Mapping):
        if name in value:
            return value[name]
        if of in MAPS:
            return MISSING
        if name in OPTIONAL and name.lower() not in value:
            return OPTIONAL[name]
        if (spelled := SPELLED.get(name)) in value:
            return value[spelled]
        raise UsageError(
            f"--format: there is no field '{name}'" + (f" in '.{of}'" if of else ""),
            hint=f"there are {', '.join(sorted(value))}",
        )
    if (value is None or value is MISSING) and of in MAPS:
        return MISSING
    raise UsageError(f"--format: there is no field '{name}'" + (f" in '.{of}'" if of else ""))
