"""Ways to have Caffe's source tree, in order: a folder the user names, git, Debian's source package."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rootgen import paths, scratch
from rootgen.errors import RootgenError
from rootgen.files import replacing

log = logging.getLogger("rootgen")

COMMIT = "9b891540183ddc834a02b2bd81b31afae71b2153"  # the last of BVLC/caffe's master
REPOSITORY = "https://github.com/BVLC/caffe.git"
DEBIAN_RELEASE = "bullseye"  # the last that has the package
DEBIAN_TARBALL_SHA256 = "e0eb3f06794f7402c77b7dec8e8480273ee1a1bb192e9122b621a69d4147ad0c"
# tree_hash of COMMIT: whatever way a tree came, this says that it is the one the series were made for.
TREE_SHA256 = "e4a9e1b1ab8351ea23d9e6e69588645a26ecf8c11e6e6295dc7c2873f3af567e"

# What a build needs of the tree; the rest (docs, data, models, notebooks) is neither copied nor hashed.
PARTS = ("CMakeLists.txt", "cmake", "examples/images", "include", "python", "src", "tools")
# Left by builds inside the tree; a stale caffe.pb.h would be taken for the new one.
BUILD_PRODUCTS = ("*.o", "*.so", "*.a", "*.pb.h", "*.pb.cc", "*_pb2.py", "*.pyc", "__pycache__", ".build*")


@dataclass(frozen=True)
class SourceTree:
    """A tree to copy and patch, and the SHA-256 of what a build reads of it."""

    path: Path
    sha256: str

    @property
    def pristine(self) -> bool:
        """Whether it is BVLC/caffe at COMMIT, file by file."""
        return self.sha256 == TREE_SHA256


def find_tree(named: Path | None = None) -> SourceTree:
    """The tree to build: `named`, else the one fetched before, else fetched now."""
    if named is not None:
        return _named(named)
    kept = paths.cache("caffe") / f"source-{COMMIT[:9]}"
    if not kept.is_dir():
        _fetch(kept)
    return SourceTree(kept, tree_hash(kept))


def files(tree: Path) -> Iterator[Path]:
    """The files of `tree` that a build reads, relative to it, in a fixed order."""
    for part in PARTS:
        top = tree / part
        found = [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.is_file())
        for path in found:
            relative = path.relative_to(tree)
            if not any(Path(name).match(pattern) for name in relative.parts for pattern in BUILD_PRODUCTS):
                yield relative


def tree_hash(tree: Path) -> str:
    """SHA-256 over the names and contents of `files(tree)`."""
    digest = hashlib.sha256()
    for name in files(tree):
        digest.update(f"{name.as_posix()}\0{_sha256(tree / name)}\n".encode())
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _named(tree: Path) -> SourceTree:
    """The tree the user named, with a warning where it differs from the one the series were made for."""
    if not tree.is_dir():
        raise RootgenError("no such folder", where=tree, hint="--source names the top folder of a Caffe tree")
    if not (tree / "src/caffe/proto/caffe.proto").is_file():
        raise RootgenError("not a Caffe tree: it has no src/caffe/proto/caffe.proto", where=tree)
    source = SourceTree(tree.resolve(), tree_hash(tree))
    if not source.pristine:
        changes = _changes(tree)
        log.warning(
            "warning: %s is not BVLC/caffe %s%s; results may differ from those of the reference",
            tree, COMMIT[:9], f" ({changes})" if changes else "",
        )  # fmt: skip
    return source


def _changes(tree: Path) -> str:
    """What git says of the tree's commit and local changes; empty where it is no clone."""
    head = _run(["git", "-C", str(tree), "rev-parse", "--short=9", "HEAD"]).stdout.strip()
    if not (tree / ".git").exists() or not head:
        return ""
    status = _run(["git", "-C", str(tree), "status", "--porcelain", "--untracked-files=no"]).stdout
    changed = [line[3:] for line in status.splitlines()]
    local = f"{len(changed)} files changed locally: {', '.join(changed[:3])}{', ...' * (len(changed) > 3)}"
    return f"commit {head}{'; ' + local if changed else ''}"


def _fetch(place: Path) -> None:
    """Put the tree into the free folder `place`, by the first way that works; RootgenError names why each failed."""
    failures = []
    for way in (_clone, _debian_source):
        try:
            with replacing(place) as beside:
                way(beside)
                found = tree_hash(beside)
                if found != TREE_SHA256:
                    raise RootgenError(f"the tree's hash is {found[:12]}..., not {TREE_SHA256[:12]}...")
            return
        except RootgenError as error:
            failures.append(str(error))
    raise RootgenError(
        "no Caffe tree: " + "; ".join(failures), hint="name one with --source DIR: a clone of BVLC/caffe"
    )


def _clone(place: Path) -> None:
    """BVLC/caffe at COMMIT by git; gives up within seconds where there is no network."""
    log.info("fetching BVLC/caffe %s by git", COMMIT[:9])
    quick = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    steps: list[tuple[Sequence[str], float]] = [
        (["git", "ls-remote", "--quiet", "--exit-code", REPOSITORY, "HEAD"], 6),
        (["git", "init", "--quiet", str(place)], 6),
        (["git", "-C", str(place), "fetch", "--quiet", "--depth=1", REPOSITORY, COMMIT], 300),
        (["git", "-C", str(place), "checkout", "--quiet", "FETCH_HEAD"], 60),
    ]
    for command, seconds in steps:
        done = _run(command, timeout=seconds, env=quick)
        if done.returncode:
            raise RootgenError(f"git: {_last_line(done.stderr) or 'failed'}")


def _debian_source(place: Path) -> None:
    """The orig tarball of Debian's package, from the mirror of this machine's own apt, which stays as it is."""
    log.info("fetching Debian's source package of Caffe")
    with scratch.folder("rootgen-apt-") as folder:
        failure = "this machine's apt names no Debian mirror"
        for site in _mirrors():
            failure = _apt_source(site, folder)
            if not failure:
                break
        if failure:
            raise RootgenError(f"Debian's source package: {failure}")
        (tarball,) = folder.glob("caffe_*.orig.tar.*")
        found = _sha256(tarball)
        if found != DEBIAN_TARBALL_SHA256:
            raise RootgenError(f"{tarball.name}: sha256 is {found}, not {DEBIAN_TARBALL_SHA256}")
        with tarfile.open(tarball) as archive:
            archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Pythons before 3.11.4 have none
            archive.extractall(place)


def _mirrors() -> list[str]:
    """Addresses of the Debian archives that this machine's apt is set up with."""
    listed = _run(["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]).stdout
    return [site for site in dict.fromkeys(listed.split()) if site.rstrip("/").endswith("/debian")]


def _apt_source(site: str, folder: Path) -> str:
    """Download the package's files from `site` into `folder`, with apt folders of its own; why it failed, or ''."""
    keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    signed = f"[signed-by={keyring}] " if keyring.exists() else ""
    (folder / "lists/partial").mkdir(parents=True, exist_ok=True)
    (folder / "cache/archives/partial").mkdir(parents=True, exist_ok=True)
    (folder / "sources.list").write_text(f"deb-src {signed}{site} {DEBIAN_RELEASE} main\n")
    options = {
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Acquire::Check-Valid-Until": "false",  # bullseye's lists are no longer renewed; the sha256 is what counts
    }
    apt = ["apt-get", "--quiet", *(f"-o{name}={value}" for name, value in options.items())]
    for words in (["update"], ["source", "--download-only", "caffe"]):
        done = _run([*apt, *words], timeout=300, cwd=folder)
        errors = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        if done.returncode or errors:
            return errors[0][3:] if errors else f"apt-get {words[0]} failed"
    return ""


def _run(command: Sequence[str], timeout: float = 60, **options: object) -> subprocess.CompletedProcess[str]:
    """Run `command` quietly; a missing program or a timeout is a failure with its reason on stderr."""
    try:
        return subprocess.run(  # type: ignore[call-overload]
            command, capture_output=True, text=True, check=False, timeout=timeout, stdin=subprocess.DEVNULL, **options
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", f"{command[0]} is not installed")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no answer within {timeout:.0f} s")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
