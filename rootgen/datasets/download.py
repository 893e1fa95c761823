"""Published archives, fetched once into the cache and checked."""

from __future__ import annotations

import hashlib
import http.client
from pathlib import Path

from rootgen import paths
from rootgen.errors import RootgenError
from rootgen.files import replacing
from rootgen.progress import Report

CHUNK = 2**20
TIMEOUT_S = 30


def fetch(url: str, md5: str, report: Report | None = None) -> Path:
    """Path in the cache of the file at `url`, downloaded unless it is there already; its MD5 must be `md5`."""
    name = url.rpartition("/")[2]
    path = paths.cache("datasets") / name
    if path.is_file() and _md5(path) == md5:
        return path
    with replacing(path) as beside:
        _download(url, beside, report)
        found = _md5(beside)
        if found != md5:
            raise RootgenError(
                f"the download has MD5 {found}, the published file {md5}",
                where=url,
                hint="try again, or fetch it elsewhere and give it as --source",
            )
    return path


def _download(url: str, path: Path, report: Report | None) -> None:
    import urllib.request

    hint = "fetch it elsewhere and give its folder as --source"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, path.open("wb") as file:
            total = int(response.headers.get("Content-Length") or 0)
            done = 0
            while chunk := response.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                if report:
                    report(f"download {path.name}", done, total)
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise RootgenError(f"cannot download: {getattr(error, 'reason', error)}", where=url, hint=hint) from None
    if done < total:
        raise RootgenError(f"the connection closed after {done} of {total} bytes", where=url, hint=hint)


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
