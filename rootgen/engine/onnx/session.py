"""ONNX Runtime: sessions, the device that they run on, and its complaints as one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rootgen.engine.machine import processor
from rootgen.errors import RootgenError

_ERRORS_ALONE = 3  # ONNX Runtime's severity: what it warns of (an unused constant, say) is nothing to act on


def choose_device(name: str) -> tuple[list[Any], str]:
    """ONNX Runtime's providers for "auto", "cpu", "gpu" or "gpu:1", and the device in words."""
    import onnxruntime

    kind, _, number = name.partition(":")
    if name in ("auto", "cpu"):
        return ["CPUExecutionProvider"], f"cpu ({processor()}, ONNX Runtime {onnxruntime.__version__})"
    if kind not in ("gpu", "cuda") or not (number.isdecimal() or not _):
        raise RootgenError(f"no device '{name}'", hint="cpu, gpu, gpu:1 or auto")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        version = onnxruntime.__version__
        raise RootgenError(
            f"ONNX Runtime {version} is built without CUDA, so not for '{name}'", hint="use --device cpu"
        )
    provider = ("CUDAExecutionProvider", {"device_id": int(number or 0)})
    return [provider, "CPUExecutionProvider"], f"{name} (ONNX Runtime {onnxruntime.__version__})"


def start(model: bytes | Path, providers: list[Any], where: object, *, profile: Path | None = None) -> Any:
    """A session of a model, serialized or in a file; with `profile` its times go into files of that name."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ALONE
    threads = os.environ.get("OMP_NUM_THREADS", "")  # what --threads sets, for every engine
    if threads.isdecimal() and int(threads):
        options.intra_op_num_threads = int(threads)
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    with told(where):
        return onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, providers=providers
        )


@contextmanager
def told(where: object) -> Iterator[None]:
    """Turn what ONNX Runtime refuses into one clear line."""
    try:
        yield
    except RootgenError:
        raise
    except Exception as error:  # onnxruntime has an exception of its own for each code, all without a common base
        reason = " ".join(str(error).split())[:300]
        raise RootgenError(f"ONNX Runtime: {reason}", where=where) from error
