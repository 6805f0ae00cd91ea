"""Caches in the GitHub Actions cache, by both of its protocols, against a service of our own that keeps to
what is documented: GitHub can't be asked from here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.cache.machines import Machines, ran
from tests.support.actions import TOKEN, ActionsService
from tests.support.runner import Pybuild

FILES = {
    "Dockerfile": """\
FROM busybox AS tools
RUN head -c 300000 /dev/urandom > /noise; echo tool > /tool
FROM busybox
COPY data /data
COPY --from=tools /tool /tool
RUN date +%s%N > /stamp; cat /data /tool > /both
""",
    "data": "data\n",
}


@pytest.fixture
def pybuild(me: Pybuild) -> Pybuild:
    """One kind of user: who it is makes no difference to a service."""
    return me


@pytest.fixture(params=["older", "newer"])
def service(request: pytest.FixtureRequest, machines: Machines) -> Iterator[ActionsService]:
    """The machines are steps of a workflow."""
    with ActionsService() as service:
        machines.environment.update(service.older if request.param == "older" else service.newer)
        yield service
    assert service.faults == []


def test_the_second_machine_builds_nothing(
    pybuild: Pybuild, machines: Machines, service: ActionsService
) -> None:
    context = pybuild.context(FILES)
    first, second = machines(), machines()
    told = first("-t", "x", "--cache-from", "type=gha", "--cache-to", "type=gha,mode=max", context)
    assert "there is no cache so far" in told and "was not exported" not in told
    kinds = [key.rpartition("sha256:")[0] or key.rpartition("#")[0] for key in service.finished()]
    assert sorted(kinds) == ["buildkit-py-blob-"] * 4 + ["buildkit-py-index-buildkit-py"]
    service.requests.clear()
    told = second("-t", "x", "--cache-from", "type=gha", context)
    assert ran(told) == []
    # The index and the three layers of the image.
    assert len([r for r in service.requests if r.startswith("GET /signed")]) == 4
    words = ("--rm", "x", "cat", "/stamp", "/both")
    assert first(*words, command="run") == second(*words, command="run")


def test_the_latest_index_of_a_scope_counts(
    pybuild: Pybuild, machines: Machines, service: ActionsService
) -> None:
    context = pybuild.context(FILES)
    other = pybuild.context({**FILES, "Dockerfile": FILES["Dockerfile"] + "RUN echo more > /more\n"}, "other")
    machine = machines()
    machine("--cache-to", "type=gha,scope=a,mode=max", context)
    before = service.finished()
    machine("--cache-to", "type=gha,scope=a,mode=max", context)
    assert service.finished() == before, "the same index is not written again"
    machine("--cache-to", "type=gha,scope=a,mode=max", other)
    machine("--cache-to", "type=gha,scope=ab/c", pybuild.context({"Dockerfile": "FROM busybox\n"}, "none"))
    assert len([k for k in service.finished() if "-index-a#" in k]) == 2
    assert len([k for k in service.finished() if "-blob-" in k]) == 5, "no blob is sent twice"
    assert ran(machines()("--cache-from", "type=gha,scope=a", other)) == []
    assert len(ran(machines()("--cache-from", "type=gha,scope=ab/c", context))) == 4


def test_a_large_blob_goes_in_blocks(pybuild: Pybuild, machines: Machines, service: ActionsService) -> None:
    context = pybuild.context(
        {"Dockerfile": "FROM busybox\nRUN head -c 70000000 /dev/urandom > /n && sha256sum /n > /sum\n"}
    )
    machines()("--cache-to", "type=gha", context)
    machine = machines()
    assert ran(machine("-t", "x", "--cache-from", "type=gha", context)) == []
    assert "OK" in machine("--rm", "x", "sha256sum", "-c", "/sum", command="run")


def test_what_passes_is_tried_again(pybuild: Pybuild, machines: Machines, service: ActionsService) -> None:
    context = pybuild.context(FILES)
    service.camel = True
    service.failures = 2
    told = machines()("--cache-to", "type=gha", context)
    assert "was not exported" not in told and service.failures == 0
    service.failures = 2
    assert ran(machines()("--cache-from", "type=gha", context)) == []


def test_a_blob_that_was_deleted(pybuild: Pybuild, machines: Machines, service: ActionsService) -> None:
    context = pybuild.context(FILES)
    machines()("--cache-to", "type=gha", context)
    service.entries = [e for e in service.entries if "-blob-" not in e.key]
    told = machines()("--cache-from", "type=gha", context)
    assert "is given up" in told and len(ran(told)) == 4


def test_a_blob_that_another_job_is_sending(
    pybuild: Pybuild, machines: Machines, service: ActionsService
) -> None:
    """Its key is reserved and nothing is there: results that need it are left out, the others go."""
    context = pybuild.context(FILES)
    first = machines()
    first("--cache-to", "type=gha,mode=max", context)
    smallest = min((e for e in service.entries if "-blob-" in e.key), key=lambda e: len(e.data))
    for entry in service.entries:
        if entry.key == smallest.key:
            entry.finished = False
        elif "-index-" in entry.key:
            entry.version = "0" * 64
    told = first("--cache-to", "type=gha,mode=max", context)
    assert "was not exported" not in told
    told = machines()("--cache-from", "type=gha", context)
    assert 0 < len(ran(told)) < 4 and "is given up" not in told


def test_a_token_that_is_not_accepted(pybuild: Pybuild, machines: Machines, service: ActionsService) -> None:
    context = pybuild.context(FILES)
    machines.environment["ACTIONS_RUNTIME_TOKEN"] = "another"
    told = machines()("--cache-from", "type=gha", "--cache-to", "type=gha", context)
    assert "no such token" in told and "is not used" in told and "was not exported" in told
    assert "another" not in told
    machines.environment["ACTIONS_RUNTIME_TOKEN"] = ""
    told = machines()("--cache-to", f"type=gha,token={TOKEN}", context)
    assert "was not exported" not in told and TOKEN not in told


def test_time_runs_out(pybuild: Pybuild, machines: Machines, service: ActionsService) -> None:
    context = pybuild.context(FILES)
    told = machines()("--cache-to", "type=gha,timeout=0s", context)
    assert "took too long" in told


def test_outside_of_a_workflow(me: Pybuild) -> None:
    context = me.context(FILES)
    told = me("build", "--cache-from", "type=gha", "--cache-to", "type=gha", context).stderr
    assert "ACTIONS_RESULTS_URL is not set" in told or "ACTIONS_CACHE_URL is not set" in told
    env = {"ACTIONS_RESULTS_URL": "http://127.0.0.1:1/"}
    told = me("build", "--no-cache", "--cache-to=type=gha", context, env=env).stderr
    assert "ACTIONS_RUNTIME_TOKEN is not set" in told
    for wrong in ("version=3", "timeout=soon", "ghtoken=x"):
        assert (
            wrong.partition("=")[0]
            in me("build", "--cache-to", f"type=gha,{wrong}", context, status=2).stderr
        )
