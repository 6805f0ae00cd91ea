"""``pybuild doctor``"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from buildkit_py.cli.command import Args, Command, option
from buildkit_py.cli.excerpt import Style
from buildkit_py.progress.display import colour_wanted
from buildkit_py.progress.text import clean
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.linux.probe import Finding


def run(args: Args) -> int:
    from buildkit_py import paths
    from buildkit_py.linux.probe import probe

    findings = probe(paths.data_root())
    if args.text("format") == "json":
        import json

        print(json.dumps([finding._asdict() for finding in findings], indent=2, ensure_ascii=False))
    else:
        sys.stdout.write(render(findings, Style(colour_wanted(sys.stdout))))
    return 0 if able(findings) else 1


def able(findings: Sequence[Finding]) -> bool:
    """Whether builds work at all."""
    return all(finding.ok or not finding.required for finding in findings)


def render(findings: Sequence[Finding], style: Style) -> str:
    """The findings as a table, each one that is wrong with its mend below it."""
    width = max((len(finding.name) for finding in findings), default=0)
    out = []
    for finding in findings:
        if finding.ok:
            mark = f"{style.green}✓{style.off}"
        elif finding.required:
            mark = f"{style.red}✗{style.off}"
        else:
            mark = f"{style.yellow}-{style.off}"
        out.append(f"{mark} {finding.name.ljust(width)}  {clean(finding.detail)}".rstrip())
        if finding.mend:
            lines = finding.mend.split("\n")
            out.append(f"  {' ' * width}  {style.bold}mend:{style.off} {clean(lines[0])}")
            out += [f"  {' ' * width}        {clean(line)}" for line in lines[1:]]
    missing = [finding.name for finding in findings if not finding.ok and finding.required]
    lesser = [finding.name for finding in findings if not finding.ok and not finding.required]
    if missing:
        out += ["", f"{style.red}Builds can't work here:{style.off} {', '.join(missing)}."]
    elif lesser:
        out += ["", f"Builds work here. They would do better with: {', '.join(lesser)}."]
    else:
        out += ["", f"{style.green}All is well.{style.off}"]
    return "\n".join(out) + "\n"


COMMAND = Command(
    "doctor",
    "Say what this machine allows (namespaces, ids, overlay, network, cgroups, seccomp, AppArmor), and how "
    "to mend what it doesn't.\n\nThe exit status is 1 where builds can't work at all.",
    (option("--format", choices=("text", "json"), default="text", help="text or json"),),
    run,
)
