"""The same subcommands as click commands: help, mistakes and shell completion.

Loaded only when ``fast.parse`` gives up, see there.
"""

from __future__ import annotations

import difflib

import click

from buildkit_py import __version__
from buildkit_py.cli import fast, table
from buildkit_py.cli.command import Args, Argument, Command, Option, Value
from buildkit_py.errors import UsageError

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
LONG_HELP_ONLY = {"help_option_names": ["--help"], "max_content_width": 110}


NOT_HERE = frozenset(
    (
        *("--annotation", "--blkio-weight-device", "--checkpoint", "--checkpoint-dir", "--cpu-count"),
        *(
            "--cpu-percent",
            "--cpu-rt-period",
            "--cpu-rt-runtime",
            "--device-cgroup-rule",
            "--device-read-bps",
        ),
        *("--device-read-iops", "--device-write-bps", "--device-write-iops", "--gpus", "--io-maxbandwidth"),
        *("--io-maxiops", "--kernel-memory", "--link", "--link-local-ip", "--memory-swappiness"),
        *("--oom-kill-disable", "--storage-opt", "--use-api-socket", "--volume-driver"),
    )
)
"""Options of docker's for containers that we don't have: no misspelt ones of ours."""


class _Option(click.Option):
    """Shows a flag without the hidden name that turns it off."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        off, self.secondary_opts = self.secondary_opts, []
        try:
            return super().get_help_record(ctx)
        finally:
            self.secondary_opts = off


class _Subcommand(click.Command):
    def __init__(self, name: str, command: Command) -> None:
        takes_h = any("-h" in option.flags for option in command.options)
        super().__init__(
            name,
            params=[_parameter(p) for p in command.params],
            callback=self._collect,
            help=command.help,
            short_help=command.help.partition("\n")[0],
            epilog=_examples(command),
            context_settings={
                **(LONG_HELP_ONLY if takes_h else SETTINGS),
                "allow_interspersed_args": command.interspersed,
            },
        )
        self.command = command

    def _collect(self, **values: Value) -> tuple[Command, Args]:
        return self.command, Args({p.name: _plain(p, values[p.name]) for p in self.command.params})

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, fast.canonical(self.command, args))


class _Group(click.Group):
    """The subcommands whose full name starts with ``prefix``; one module is imported for one called."""

    def __init__(self, name: str, prefix: str, **attributes: object) -> None:
        super().__init__(name, **attributes)  # type: ignore[arg-type]
        self.prefix = prefix

    def _names(self) -> dict[str, str]:
        """Second words (or first ones, at the root) with their short help."""
        helps = {name: text for name, (_, text) in table.COMMANDS.items()}
        helps |= {alias: helps[name] for alias, name in table.ALIASES.items()}
        if not self.prefix:
            groups = {name: text for name, text in table.GROUPS.items() if text}
            return {name: text for name, text in helps.items() if " " not in name} | groups
        return {n.removeprefix(self.prefix): t for n, t in helps.items() if n.startswith(self.prefix)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._names())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if not self.prefix and cmd_name in table.GROUPS:
            text = table.GROUPS[cmd_name] or f"Docker's names: {cmd_name} ..."
            return _Group(cmd_name, cmd_name + " ", help=text, context_settings=SETTINGS)
        name = self.prefix + cmd_name
        name = table.ALIASES.get(name, name)
        return _Subcommand(cmd_name, table.load(name)) if name in table.COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            close = difflib.get_close_matches(args[0], self._names(), n=1)
            raise UsageError(
                f"there is no command '{self.prefix}{args[0]}'",
                hint=f"did you mean '{self.prefix}{close[0]}'?"
                if close
                else f"see '{ctx.command_path} --help'",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # From the table alone: click would import every subcommand to ask it for its help.
        with formatter.section("Commands"):
            formatter.write_dl(list(self._names().items()))


def root() -> click.Group:
    group = _Group(
        "pybuild",
        "",
        help="Build container images from Dockerfiles, and run them: no daemon, no root.",
        context_settings=SETTINGS,
        callback=lambda debug: None,
        params=[
            click.Option(["-D", "--debug"], is_flag=True, help="Show tracebacks and timings"),
        ],
    )
    return click.version_option(__version__, prog_name="pybuild")(group)


def parse(argv: list[str]) -> tuple[Command, Args] | None:
    """Parse a whole command line with click; None: the help was shown and there is nothing to do.

    Raises UsageError for a wrong command line, with click's suggestion as the hint.
    """
    try:
        result = root().main(
            table.lengthened(argv) if argv else ["--help"], prog_name="pybuild", standalone_mode=False
        )
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help())
        return None
    except click.NoSuchOption as error:
        if error.option_name in NOT_HERE:
            raise UsageError(
                f"docker's option {error.option_name} is not there",
                hint="docs/containers.md says what is different",
            ) from error
        raise _usage(error, argv) from error
    except click.UsageError as error:
        raise _usage(error, argv) from error
    return result if isinstance(result, tuple) else None


def _usage(error: click.UsageError, argv: list[str]) -> UsageError:
    found = table.find(argv)
    where = f"pybuild {found[0]}" if found else "pybuild"
    return UsageError(_sentence(error.format_message()), hint=f"see '{where} --help'")


def complete(instruction: str) -> int:
    """Answer a shell's completion request (the environment variable _PYBUILD_COMPLETE)."""
    from click.shell_completion import shell_complete

    return shell_complete(root(), {}, "pybuild", "_PYBUILD_COMPLETE", instruction)


def completion_script(shell: str) -> str:
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise UsageError(f"no completion for the shell '{shell}'", hint="bash, zsh and fish are known")
    return kind(root(), {}, "pybuild", "_PYBUILD_COMPLETE").source()


def _parameter(param: Option | Argument) -> click.Parameter:
    if isinstance(param, Argument):
        # To click 8.3 and newer even default=None is a default, which a required argument must not have.
        default = {} if param.required or param.many else {"default": param.default}
        return click.Argument(
            [param.name],
            nargs=-1 if param.many else 1,
            required=param.required,
            type=click.UNPROCESSED,
            metavar=param.metavar or None,
            **default,
        )
    names = [param.name, *param.flags]
    if param.is_flag:
        long = [f for f in param.flags if f.startswith("--")]
        names = [param.name, *param.flags[:-1], f"{param.flags[-1]}/{long[-1]}{fast.OFF}"]
        return _Option(
            names, is_flag=True, default=param.default == "true", help=param.help, hidden=param.hidden
        )
    return _Option(
        names,
        multiple=param.multiple,
        default=None if param.multiple else param.default,
        type=click.Choice(param.choices) if param.choices and param.default != "" else _kind(param),
        metavar=None if param.choices else param.metavar,
        help=param.help,
        hidden=param.hidden,
    )


class _Choice(click.Choice[str]):
    """A choice whose default is none of them, an empty text."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value == "" and isinstance(param, click.Option) and param.default == "":
            return ""
        return super().convert(value, param, ctx)


def _kind(param: Option) -> click.ParamType[str]:
    return _Choice(param.choices) if param.choices else click.UNPROCESSED


def _plain(param: Option | Argument, value: object) -> Value:
    if isinstance(value, bool | str):
        return value
    if value is None:
        many = param.multiple if isinstance(param, Option) else param.many
        return () if many else param.default
    assert isinstance(value, tuple)
    return value


def _examples(command: Command) -> str | None:
    if not command.examples:
        return None
    return "\b\nExamples:\n" + "\n".join("  " + line for line in command.examples)


def _sentence(text: str) -> str:
    text = text.strip().rstrip(".")
    return text[:1].lower() + text[1:]
