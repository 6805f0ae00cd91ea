"""Health checks: of the command line and of the image, their answers, and what they change."""

from __future__ import annotations

import json

from tests.support.containers import ready
from tests.support.runner import Pybuild

QUICK = ("--health-interval", "100ms", "--health-retries", "2")
WAITING = ("busybox", "sh", "-c", "echo ready; sleep 1000")


def wait_for(pybuild: Pybuild, status: str) -> None:
    """Until the event says so, or it was before."""
    with pybuild.start(
        "events", "--since", "1h", "-f", "container=box", "--format", "{{.Action}}"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == f"health_status: {status}":
                break
        process.kill()


def health(pybuild: Pybuild) -> dict[str, object]:
    found: dict[str, object] = json.loads(pybuild("inspect", "-f", "{{json .State.Health}}", "box").stdout)
    return found


def test_well_and_unwell_and_well_again(pybuild: Pybuild) -> None:
    pybuild("run", "-d", "--name", "box", *QUICK, "--health-cmd", "echo looked; test ! -e /ill", *WAITING)
    ready(pybuild, "box")
    wait_for(pybuild, "healthy")
    assert "(healthy)" in pybuild("ps").stdout
    answer = health(pybuild)["Log"][-1]  # type: ignore[index]
    assert (answer["ExitCode"], answer["Output"]) == (0, "looked\n")
    pybuild("exec", "box", "touch", "/ill")
    wait_for(pybuild, "unhealthy")
    assert "(unhealthy)" in pybuild("ps", "-f", "health=unhealthy").stdout
    assert int(str(health(pybuild)["FailingStreak"])) >= 2
    pybuild("stop", "-t", "0", "box")
    assert pybuild("ps", "-q").stdout == ""
    pybuild("rm", "box")


def test_a_check_that_takes_too_long(pybuild: Pybuild) -> None:
    flags = (*QUICK, "--health-timeout", "200ms", "--health-cmd", "sleep 1000")
    pybuild("run", "-d", "--name", "box", *flags, *WAITING)
    ready(pybuild, "box")
    wait_for(pybuild, "unhealthy")
    answer = health(pybuild)["Log"][-1]  # type: ignore[index]
    assert answer["ExitCode"] == -1 and "exceeded timeout" in answer["Output"]
    pybuild("rm", "-f", "box")


def test_the_images_check_and_none(pybuild: Pybuild) -> None:
    text = 'FROM busybox\nHEALTHCHECK --interval=1s --start-period=1m --start-interval=100ms CMD ["true"]\n'
    pybuild("build", "-t", "checked", pybuild.context({"Dockerfile": text}))
    pybuild("run", "-d", "--name", "box", "checked", "sleep", "1000")
    wait_for(pybuild, "healthy")
    pybuild("rm", "-f", "box")
    pybuild("run", "-d", "--name", "box", "--no-healthcheck", "checked", "sleep", "1000")
    assert "health" not in pybuild("ps").stdout
    assert pybuild("inspect", "-f", "{{.Config.Healthcheck.Test}}", "box").stdout == "[NONE]\n"
    pybuild("rm", "-f", "box")
    flags = ("--no-healthcheck", "--health-cmd", "true")
    assert "exclude each other" in pybuild("run", *flags, "checked", status=125).stderr
