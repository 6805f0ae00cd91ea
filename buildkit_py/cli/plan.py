"""``pybuild plan``, which is ``build --dry-run``"""

from __future__ import annotations

import json

from buildkit_py.cli import build, sizes
from buildkit_py.cli.command import Args, Command
from buildkit_py.progress.text import clean, duration
from buildkit_py.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_py.engine.plan import Plan, PlannedStep

WOULD_RUN = 3
"""Exit status where something would run."""


def run(args: Args) -> int:
    request = build.translate(Args({**args.values, "dry_run": True}))
    if request.call != "build":
        return build.run(args)
    from buildkit_py.cli.session import Session

    with Session("quiet") as session:
        plan = session.engine.plan(request, session.display)
    if args.text("format") == "json":
        from buildkit_py.engine.plan import document

        print(json.dumps(document(plan), indent=2))
    elif not args.flag("quiet"):
        show(plan, explain=args.flag("explain"))
    return 0 if plan.cached else WOULD_RUN


def show(plan: Plan, *, explain: bool) -> None:
    width = max((len(_time(step)) for step in plan.steps), default=0)
    for step in plan.steps:
        print(f"{step.verdict:<6}  {_time(step):>{width}}  {clean(step.step.name)}")
        if explain:
            from buildkit_py.history.wording import lines

            for reason in step.reasons:
                for line in lines(reason):
                    print(f"{'':{width + 10}}  {clean(line)}")
    for pull in plan.pulls:
        layers = "1 layer" if pull.layers == 1 else f"{pull.layers} layers"
        name = clean(pull.image.partition("@")[0])
        print(f"pull    {name} ({pull.platform}): {layers}, {sizes.size(pull.size)}")
    print(summary(plan))


def summary(plan: Plan) -> str:
    count = len(plan.steps)
    if plan.cached:
        return f"all is cached: {count} steps"
    runs = [step for step in plan.steps if step.verdict != "cached"]
    maybe = sum(step.verdict == "maybe" for step in runs)
    text = f"{len(runs)} of {count} steps would run"
    if maybe:
        text += f" ({maybe} of them perhaps not)"
    unknown = sum(step.seconds is None for step in runs)
    if unknown == len(runs):
        return text
    text += f", in about {duration(plan.seconds)}"
    return text + (f" and what {unknown} new ones take" if unknown else "")


def _time(step: PlannedStep) -> str:
    if step.verdict == "cached":
        return ""
    return "?" if step.seconds is None else duration(step.seconds)


COMMAND = Command(
    "plan",
    "Say what a build would do: what is cached, what would run or be pulled, and for how long.\n\n"
    "It takes the options of 'build', changes nothing in the store and runs nothing. The exit status is 0 "
    "where all is cached, 3 where something would run. --explain tells why.",
    build.PARAMS,
    run,
    examples=("pybuild plan .", "pybuild plan --explain --build-arg VERSION=4 ."),
)
