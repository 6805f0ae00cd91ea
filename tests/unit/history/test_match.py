"""Which step of an earlier build is the same."""

from __future__ import annotations

from buildkit_py.history.match import equal, matches
from buildkit_py.history.record import Step


def steps(build: str, *names: str) -> list[Step]:
    return [Step(f"{build}{n}", name, "ran", op="Exec", stage="0") for n, name in enumerate(names)]


def pairs(new: list[Step], old: list[Step]) -> dict[str, str]:
    names = {step.digest: step.text for step in new}
    return {names[digest]: step.text for digest, step in matches(new, old).items()}


def test_the_same_instructions() -> None:
    new, old = steps("n", "[1/2] RUN a", "[2/2] RUN b"), steps("o", "[1/2] RUN a", "[2/2] RUN b")
    assert pairs(new, old) == {"RUN a": "RUN a", "RUN b": "RUN b"}


def test_one_was_put_in_front() -> None:
    new = steps("n", "[1/3] COPY . /", "[2/3] RUN a", "[3/3] RUN b")
    assert pairs(new, steps("o", "[1/2] RUN a", "[2/2] RUN b")) == {"RUN a": "RUN a", "RUN b": "RUN b"}


def test_a_changed_one_continues_one_of_its_kind() -> None:
    new = steps("n", "[1/3] RUN a", "[2/3] COPY c /", "[3/3] RUN b2")
    old = steps("o", "[1/3] RUN a", "[2/3] RUN b1", "[3/3] RUN z")
    assert pairs(new, old) == {"RUN a": "RUN a", "RUN b2": "RUN b1"}


def test_stages_and_platforms_are_kept_apart() -> None:
    new = steps("n", "[linux/amd64 x 1/1] RUN a", "[linux/arm64 x 1/1] RUN a")
    old = steps("o", "[linux/arm64 x 1/1] RUN a", "[linux/amd64 x 1/1] RUN a")
    assert {k: v.digest for k, v in matches(new, old).items()} == {"n0": "o1", "n1": "o0"}


def test_a_stage_that_was_renamed() -> None:
    new, old = steps("n", "[make 1/2] RUN a", "[make 2/2] RUN new"), steps("o", "[build 1/2] RUN a")
    assert pairs(new, old) == {"RUN a": "RUN a"}


def test_a_base_image_is_the_same_by_its_name() -> None:
    new = [Step("n", "FROM b", "ran", op="ImageSource", image="docker.io/library/b:1@sha256:2")]
    old = [Step("o", "FROM b", "ran", op="ImageSource", image="docker.io/library/b:1@sha256:1")]
    other = [Step("o", "FROM c", "ran", op="ImageSource", image="docker.io/library/c:1@sha256:1")]
    assert list(matches(new, old)) == ["n"]
    assert list(matches(new, other)) == ["n"]  # the place of the one base image


def test_thousands_of_steps() -> None:
    names = [f"[{n}/3000] RUN {n % 7}" for n in range(3000)]
    assert len(matches(steps("n", *names), steps("o", *names))) == 3000


def test_in_another_dockerfile_only_the_same_text_counts() -> None:
    new = steps("n", "[1/2] RUN a", "[2/2] RUN b")
    old = steps("o", "[1/2] RUN a", "[2/2] RUN c")
    assert list(equal(new, old)) == ["n0"]
