"""The reference of all commands, docs/cli.md, out of their own data.

``python -m buildkit_py.cli.reference > docs/cli.md`` writes it anew; a test compares.
"""

from __future__ import annotations

from buildkit_py.cli import table
from buildkit_py.cli.command import Argument, Command, Option

INTRODUCTION = """\
# The command line

<!-- Made by `python -m buildkit_py.cli.reference`; edit the commands' own texts instead. -->

    pybuild [--debug] COMMAND [OPTION...] [ARGUMENT...]

Options may stand before or after the arguments (for `run`: before the image). `--option=value` and
`--option value` are the same, so are `-o value`, `-ovalue` and `-o=value`; short switches may be joined
(`-it`), and a switch is turned off again by `--switch=false`. `--` ends the options.

Results go to stdout; progress, warnings and errors go to stderr.

| exit status | |
|---|---|
| 0 | done |
| 1 | failed; `doctor`: builds can't work here; `build --check`: there are warnings |
| 2 | the command line is wrong |
| 3 | `plan`, `build --dry-run`: something would run |
| 125, 126, 127 | `run`: pybuild itself failed; the command can't be executed; it isn't there |
| 130, 143 | stopped by Ctrl-C, by SIGTERM |

| variable | |
|---|---|
| `PYBUILD_ROOT` | the store's directory (else `$XDG_DATA_HOME/pybuild`) |
| `PYBUILD_REGISTRY_CONFIG` | the file with the registries' settings |
| `PYBUILD_HISTORY_KEEP` | how many builds are remembered: 100; `0`: none |
| `PYBUILD_HISTORY_DAYS` | for how many days: 30 |
| `PYBUILD_DEBUG` | `1`: errors come with a traceback, as with `--debug` |
| `BUILDKIT_PROGRESS` | how progress is shown where `--progress` isn't given |
| `NO_COLOR` | no colours |
"""


def text() -> str:
    out = [INTRODUCTION, "## Commands", "", "| command | |", "|---|---|"]
    out += [f"| [{name}](#{_anchor(name)}) | {short} |" for name, (_, short) in table.COMMANDS.items()]
    for name in table.COMMANDS:
        out += ["", *_section(name, table.load(name))]
    out += ["", "## Docker's names", "", "| name | command |", "|---|---|"]
    out += [f"| `{alias}` | [{name}](#{_anchor(name)}) |" for alias, name in table.ALIASES.items()]
    return "\n".join(out) + "\n"


def _section(name: str, command: Command) -> list[str]:
    usage = " ".join(["pybuild", name, *(["[OPTION...]"] if command.options else []), *_usage(command)])
    out = [f"## {name}", "", f"    {usage}", "", command.help]
    rows = [_row(option) for option in command.options if not option.hidden]
    if rows:
        out += ["", "| option | |", "|---|---|", *rows]
    if command.examples:
        out += ["", *("    " + example for example in command.examples)]
    return out


def _usage(command: Command) -> list[str]:
    return [argument.metavar or _metavar(argument) for argument in command.arguments]


def _metavar(argument: Argument) -> str:
    return argument.name.upper()


def _row(option: Option) -> str:
    value = "" if option.is_flag else " " + ("\\|".join(option.choices) or option.metavar.replace("|", "\\|"))
    flags = ", ".join(f"`{name}{value if name == option.flags[-1] else ''}`" for name in option.flags)
    notes = [option.help.replace("|", "\\|")]
    if option.choices and option.default:
        notes.append(f"(default: {option.default})")
    if option.multiple:
        notes.append("(repeatable)")
    return f"| {flags} | {' '.join(notes)} |"


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


if __name__ == "__main__":
    print(text(), end="")
