"""Golden folders of the Dockerfile language: a Dockerfile and what a build of it must give.

``expected.json`` holds

    rule      what the folder shows, in a sentence
    context   the build context's files, one line each as in tests.support.filetree
    archives  further files that are archives: name -> {"form": tar, gz, bz2, xz or zst, "members": lines}
              ("cut": as many bytes of it)
    file      "" where the Dockerfile stands in the context (default), else its path beside it
    identities  who can build it (default: all; with a single id the kernel has no supplementary groups)
    builds    one or several builds of the same context in one store:
        options   of ``pybuild build``; env: variables of the command
        write     files that are written into the context before: path -> content
        base      the image that config and tree are compared with ("": none)
        config    fields of the image config that differ from the base's (null: gone)
        document  top-level fields of the config document that are to be looked at
        history   created_by of this build's entries, "(empty) " before those without a layer
        tree      what the base has not, has otherwise, or (``-``) has and this image has not
        kind      of output, docker without it; further attributes may follow: docker,a=b
        times     true: the tree's lines show times
        cached    steps that must come from the cache, by their names without ``[2/4]``; ran: not so
        log       texts that progress must show; silent: texts that must not appear anywhere
        warnings  [rule, line] of the checks' findings
        error     message (``…`` at its end: and so on), first and last line, column of the caret, and
                  path where that is not Dockerfile
        stdout    texts that stdout must hold; status: the exit status where it is not that of a build

PYBUILD_GOLDEN=write with tests/integration/test_language.py fills in what a build gives now; read it before
you commit it.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import shutil
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import zstandard

from tests.support import filetree, trees
from tests.support.people import KINDS
from tests.support.program import REPOSITORY
from tests.support.runner import Pybuild, Result

FOLDER = REPOSITORY / "tests" / "fixtures" / "language"
_PACK: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "gz": lambda data: gzip.compress(data, mtime=0),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: zstandard.ZstdCompressor().compress(data),
}
_TYPES = {"d": tarfile.DIRTYPE, "f": tarfile.REGTYPE, "l": tarfile.SYMTYPE, "h": tarfile.LNKTYPE}
_SHOWN = 4096
"""Bytes of a file that are shown; of a longer one the size."""

Json = dict[str, Any]


def folders(identity: str = "") -> list[str]:
    """The folders' names; of those that ``identity`` can build where that is given."""
    names = sorted(p.name for p in FOLDER.iterdir())
    return [n for n in names if not identity or identity in load(n).get("identities", KINDS)]


def load(name: str) -> Json:
    loaded: Json = json.loads((FOLDER / name / "expected.json").read_text())
    return loaded


def save(name: str, case: Json) -> None:
    text = json.dumps(case, indent=1, ensure_ascii=False)
    (FOLDER / name / "expected.json").write_text(text + "\n")


def plant(name: str, case: Json, place: Path) -> Path:
    """The build context of a folder."""
    shutil.rmtree(place, ignore_errors=True)
    filetree.plant(place, case.get("context", ()))
    for file, archive in case.get("archives", {}).items():
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        data = _PACK[archive["form"]](_tar(archive["members"]))
        (place / file).write_bytes(data[: archive.get("cut")])
    dockerfile = place / case.get("file", "Dockerfile")
    if case.get("file") != "":
        dockerfile.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(FOLDER / name / "Dockerfile", dockerfile)
    return place


def _tar(lines: list[str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for text in lines:
            line = filetree.parse(text)
            info = tarfile.TarInfo(line.path)
            info.type, info.mode, info.uid, info.gid = _TYPES[line.kind], line.mode, line.uid, line.gid
            info.mtime = line.time_ns / 10**9 if line.time_ns % 10**9 else line.time_ns // 10**9
            data = line.rest.removeprefix("| ").encode() if line.kind == "f" else b""
            info.size = len(data)
            if line.kind in "lh":
                info.linkname = line.rest[3:] if line.kind == "l" else line.rest[2:]
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


class Observed:
    """What one build gave: an exit status, what it printed, and the image where there is one."""

    def __init__(self, result: Result, archive: Path, base: trees.Image | None) -> None:
        self.result = result
        self.image: trees.Image | None = None
        self.base = base
        self.texts: Mapping[str, str] = {}
        if archive.exists():
            self.image = trees.read_archive(archive)
            self.texts = _texts(archive)
            if base is not None and not _stands_on(self.image, base):
                self.base = None

    @property
    def config(self) -> Json:
        assert self.image is not None
        now: Json = self.image.config.get("config", {})
        before: Json = self.base.config.get("config", {}) if self.base else {}
        return {key: now.get(key) for key in sorted({*now, *before}) if now.get(key) != before.get(key)}

    @property
    def history(self) -> list[str]:
        assert self.image is not None
        skip = len(self.base.config.get("history", ())) if self.base else 0
        return [
            ("(empty) " if entry.get("empty_layer") else "") + entry["created_by"]
            for entry in self.image.config["history"][skip:]
        ]

    def tree(self, times: bool) -> list[str]:
        assert self.image is not None
        before = self.base.tree if self.base else {}
        lines = []
        for path, entry in sorted(self.image.tree.items()):
            old = before.get(path)
            if path != "/" and (old is None or old.without_times() != entry.without_times()):
                lines.append(self._line(path, entry, times))
        return lines + [f"- {path}" for path in sorted(before) if path not in self.image.tree]

    def _line(self, path: str, entry: trees.Entry, times: bool) -> str:
        kind = "f" if entry.kind == "-" else entry.kind
        text = f"{kind} {entry.mode:o} {entry.uid}:{entry.gid} {path}"
        if times:
            text += f" @{entry.mtime:.9f}".rstrip("0").rstrip(".")
        text += "".join(f" {{{name}={value}}}" for name, value in entry.xattrs)
        if entry.kind == "l":
            return f"{text} -> {entry.target}"
        if kind != "f" or not entry.size:
            return text
        content = self.texts.get(entry.sha256)
        return f"{text} ({entry.size} bytes)" if content is None else f"{text} | {content}"

    def ended(self, step: str) -> str:
        """CACHED, DONE or ERROR; "" where there was no such step."""
        number = re.search(rf"^(#\d+) \[[^]]*\] {re.escape(step)}$", self.result.stderr, re.MULTILINE)
        if number is None:
            return ""
        found = re.search(rf"^{number[1]} (CACHED|DONE|ERROR)", self.result.stderr, re.MULTILINE)
        return found[1] if found else ""

    @property
    def warnings(self) -> list[list[Any]]:
        found = re.findall(r"^ - (\w+): .* \(line (\d+)\)$", self.result.stderr, re.MULTILINE)
        return [[rule, int(line)] for rule, line in found]

    @property
    def error(self) -> Json:
        text = self.result.stderr
        message = re.findall(r"^ERROR: (.*)$", text, re.MULTILINE)
        marked = [int(n) for n in re.findall(r"^ *(\d+) \| >>>", text, re.MULTILINE)]
        caret = re.search(r"^     \| ( *)\^$", text, re.MULTILINE)
        column = len(caret[1]) - 3 if caret else 0
        found: Json = {"message": message[-1] if message else ""}
        file = re.search(r"^(\S+):\d+\n-{20}$", text, re.MULTILINE)
        if file and file[1] != "Dockerfile":
            found["path"] = file[1]
        if marked:
            found["lines"] = [marked[0], marked[-1]]
        if column:
            found["column"] = column
        return found


def _stands_on(image: trees.Image, base: trees.Image) -> bool:
    layers = base.config["rootfs"]["diff_ids"]
    return bool(image.config["rootfs"]["diff_ids"][: len(layers)] == layers)


def _texts(archive: Path) -> dict[str, str]:
    """Content of small files by digest."""
    import hashlib

    found = {}
    with tarfile.open(archive) as outer:
        for blob in outer:
            file = outer.extractfile(blob) if blob.isreg() and blob.size > 0 else None
            data = trees.uncompressed(file.read()) if file else b""
            if data[257:262] != b"ustar":
                continue
            with tarfile.open(fileobj=io.BytesIO(data)) as layer:
                for member in layer:
                    inner = layer.extractfile(member) if member.isreg() and member.size <= _SHOWN else None
                    if inner:
                        content = inner.read()
                        found[hashlib.sha256(content).hexdigest()] = content.decode("utf-8", "replace")
    return found


def build(pybuild: Pybuild, case: Json, wanted: Json, place: Path, base: trees.Image | None) -> Observed:
    """One build of a planted context."""
    for path, content in wanted.get("write", {}).items():
        (place / path).write_text(content)
    pybuild.person.own(place)
    archive = pybuild.out / "image.tar"
    archive.unlink(missing_ok=True)
    options = [word.replace("CONTEXT", str(place)) for word in wanted.get("options", ())]
    asks = any(word.startswith(("--check", "--call")) for word in options)
    kind = "type=" + wanted.get("kind", "docker")
    output = [] if asks else ["-o", f"{kind},dest={archive}", "--progress=plain"]
    words = ["build", *output, *options, place]
    env = {name: value.replace("CONTEXT", str(place)) for name, value in wanted.get("env", {}).items()}
    result = pybuild(*words, status=None, env={"NO_COLOR": "1", **env})
    return Observed(result, archive, base)


def fill(wanted: Json, seen: Observed) -> None:
    """Replace a build's expectations with what was seen."""
    ended = wanted.get("error", {}).get("message", "")
    for key in ("config", "history", "tree", "error", "warnings"):
        wanted.pop(key, None)
    if seen.image is None:
        if seen.result.status and "status" not in wanted:
            wanted["error"] = seen.error
            if seen.result.status != 1:
                wanted["status"] = seen.result.status
            if ended.endswith("…") and seen.error["message"].startswith(ended[:-1]):
                wanted["error"]["message"] = ended
        return
    wanted["config"] = seen.config
    wanted["history"] = seen.history
    wanted["tree"] = seen.tree(wanted.get("times", False))
    if seen.warnings:
        wanted["warnings"] = seen.warnings
    if "document" in wanted:
        wanted["document"] = {key: seen.image.config.get(key) for key in wanted["document"]}
