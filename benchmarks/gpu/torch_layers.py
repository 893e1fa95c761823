"""PyTorch's side of the comparison, and what the GPU can do at best."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import cases
import torch
from report import Machine, Row

from rootgen.engine import timing


def milliseconds(work: Callable[[], object], seconds: float = 0.05) -> float:
    """Median of CUDA events after a warm-up, over at least 5 runs and about `seconds`."""
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    times: list[float] = []
    while len(times) < 5 or sum(times) < 1e3 * seconds:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return median(times)


def machine() -> Machine:
    """The GPU's name, its copy bandwidth (bytes read and written) and its rate of fp32 products, TF32 off."""
    allow_tf32(False)
    return Machine(torch.cuda.get_device_name(), _copy_gb_s(), _product_tflop_s())


def _copy_gb_s(count: int = 2**28) -> float:
    source = torch.randn(count, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / milliseconds(lambda: target.copy_(source)) / 1e6


def _product_tflop_s(size: int = 8192) -> float:
    a, b = (torch.randn(size, size, device="cuda") for _ in range(2))
    return 2 * size**3 / milliseconds(lambda: a @ b) / 1e9


def allow_tf32(allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def times(left: Callable[[], float]) -> list[Row]:
    """Every convolution at every batch, NCHW and channels_last, TF32 off, then on; ends early when `left()` is low."""
    torch.backends.cudnn.benchmark = True
    rows = []
    for tf32 in (False, True):
        allow_tf32(tf32)
        for batch in cases.BATCHES:
            for layout in (torch.contiguous_format, torch.channels_last):
                name = f"PyTorch {'NCHW' if layout is torch.contiguous_format else 'channels_last'}{' TF32' * tf32}"
                for shape in cases.convolutions():
                    if left() < 60:
                        return rows
                    rows.append(Row("layer", shape.name, batch, name, *_layer(shape, batch, layout)))
    return rows


def net_times(batch: int, left: Callable[[], float]) -> list[Row]:
    """Whole nets on the embedded engine, which is channels_last, TF32 off, then on; ends early when `left()` is low."""
    torch.backends.cudnn.benchmark = True
    rows = []
    for tf32 in (False, True):
        allow_tf32(tf32)
        for name in cases.NETS:
            if left() < 15:
                return rows
            path = cases.train_val(name)
            net = timing.measure(path, batch_size=batch, iterations=5, engine="torch", device="gpu").whole
            way = f"PyTorch channels_last{' TF32' * tf32}"
            rows.append(Row("net", name, batch, way, net.forward, net.backward or 0))
    return rows


def _layer(shape: cases.Convolution, batch: int, layout: torch.memory_format) -> tuple[float, float]:
    """Milliseconds forward and backward, with bias and the gradient of the input, as Caffe's layer is timed."""
    layer = torch.nn.Conv2d(
        shape.channels, shape.num_output, shape.kernel, padding=shape.kernel // 2, groups=shape.group, device="cuda"
    ).to(memory_format=layout)
    x = torch.randn(batch, shape.channels, shape.size, shape.size, device="cuda").to(memory_format=layout)
    x.requires_grad_()
    with torch.no_grad():
        forward = milliseconds(lambda: layer(x))
    y = layer(x)
    dy = torch.randn_like(y)
    wanted = (x, *layer.parameters())
    backward = milliseconds(lambda: torch.autograd.grad(y, wanted, dy, retain_graph=True))
    return forward, backward
