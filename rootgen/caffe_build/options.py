"""What a build is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rootgen.errors import RootgenError


@dataclass(frozen=True)
class BuildOptions:
    """The choices that change what is built; `arch` as CMake names CUDA architectures (`90`, `80;90`)."""

    vanilla: bool = False
    gpu: bool = False
    arch: str = ""
    cudnn: bool = False
    nccl: bool = False
    opencv: bool = False
    leveldb: bool = False
    python: bool = True

    def __post_init__(self) -> None:
        wants_gpu = [f"--{name}" for name in ("arch", "cudnn", "nccl") if getattr(self, name)]
        if wants_gpu and not self.gpu:
            raise RootgenError(f"{', '.join(wants_gpu)} without --gpu", hint="add --gpu")
        if self.arch and not re.fullmatch(r"\d{2,3}[af]?(;\d{2,3}[af]?)*", self.arch):
            raise RootgenError(f"--arch {self.arch} is no CUDA architecture", hint="as in --arch 90 or --arch '80;90'")

    def cmake(self) -> list[str]:
        """The -D definitions of caffe_patches/build/CMakeLists.txt."""
        flags = {
            "WITH_CUDA": self.gpu,
            "WITH_CUDNN": self.cudnn,
            "WITH_NCCL": self.nccl,
            "WITH_OPENCV": self.opencv,
            "WITH_LEVELDB": self.leveldb,
            "WITH_PYTHON": self.python,
        }
        defined = [f"-D{name}={'ON' if value else 'OFF'}" for name, value in flags.items()]
        return [*defined, *([f"-DCMAKE_CUDA_ARCHITECTURES={self.arch}"] if self.gpu else [])]
