"""The images of this store: names, ids and what is known of their layers.

An image is known by the digest of its config (Docker's image id). Documents live in the content store; the
tables here only point at them::

    images        id, the manifest it came with (if it came with one), platform, size, times
    manifests     manifest digest -> image id (several manifests may carry one config)
    names         normalised reference -> an image id, or an index digest for images of several platforms; an
                  index that was built here lists configs, one that came from outside lists manifests
    layer_blobs   diff id -> a compressed blob that is known to hold that layer; the blob itself may be gone
    blob_origins  blob digest -> repositories that were seen to hold it
    repo_digests  repository -> manifest digests that it holds
    annotations   normalised reference and target -> what manifests and indexes of it are annotated with when
                  they are made; of a name that means something else by now they don't count

A document that cannot be read counts as missing, so a damaged or half-pruned image is fetched again.
A crash leaves at most blobs that nothing names; pruning finds them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from buildkit_py.content.store import ContentStore
from buildkit_py.database import Database
from buildkit_py.digest import DiffID, Digest, is_valid
from buildkit_py.errors import NotFoundError, UsageError
from buildkit_py.image import assemble, reference
from buildkit_py.image.assemble import LayerBlob
from buildkit_py.image.reference import Reference
from buildkit_py.oci import documents, media, platform
from buildkit_py.tuples import NamedTuple
from buildkit_py.typed import Any, Literal

_DDL = """
CREATE TABLE IF NOT EXISTS images (
    id TEXT PRIMARY KEY, manifest TEXT, platform TEXT NOT NULL, size INTEGER NOT NULL,
    created REAL NOT NULL, used REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS manifests (digest TEXT PRIMARY KEY, id TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS names (
    name TEXT PRIMARY KEY, target TEXT NOT NULL, kind TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS layer_blobs (
    diff_id TEXT, media_type TEXT, digest TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (diff_id, media_type)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blob_origins (
    digest TEXT, registry TEXT, repository TEXT, PRIMARY KEY (digest, registry, repository)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS repo_digests (
    repository TEXT, manifest TEXT, PRIMARY KEY (repository, manifest)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS annotations (
    name TEXT, target TEXT NOT NULL, place TEXT, platform TEXT, key TEXT, value TEXT NOT NULL,
    PRIMARY KEY (name, place, platform, key)) WITHOUT ROWID
"""
_COLUMNS = "id, manifest, platform, size, created, used"
_TOUCH_AFTER = 3600.0
"""Seconds; the time of last use is no more exact, so that a build that changes nothing writes nothing."""


class Image(NamedTuple):
    id: Digest
    manifest: Digest | None
    """Of the manifest that it came with; None: built here."""
    platform: str
    size: int
    """Bytes: of the layers, compressed where it was pulled, unpacked where it was built here."""
    created: float
    """When it entered the store, seconds since the epoch."""
    config: dict[str, Any]
    names: tuple[str, ...] = ()
    """Normalised references, sorted."""

    @property
    def diff_ids(self) -> list[DiffID]:
        return [DiffID(d) for d in self.config["rootfs"].get("diff_ids") or ()]


class Removed(NamedTuple):
    untagged: tuple[str, ...]
    deleted: tuple[Digest, ...]
    """Image ids."""
    freed: int
    """Bytes of blobs; layers that are unpacked belong to the snapshot store."""


class ImageStore:
    def __init__(self, db: Database, content: ContentStore) -> None:
        self._db = db
        self._content = content
        db.ensure(_DDL)

    def put(self, config: bytes, *, manifest: bytes | None = None, size: int = 0) -> Digest:
        """Add an image by its documents, which were checked before; return its id.

        ``manifest`` is stored as it came. ``size``: bytes of its layers, unless the manifest tells.
        """
        document = documents.config(config)
        target = str(_platform_of(document))
        image_id = self._content.write(config)
        digest: Digest | None = None
        if manifest is not None:
            digest = self._content.write(manifest)
            size = sum(layer["size"] for layer in documents.manifest(manifest)["layers"] or ())
        if digest is None and self._db.one("SELECT 1 FROM images WHERE id = ?", (image_id,)):
            return image_id
        now = time.time()
        with self._db.transaction():
            self._db.run(
                "INSERT INTO images VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
                " SET used = excluded.used, manifest = coalesce(manifest, excluded.manifest)",
                (image_id, digest, target, size, now, now),
            )
            if digest is not None:
                self._db.run("INSERT OR REPLACE INTO manifests VALUES (?, ?)", (digest, image_id))
        return image_id

    def tag(self, name: str, target: Digest, kind: Literal["image", "index"] = "image") -> str:
        """Let a name mean an image id or an index digest from now on; return the normalised name."""
        full = str(reference.parse(name))
        if self._db.one("SELECT target, kind FROM names WHERE name = ?", (full,)) != (target, kind):
            self._db.run("INSERT OR REPLACE INTO names VALUES (?, ?, ?)", (full, target, kind))
        return full

    def meaning(self, name: str) -> tuple[Digest, Literal["image", "index"]] | None:
        """What a normalised name means: an image id or the digest of an index."""
        row = self._db.one("SELECT target, kind FROM names WHERE name = ?", (name,))
        return None if row is None else (row[0], row[1])

    def put_index(self, images: Sequence[Image]) -> Digest:
        """Store an index over images of several platforms, for a name to mean; return its digest.

        It lists their configs, as their manifests are made when layers leave the store.
        """
        listed: list[documents.DescriptorDict] = []
        for image in images:
            size = len(self._content.read(image.id))
            entry = assemble.descriptor(media.OCI_CONFIG, image.id, size)
            entry["platform"] = documents.platform_of(image.config)
            listed.append(entry)
        return self._content.write(assemble.index_bytes(listed))

    def retag(self, source: str, name: str) -> str:
        """Let a name mean what ``source`` means: all platforms of another name, or the image of an id.

        Returns the normalised name. Raises NotFoundError, UsageError.
        """
        if reference.parse(name).digest:
            raise UsageError(f"cannot tag as {name}: a digest is not for choosing", hint="name it by a tag")
        known = self._stored_name(source)
        row = self._db.one("SELECT target, kind FROM names WHERE name = ?", (known,)) if known else None
        if row is None:
            return self.tag(name, self.find(source).id)
        full = self.tag(name, *row)
        self.annotate(full, self.annotations(source))
        return full

    def annotate(self, name: str, annotations: Sequence[tuple[str, str, str, str]]) -> None:
        """Note what the manifests that are made for a (normalised) name are annotated with: (place, platform,
        key, value), instead of what was noted before."""
        if not annotations and self._db.one("SELECT 1 FROM annotations WHERE name = ?", (name,)) is None:
            return
        with self._db.transaction():
            self._db.run("DELETE FROM annotations WHERE name = ?", (name,))
            for annotation in annotations:
                self._db.run(
                    "INSERT OR REPLACE INTO annotations SELECT name, target, ?, ?, ?, ? FROM names"
                    " WHERE name = ?",
                    (*annotation, name),
                )

    def annotations(self, text: str) -> list[tuple[str, str, str, str]]:
        """What annotate() noted for what a reference means now."""
        name = self._stored_name(text)
        rows = self._db.all(
            "SELECT place, platform, key, value FROM annotations JOIN names USING (name, target)"
            " WHERE name = ? ORDER BY platform, place, key",
            (name,),
        )
        return [(place, platform, key, value) for place, platform, key, value in rows]

    def means_own_index(self, text: str) -> bool:
        """Whether a reference means an index that was built here, though it may list one platform alone."""
        name = self._stored_name(text)
        row = self._db.one("SELECT target FROM names WHERE name = ? AND kind = 'index'", (name,))
        entries = self.index_entries(Digest(row[0])) if row else []
        return any(entry["mediaType"] == media.OCI_CONFIG for entry in entries)

    def platforms(self, text: str) -> list[Image]:
        """What a reference means for all platforms that are here, in the index's order.

        One image where it means no index. Raises NotFoundError, UsageError.
        """
        known = self._stored_name(text)
        row = self._db.one("SELECT target, kind FROM names WHERE name = ?", (known,)) if known else None
        if row is None or row[1] != "index":
            return [self.find(text)]
        found = (self.by_any_digest(Digest(e["digest"])) for e in self.index_entries(Digest(row[0])))
        here = [image._replace(names=self._names_of(image.id)) for image in found if image is not None]
        return here or [self.find(text)]

    def lookup(self, ref: Reference, wanted: str = "") -> Image | None:
        """The image that a reference means for a platform (default: any, or this machine's out of an
        index), or None: the hot path, two queries and one or two small files."""
        if ref.digest:
            return self._pinned(Digest(ref.digest), wanted)
        row = self._db.one("SELECT target, kind FROM names WHERE name = ?", (str(ref),))
        if row is None:
            return None
        return self._of_index(row[0], wanted) if row[1] == "index" else self._fitting(row[0], wanted)

    def find(self, text: str, wanted: str = "") -> Image:
        """An image by reference, id or unambiguous beginning of an id. Raises NotFoundError, UsageError."""
        image = self.match(text, wanted)
        if image is None:
            raise NotFoundError(f"no such image: {text}", hint="`pybuild images` lists what is here")
        return image._replace(names=self._names_of(image.id))

    def is_target(self, name: str, image: Image, digest: Digest) -> bool:
        """Whether a registry that names this digest for a tag means what the store has under the name."""
        row = self._db.one("SELECT target, kind FROM names WHERE name = ?", (name,))
        if row is None:
            return False
        return digest == row[0] if row[1] == "index" else digest == image.manifest

    def by_id(self, image_id: Digest) -> Image | None:
        row = self._db.one(f"SELECT {_COLUMNS} FROM images WHERE id = ?", (image_id,))
        return None if row is None else self._load(row)

    def by_manifest(self, digest: Digest) -> Image | None:
        """The image that came with this manifest."""
        row = self._db.one("SELECT id FROM manifests WHERE digest = ?", (digest,))
        if row is None or not self._content.has(digest):
            return None
        image = self.by_id(row[0])
        return None if image is None else image._replace(manifest=digest)

    def by_any_digest(self, digest: Digest) -> Image | None:
        """By manifest digest or image id: what ResolvedImage.digest holds."""
        return self.by_manifest(digest) or self.by_id(digest)

    def manifest(self, image: Image) -> documents.ManifestDict | None:
        """The manifest that an image came with; None where it was built here."""
        if image.manifest is None:
            return None
        return documents.manifest(self._content.read(image.manifest))

    def images(self) -> list[Image]:
        """Every image, newest first, with its names."""
        names = self._all_names()
        rows = self._db.all(f"SELECT {_COLUMNS} FROM images ORDER BY created DESC, id")
        images = (self._load(row, touch=False) for row in rows)
        return [i._replace(names=tuple(sorted(names.get(i.id, ())))) for i in images if i is not None]

    def remove(self, text: str, *, force: bool = False) -> Removed:
        """Take a name away, and the image with its last name (as ``docker rmi``).

        By id: only where it has one name at most, unless ``force``. Raises NotFoundError, UsageError.
        """
        name = self._stored_name(text)
        if name is not None:
            return self._untag((name,))
        image = self.find(text)
        if len(image.names) > 1 and not force:
            raise UsageError(
                f"image {text} has {len(image.names)} names: {', '.join(image.names)}",
                hint="remove it by one of its names, or use --force",
            )
        return self._untag(image.names, (image.id,))

    def dangling_names(self) -> list[tuple[str, str]]:
        """(name, image id or index digest) of names that lead to nothing that is here."""
        here = {str(image.id) for image in self.images()}
        found = []
        for name, target, kind in self._db.all("SELECT name, target, kind FROM names ORDER BY name"):
            if target not in here if kind == "image" else not self._content.has(Digest(target)):
                found.append((name, target))
        return found

    def drop_name(self, name: str) -> None:
        """Take a name away as it stands in the table, whatever it means."""
        self._db.run("DELETE FROM names WHERE name = ?", (name,))

    def layer_blob(self, diff_id: DiffID, media_types: tuple[str, ...]) -> LayerBlob | None:
        """The blob known to hold a layer, by preference of OCI layer type."""
        for media_type in media_types:
            row = self._db.one(
                "SELECT digest, size FROM layer_blobs WHERE diff_id = ? AND media_type = ?",
                (diff_id, media_type),
            )
            if row is not None:
                return LayerBlob(media_type, Digest(row[0]), row[1])
        return None

    def remember_blob(self, diff_id: DiffID, blob: LayerBlob) -> None:
        """Note a blob whose content was seen to be this layer, never on somebody's word alone."""
        self._db.run("INSERT OR REPLACE INTO layer_blobs VALUES (?, ?, ?, ?)", (diff_id, *blob))

    def origins(self, digest: Digest) -> list[tuple[str, str]]:
        """(registry, repository) that were seen to hold a blob."""
        rows = self._db.all("SELECT registry, repository FROM blob_origins WHERE digest = ?", (digest,))
        return [(row[0], row[1]) for row in rows]

    def remember_origin(self, digest: Digest, registry: str, repository: str) -> None:
        self._db.run("INSERT OR IGNORE INTO blob_origins VALUES (?, ?, ?)", (digest, registry, repository))

    def forget_origin(self, digest: Digest, registry: str, repository: str) -> None:
        self._db.run(
            "DELETE FROM blob_origins WHERE digest = ? AND registry = ? AND repository = ?",
            (digest, registry, repository),
        )

    def remember_repo_digest(self, name: str, manifest: Digest, image_id: Digest) -> None:
        """Note that a repository (``Reference.name``) holds an image under this manifest."""
        with self._db.transaction():
            self._db.run("INSERT OR IGNORE INTO repo_digests VALUES (?, ?)", (name, manifest))
            self._db.run("INSERT OR IGNORE INTO manifests VALUES (?, ?)", (manifest, image_id))

    def repo_digests(self, image_id: Digest) -> list[str]:
        """``repository@digest`` for each place that is known to hold the image."""
        rows = self._db.all(
            "SELECT repository, manifest FROM repo_digests JOIN manifests ON digest = manifest"
            " WHERE id = ? ORDER BY 1, 2",
            (image_id,),
        )
        return [f"{repository}@{manifest}" for repository, manifest in rows]

    def referenced(self) -> set[Digest]:
        """Every blob that an image or a name needs: configs, manifests, indexes, layers."""
        found: set[Digest] = set()
        for (index,) in self._db.all("SELECT target FROM names WHERE kind = 'index'"):
            found.add(Digest(index))
        for (image_id,) in self._db.all("SELECT id FROM images"):
            found.update(self._blobs_of(Digest(image_id)))
        return found

    def match(self, text: str, wanted: str = "", least: int = 1) -> Image | None:
        """As find(), but None where there is no such image; names are not filled in. The beginning of an
        id is one from ``least`` digits on."""
        if is_valid(text):
            return self.by_any_digest(Digest(text))
        try:
            ref = reference.parse(text)
        except UsageError:
            if not reference.is_hex_id(text):
                raise
            return self.by_id(Digest("sha256:" + text))
        return self.lookup(ref, wanted) or self._by_prefix(text, least)

    def _by_prefix(self, text: str, least: int) -> Image | None:
        prefix = text.removeprefix("sha256:")
        if len(prefix) < least or not all(c in "0123456789abcdef" for c in prefix):
            return None
        rows = self._db.all(
            f"SELECT {_COLUMNS} FROM images WHERE id >= ? AND id < ? LIMIT 2",
            (f"sha256:{prefix}", f"sha256:{prefix}g"),
        )
        if len(rows) > 1:
            raise UsageError(f"several image ids begin with {text}", hint="give more digits")
        return self._load(rows[0]) if rows else None

    def _pinned(self, digest: Digest, wanted: str) -> Image | None:
        image = self.by_manifest(digest)
        if image is not None:
            return image if _fits(image, wanted) else None
        return self._of_index(digest, wanted) if self._content.has(digest) else None

    def _of_index(self, digest: str, wanted: str) -> Image | None:
        entries = self.index_entries(Digest(digest))
        entry = documents.select(entries, platform.parse(wanted) if wanted else platform.host())
        image = None if entry is None else self.by_any_digest(Digest(entry["digest"]))
        if image is None and not wanted:
            # Nothing for this machine: what is here says so better than "no such image".
            found = (self.by_any_digest(Digest(other["digest"])) for other in entries)
            image = next((other for other in found if other is not None), None)
        return image

    def index_entries(self, digest: Digest) -> list[documents.DescriptorDict]:
        """The manifests of a stored index; none where the blob is missing or no index."""
        try:
            document: dict[str, Any] = documents.config(self._content.read(digest))
        except (NotFoundError, ValueError):
            return []
        return document.get("manifests") or []

    def _fitting(self, image_id: str, wanted: str) -> Image | None:
        image = self.by_id(Digest(image_id))
        return image if image is not None and _fits(image, wanted) else None

    def _load(self, row: tuple[Any, ...], *, touch: bool = True) -> Image | None:
        try:
            config = documents.config(self._content.read(Digest(row[0])))
        except NotFoundError:
            return None
        now = time.time()
        if touch and now - row[5] > _TOUCH_AFTER:
            self._db.run("UPDATE images SET used = ? WHERE id = ?", (now, row[0]))
        return Image(Digest(row[0]), row[1], row[2], row[3], row[4], config)

    def _stored_name(self, text: str) -> str | None:
        try:
            name = str(reference.parse(text))
        except UsageError:
            return None
        return name if self._db.one("SELECT 1 FROM names WHERE name = ?", (name,)) else None

    def _all_names(self) -> dict[str, list[str]]:
        """Image id -> names, through indexes too."""
        names: dict[str, list[str]] = {}
        here = {image_id for (image_id,) in self._db.all("SELECT id FROM images")}
        of_manifest: dict[str, str] = dict(self._db.all("SELECT digest, id FROM manifests"))
        for name, target, kind in self._db.all("SELECT name, target, kind FROM names"):
            if kind == "index":
                digests = [entry["digest"] for entry in self.index_entries(Digest(target))]
                ids = {of_manifest.get(d, d) for d in digests} & here
            else:
                ids = {target}
            for image_id in ids:
                names.setdefault(image_id, []).append(name)
        return names

    def _names_of(self, image_id: Digest) -> tuple[str, ...]:
        rows = self._db.all("SELECT name FROM names WHERE target = ?", (image_id,))
        names = {name for (name,) in rows}
        indexes = self._db.all("SELECT name, target FROM names WHERE kind = 'index'")
        if indexes:
            manifests = self._db.all("SELECT digest FROM manifests WHERE id = ?", (image_id,))
            own = {image_id, *(Digest(digest) for (digest,) in manifests)}
            for name, target in indexes:
                if any(entry["digest"] in own for entry in self.index_entries(Digest(target))):
                    names.add(name)
        return tuple(sorted(names))

    def _untag(self, names: tuple[str, ...], ids: tuple[Digest, ...] = ()) -> Removed:
        """Drop names, then the given images and those that lost their last name."""
        before = self._all_names()
        affected = {Digest(i) for i, known in before.items() if set(known) & set(names)}
        indexes = {
            Digest(row[0])
            for name in names
            for row in self._db.all("SELECT target FROM names WHERE name = ? AND kind = 'index'", (name,))
        }
        with self._db.transaction():
            for name in names:
                self._db.run("DELETE FROM names WHERE name = ?", (name,))
                self._db.run("DELETE FROM annotations WHERE name = ?", (name,))
            left = self._all_names()
            dead = [i for i in sorted(affected | set(ids)) if i in ids or not left.get(i)]
            blobs = indexes.union(*(self._blobs_of(i) for i in dead))
            for image_id in dead:
                self._db.run(
                    "DELETE FROM repo_digests WHERE manifest IN (SELECT digest FROM manifests WHERE id = ?)",
                    (image_id,),
                )
                self._db.run("DELETE FROM manifests WHERE id = ?", (image_id,))
                self._db.run("DELETE FROM images WHERE id = ?", (image_id,))
            unused = blobs - self.referenced()
        freed = sum(self._content.delete(digest) for digest in sorted(unused))
        return Removed(names, tuple(dead), freed)

    def _blobs_of(self, image_id: Digest) -> set[Digest]:
        return {image_id, *self._documents_of(image_id)}

    def _documents_of(self, image_id: Digest) -> Iterator[Digest]:
        """Its manifests and its layers' blobs: those of the manifests, and those known for the diff ids."""
        image = self.by_id(image_id)
        for diff_id in image.diff_ids if image is not None else ():
            for (digest,) in self._db.all("SELECT digest FROM layer_blobs WHERE diff_id = ?", (diff_id,)):
                yield Digest(digest)
        for (manifest,) in self._db.all("SELECT digest FROM manifests WHERE id = ?", (image_id,)):
            yield Digest(manifest)
            try:
                document = documents.manifest(self._content.read(Digest(manifest)))
            except NotFoundError:
                continue
            # What was pushed as an index is remembered by the index, which has none.
            yield from (Digest(layer["digest"]) for layer in document.get("layers") or ())


def _platform_of(config: dict[str, Any]) -> platform.Platform:
    return platform.normalised(
        config.get("os") or "linux", config.get("architecture") or "", config.get("variant") or ""
    )


def _fits(image: Image, wanted: str) -> bool:
    if not wanted or wanted == image.platform:
        return True
    return platform.matches(platform.parse(wanted), platform.parse(image.platform))
