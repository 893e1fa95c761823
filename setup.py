"""Maps the top-level folders that the package reads into the wheel; rootgen/paths.py finds them again."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
FOLDERS = ("templates", "caffe_patches")  # prototxt/ is for reading; `rootgen emit` makes it


def files(folder: str) -> list[str]:
    """Every file below a top-level folder, relative to it."""
    return [str(path.relative_to(HERE / folder)) for path in sorted((HERE / folder).rglob("*")) if path.is_file()]


about: dict[str, str] = {}
exec((HERE / "rootgen" / "__init__.py").read_text("utf-8"), about)

setup(
    name="rootgen",
    version=about["__version__"],
    description="Caffe-compatible prototxt generator and reproduction kit for Deep Roots (CVPR 2017)",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-2-Clause",
    python_requires=">=3.10",
    packages=[*find_packages(include=["rootgen", "rootgen.*"]), *(f"rootgen.{folder}" for folder in FOLDERS)],
    package_dir={f"rootgen.{folder}": folder for folder in FOLDERS},
    package_data={
        "rootgen": ["data/*", "data/*/*", "proto/*.txt", "py.typed"],
        **{f"rootgen.{folder}": files(folder) for folder in FOLDERS},
    },
    install_requires=[
        "protobuf>=4.21",
        "jinja2>=3.0",
        "numpy>=1.24",
        "scipy>=1.10",  # transform --weights, advise: linear assignment
        "matplotlib>=3.6",
        "pillow>=9",
        "lmdb>=1.4",
        "rich>=13",
        "shtab>=1.9",  # completion: fish since then
    ],
    extras_require={
        "torch": ["torch>=2.2"],
        "hdf5": ["h5py>=3.8"],
        "onnx": ["onnx>=1.14", "onnxruntime>=1.16"],
        "tensorboard": ["tensorboard>=2.17"],
        "dev": ["pytest>=8", "hypothesis>=6", "opencv-python-headless<5", "ruff", "mypy", "types-protobuf", "build"],
    },
    entry_points={"console_scripts": ["rootgen=rootgen.cli:main"]},
)
