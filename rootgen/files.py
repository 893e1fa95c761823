"""Files that are whole or absent (written beside their place, then renamed), read within bounds, and named safely."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import select
import stat
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path

from rootgen import scratch
from rootgen.errors import RootgenError, printable

log = logging.getLogger("rootgen")

MAX_BYTES = 2**31 - 1  # what protobuf takes, and more than any other file that is read whole
MAX_NAME = 255  # bytes of a file's name, on every file system in use
PIPE_WAIT_S = 5  # for somebody to open the other end of a pipe
_ROOM = len(".previous.csv")  # that a suffix may take of a name made here


def read_bytes(path: str | Path, *, most: int = MAX_BYTES, pipes: bool = False) -> bytes:
    """Content of the file `path`, of at most `most` bytes; RootgenError where it cannot be read or is larger.

    `pipes` lets pipes and terminals pass, for what a command line names; elsewhere a file is a regular file, and
    nothing waits for what may never come.
    """
    try:
        descriptor = os.open(Path(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123
            facts = os.fstat(descriptor)
            if stat.S_ISREG(facts.st_mode):
                _refuse_large(path, facts.st_size, most)
                return file.readall()
            if not (pipes and (stat.S_ISFIFO(facts.st_mode) or stat.S_ISCHR(facts.st_mode))):
                _refuse_kind(path, facts.st_mode)
            content = b""
            while chunk := _more(descriptor, path, not content):
                content += chunk
                _refuse_large(path, len(content), most)
            return content
    except OSError as error:
        raise RootgenError(f"cannot read: {error.strerror}", where=path) from error
    except ValueError:  # a zero byte, or half of a surrogate pair
        raise RootgenError("is no name that a file can have", where=path) from None
    except MemoryError:
        raise RootgenError("does not fit into memory", where=path) from None


def check_regular(path: str | Path) -> None:
    """Refuse what is there and is no regular file, before something opens it that would wait: HDF5, LMDB, Caffe."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except OSError:
        return  # whoever opens it says what is wrong
    if not stat.S_ISREG(mode):
        _refuse_kind(path, mode)


def _refuse_kind(path: str | Path, mode: int) -> None:
    kinds = ((stat.S_ISDIR, "directory"), (stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"))
    kind = next((word for test, word in kinds if test(mode)), "device")
    raise RootgenError(f"cannot read: Is a {kind}", where=path)


def _refuse_large(path: str | Path, size: int, most: int) -> None:
    if size > most:
        found = f"{size / 2**20:.0f} MiB" if size < 2**40 else f"{size / 2**40:.0f} TiB"
        raise RootgenError(f"{found} are too large for such a file (at most {most / 2**20:.0f} MiB)", where=path)


def _more(descriptor: int, path: str | Path, first: bool) -> bytes:
    """The next bytes of a file or of a pipe that does not block; b"" at its end.

    RootgenError where a pipe has nobody who writes to it.
    """
    give_up = time.monotonic() + PIPE_WAIT_S
    while True:
        try:
            chunk = os.read(descriptor, 2**20)
        except BlockingIOError:  # somebody is about to write
            select.select([descriptor], [], [])
            continue
        if chunk or not first or not stat.S_ISFIFO(os.fstat(descriptor).st_mode) or _hung_up(descriptor):
            return chunk
        if time.monotonic() > give_up:
            raise RootgenError("a pipe that nobody writes to", where=path)
        time.sleep(0.02)


def _hung_up(descriptor: int) -> bool:
    """Whether a pipe had a writer, who is gone."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


def safe_name(name: str, taken: Container[str] = ()) -> str:
    """A file's name made of `name`, whatever that holds: itself where it is one already.

    It has no separators and no control characters, begins with no dot and no dash, and is neither empty nor too
    long for a suffix. Where it had to be cut, or `taken` has it already, digits of the name's hash tell it apart.
    """
    good = printable(name.encode("utf-8", "backslashreplace").decode()).replace("/", "_").replace("\\", "_")
    if good.startswith((".", "-")) or not good:
        good = f"_{good.lstrip('.-')}"
    room = MAX_NAME - _ROOM - 9
    short = good.encode()[:room].decode(errors="ignore")
    if short == good and short not in taken:
        return short
    digits = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{short}-{digits[:8]}"


def inside(folder: Path, name: str) -> Path:
    """The path of `name`, which safe_name made, in `folder`; RootgenError where it would lie anywhere else."""
    path = folder / name
    if os.path.realpath(path.parent) != os.path.realpath(folder) or path.name in ("", ".."):
        raise RootgenError(f"'{name}' would be written outside", where=folder)
    return path


def write_text(path: str | Path, text: str, *, durable: bool = True) -> None:
    """Put `text` (UTF-8; lone surrogates are the bytes they stand for) into the file `path`; see `replacing`."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"), durable=durable)


def write_bytes(path: str | Path, content: bytes, *, durable: bool = True) -> None:
    """Put `content` into the file `path`, whole or not at all; see `replacing`."""
    with replacing(path, durable=durable) as beside:
        beside.write_bytes(content)


@contextmanager
def replacing(path: str | Path, *, durable: bool = True, over: bool = False) -> Iterator[Path]:
    """A path beside `path` to write a file or make a folder at; it takes `path`'s place if the block ends well.

    A file replaces what was there, a symbolic link stays and its target is replaced. A folder only takes a place
    that is free or an empty folder, or with `over` that of a full one, which goes when the new one is there. On any
    error, Ctrl-C included, what was begun is removed and `path` is as it was.
    That holds for a machine that loses power, too: the content is on the disk before it has the name, and the name
    before this returns. Not `durable`: for what is quickly made again, that wait is left out.
    """
    path = Path(path)
    if is_stream(path):
        with told(path):
            yield path
        return
    path = Path(os.path.realpath(path))
    made = [folder for folder in path.parents if not folder.exists()]
    holder = _holder(path)
    try:
        beside = holder.path / path.name
        with told(path):
            yield beside
            if beside.is_file():
                _keep_mode(path, beside)
            if durable:
                _sync_all(beside)
            _put(beside, path, holder.path / scratch.KEPT if over else None)
            for folder in (path.parent, *(folder.parent for folder in made)) if durable else ():
                sync(folder)
    finally:
        holder.remove()


def _put(new: Path, path: Path, aside: Path | None) -> None:
    """Rename `new` to `path`; a folder that is there goes `aside` for it, and comes back where that fails."""
    try:
        if aside is not None and path.is_dir():
            path.rename(aside)
        new.replace(path)
    except BaseException:
        if aside is not None and aside.is_dir() and not path.exists():
            aside.rename(path)
        raise


def sync(path: Path) -> None:
    """Wait until the file or folder `path` is on the disk; a file system that cannot say so is let pass."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:  # a folder that may be written to and not be read
        return
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(file)


def check_writable(path: str | Path) -> None:
    """Refuse a file `path` that `replacing` could not write, before the long work it waits for; its folder is made."""
    if Path(path).is_dir():
        raise RootgenError(f"cannot write: {os.strerror(errno.EISDIR)}", where=path, hint="choose another place")
    if not is_stream(Path(path)):
        _holder(Path(os.path.realpath(path))).remove()


def is_stream(path: Path) -> bool:
    """Whether `path` is /dev/null, /dev/full, a terminal or a pipe: nothing to rename, or to rename over."""
    return path.is_char_device() or path.is_fifo()


def check_name(name: str, where: object) -> None:
    """Refuse a name with a zero byte, which prototxt can hold and the operating system cannot."""
    if "\0" in name:
        raise RootgenError(f"'{name}' holds a zero byte, which no file's name can", where=where)


def locate(name: str, beside: Path | None, where: object = None) -> Path:
    """The file or folder `name`: under the current folder as in Caffe, else under `beside`.

    A name such as "nets/small/net.prototxt" is also found in a `beside` that is itself some folder's nets/small.
    Says so where it is not the current folder's; where it is nowhere, the path that Caffe would take. RootgenError
    at `where`, the layer or solver that names it, for what no file can be named.
    """
    check_name(name, where)
    path = Path(name)
    if path.is_absolute() or path.exists() or beside is None or not name:
        return path
    here = beside.resolve()
    for folder in (here, *here.parents):
        other = folder / name
        if here in (folder, other.parent) and other.exists():
            log.info("'%s' is not in the current folder; taking %s", name, other)
            return other
    return path


def _holder(path: Path) -> scratch.Folder:
    """A new folder beside `path`, where what takes its place is made."""
    with told(path):
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise RootgenError("is a socket or a device, and is not replaced", where=path, hint="choose another place")
        path.parent.mkdir(parents=True, exist_ok=True)
        return scratch.Folder(*_around(path), path.parent)


def _around(path: Path) -> tuple[str, str]:
    """Prefix and suffix of the names of folders beside `path` that hold what takes its place: also no more than 255."""
    return f".{os.fsdecode(os.fsencode(path.name)[:200])}.", ".partial"


def _sync_all(path: Path) -> None:
    """`sync` a file, or a folder with all that it holds."""
    for folder, _, names in os.walk(path):
        for name in names:
            if not Path(folder, name).is_symlink():
                sync(Path(folder, name))
        sync(Path(folder))
    if path.is_file():
        sync(path)


def _keep_mode(path: Path, beside: Path) -> None:
    """Give `beside` the permissions that `path` has now, so that replacing a file does not change them."""
    if path.exists():
        beside.chmod(path.stat().st_mode & 0o7777)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals (no room, no permission) into one clear line."""
    try:
        yield
    except OSError as error:
        if isinstance(error, ConnectionError) or error.strerror is None:
            raise
        reason = os.strerror(error.errno) if error.errno else error.strerror  # HDF5's own is a paragraph
        hint = "free some room" if error.errno == errno.ENOSPC else "choose another place"
        raise RootgenError(f"cannot write: {reason}", where=path, hint=hint) from error
