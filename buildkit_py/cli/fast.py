"""The parser for well-formed command lines: imports nothing, reports nothing.

``parse`` returns None for whatever it does not fully understand (an unknown option, a missing value,
``--help``): then buildkit_py.cli.app parses the line again with click and says what is wrong. Where
it returns values, click returns the same ones (a property test says so).
"""

from __future__ import annotations

from buildkit_py.cli.command import Args, Argument, Command, Option, Value

TRUE = frozenset({"true", "1", "t", "T", "TRUE", "True"})
FALSE = frozenset({"false", "0", "f", "F", "FALSE", "False"})


def parse(command: Command, argv: list[str]) -> Args | None:
    """The values of ``argv`` (without the command's name), or None: let click look at it."""
    by_flag = {flag: param for param in command.options for flag in param.flags}
    values: dict[str, Value] = {p.name: _default(p) for p in command.options}
    words: list[str] = []
    position, end = 0, len(argv)
    while position < end:
        word = argv[position]
        position += 1
        if word == "--":
            words += argv[position:]
            break
        if len(word) < 2 or word[0] != "-":
            words.append(word)
            if command.interspersed:
                continue
            words += argv[position:]
            break
        taken = (
            _long(by_flag, values, word, argv, position)
            if word[1] == "-"
            else _short(by_flag, values, word, argv, position)
        )
        if taken < 0:
            return None
        position += taken
    return _positional(command.arguments, values, words)


def canonical(command: Command, argv: list[str]) -> list[str]:
    """``argv`` as click understands it: ``--flag=false`` and ``-f=value`` in forms that click knows."""
    by_flag = {flag: param for param in command.options for flag in param.flags}
    result: list[str] = []
    position, end = 0, len(argv)
    while position < end:
        word = argv[position]
        position += 1
        if word == "--" or (not command.interspersed and (len(word) < 2 or word[0] != "-")):
            return result + argv[position - 1 :]
        skip = False
        if word[:2] == "--":
            name, equals, value = word.partition("=")
            option = by_flag.get(name)
            if option is not None and option.is_flag and equals:
                word = name if value in TRUE else name + OFF if value in FALSE else word
            skip = option is not None and not option.is_flag and not equals
        elif word[:1] == "-":
            for index in range(1, len(word)):
                option = by_flag.get("-" + word[index])
                if option is not None and option.is_flag and word[index + 1 : index + 2] == "=":
                    value = word[index + 2 :]
                    if value in TRUE or value in FALSE:
                        result += [word[:index]] if index > 1 else []
                        long = next((flag for flag in option.flags if flag[:2] == "--"), "")
                        word = "-" + word[index] if value in TRUE else long + OFF
                    break
                if option is None or not option.is_flag:
                    skip = option is not None and index == len(word) - 1
                    if option is not None and word[index + 1 : index + 2] == "=" and index + 2 < len(word):
                        word = word[: index + 1] + word[index + 2 :]
                    break
        result.append(word)
        if skip and position < end:
            result.append(argv[position])
            position += 1
    return result


OFF = "-is-off"
"""Appended to a flag's long name: the click option that turns it off, never shown."""


def _default(option: Option) -> Value:
    return option.default == "true" if option.is_flag else () if option.multiple else option.default


def _long(by_flag: dict[str, Option], values: dict[str, Value], word: str, argv: list[str], at: int) -> int:
    """Words taken beyond the option itself, -1 for trouble."""
    name, equals, value = word.partition("=")
    option = by_flag.get(name)
    if option is None:
        return -1
    if option.is_flag:
        if equals and value not in TRUE and value not in FALSE:
            return -1
        values[option.name] = not equals or value in TRUE
        return 0
    if equals:
        return 0 if _store(option, values, value) else -1
    if at >= len(argv):
        return -1
    return 1 if _store(option, values, argv[at]) else -1


def _short(by_flag: dict[str, Option], values: dict[str, Value], word: str, argv: list[str], at: int) -> int:
    for index in range(1, len(word)):
        option = by_flag.get("-" + word[index])
        if option is None:
            return -1
        rest = word[index + 1 :]
        if option.is_flag:
            if rest[:1] == "=":
                values[option.name] = rest[1:] in TRUE
                return 0 if rest[1:] in TRUE or rest[1:] in FALSE else -1
            values[option.name] = True
            continue
        if rest:
            if rest[0] == "=":
                rest = rest[1:]
            return 0 if rest and _store(option, values, rest) else -1
        if at >= len(argv):
            return -1
        return 1 if _store(option, values, argv[at]) else -1
    return 0


def _store(option: Option, values: dict[str, Value], value: str) -> bool:
    if option.choices and value not in option.choices:
        return False
    if option.multiple:
        present = values[option.name]
        assert isinstance(present, tuple)
        values[option.name] = (*present, value)
    else:
        values[option.name] = value
    return True


def _positional(arguments: tuple[Argument, ...], values: dict[str, Value], words: list[str]) -> Args | None:
    for argument in arguments:
        if argument.many:
            if argument.required and not words:
                return None
            values[argument.name] = tuple(words)
            words = []
        elif words:
            values[argument.name] = words.pop(0)
        elif argument.required:
            return None
        else:
            values[argument.name] = argument.default
    return None if words else Args(values)
