"""pycaffe itself: importing it, and choosing its device."""

from __future__ import annotations

import os
from types import ModuleType

from rootgen.engine.machine import processor
from rootgen.errors import RootgenError


def pycaffe() -> ModuleType:
    """The module `caffe`, with its log below the level of errors unless GLOG_minloglevel says otherwise."""
    os.environ.setdefault("GLOG_minloglevel", "2")  # read when the library is loaded
    import caffe

    return caffe


def choose_device(device: str, *, prefer_gpu: bool = True) -> str:
    """Make the device "auto", "cpu", "gpu" or "gpu:1" Caffe's own; in words."""
    caffe = pycaffe()
    has_gpu = hasattr(caffe._caffe.Blob, "_gpu_data_ptr")  # built with CUDA
    if device == "auto":
        device = "gpu" if prefer_gpu and has_gpu and _gpus() else "cpu"
    kind, colon, number = device.partition(":")
    if device == "cpu":
        caffe.set_mode_cpu()
        return f"cpu ({processor()}, {_threads()} threads)"
    if kind not in ("gpu", "cuda") or not (number.isdecimal() or not colon):
        raise RootgenError(f"no device '{device}'", hint="cpu, gpu, gpu:1 or auto")
    if not has_gpu:
        raise RootgenError("this Caffe is built for the CPU", hint="use --device cpu, or rootgen caffe build --gpu")
    index = int(number or 0)
    if index >= _gpus():
        raise RootgenError(f"no device '{device}': {_gpus()} CUDA devices are here", hint="use --device cpu")
    caffe.set_device(index)
    caffe.set_mode_gpu()
    return f"gpu {index}"


def _gpus() -> int:
    """Number of CUDA devices; asked of the driver, since Caffe ends the process where there is none."""
    import ctypes

    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def _threads() -> str:
    """Threads that OpenBLAS takes."""
    by_variable = (os.environ.get(name) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"))
    return next(filter(None, by_variable), str(len(os.sched_getaffinity(0))))
