"""Restart policies, and signals by name."""

from __future__ import annotations

import pytest

from buildkit_py.errors import UsageError
from buildkit_py.runtime.restart import Policy, due, parse
from buildkit_py.runtime.signals import number_of
from buildkit_py.runtime.state import State


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("no", ("no", 0)),
        ("always", ("always", 0)),
        ("on-failure", ("on-failure", 0)),
        ("on-failure:3", ("on-failure", 3)),
    ],
)
def test_policies(text: str, want: tuple[str, int]) -> None:
    assert parse(text) == want


@pytest.mark.parametrize("text", ["sometimes", "always:3", "on-failure:x", "on-failure:-1"])
def test_wrong_policies(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


def test_delays_double_until_a_run_went_well() -> None:
    policy = Policy("always")
    assert [policy.next(0, 0.1) for _ in range(3)] == [0.1, 0.2, 0.4]
    assert policy.next(1, 60) == 0.1
    assert max(policy.next(1, 0.1) for _ in range(50)) == 60


def test_on_failure_stops_after_success_or_enough() -> None:
    assert Policy("on-failure").next(0, 1) < 0
    assert Policy("no").next(1, 1) < 0
    policy = Policy("on-failure:2")
    assert [policy.next(1, 1) < 0 for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize(
    ("text", "want"),
    [("TERM", 15), ("SIGKILL", 9), ("hup", 1), ("9", 9), ("RTMIN+3", 37), ("SIGRTMAX-1", 63)],
)
def test_signals(text: str, want: int) -> None:
    assert number_of(text) == want


@pytest.mark.parametrize("text", ["", "NOSUCH", "0", "99", "TERM+x"])
def test_wrong_signals(text: str) -> None:
    with pytest.raises(UsageError):
        number_of(text)


_RAN = State("exited", started=1.0)


@pytest.mark.parametrize(
    ("policy", "state", "want"),
    [
        ("always", _RAN, True),
        ("always", _RAN._replace(stopped=True), True),
        ("unless-stopped", _RAN, True),
        ("unless-stopped", _RAN._replace(stopped=True), False),
        ("on-failure", _RAN._replace(exit_code=137), False),
        ("on-failure:3", _RAN._replace(exit_code=137), False),
        ("no", _RAN, False),
        ("", _RAN, False),
        ("always", State(), False),
        ("always", _RAN._replace(status="running"), False),
        ("unless-stopped", _RAN._replace(status="restarting"), False),
    ],
)
def test_due_after_boot(policy: str, state: State, want: bool) -> None:
    assert due(policy, state) is want
