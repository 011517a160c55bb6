"""Installation of the library ``cle_port``.

Only ``cle_port`` is installed.  The programs in ``models/`` and the readers in
``datasets/`` are run from the checkout: packages of such common names have no
place in anybody's site-packages.
"""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent

EXTRAS = {
    "jax": ["jax>=0.7"],  # compiles these graphs in seconds where numba takes many minutes
    "mkl": ["mkl>=2024"],  # a BLAS for the C backend, on x86 without administrator's rights
    "audio": ["soundfile>=0.12"],  # reads wav, flac, ogg and mp3 for the build command
    "plot": ["matplotlib>=3.9"],  # draws the pictures of models/sample.py
    "bench": ["torch>=2.5"],  # what the benchmarks compare with
    "test": ["pytest>=8", "hypothesis>=6.100", "setuptools>=68"],  # hypothesis: files to refuse
    "lint": ["mypy>=1.15", "ruff>=0.11"],
}

setup(
    name="cle-port",
    version="0.1.0",
    description="PyTensor port of cle and of the VRNN programs of nips2015_vrnn",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    python_requires=">=3.11",
    packages=find_packages(include=["cle_port", "cle_port.*"]),
    package_data={"cle_port": ["py.typed"]},
    install_requires=[
        "pytensor>=3.0,<4",
        "numpy>=2.2",
        "scipy>=1.13",
        "h5py>=3.11",
        "hdf5plugin>=4.4",  # the original's HDF5 files are compressed with blosc
        "filelock>=3.16",  # one run in a folder; PyTensor needs it, too
        "tqdm>=4.66",  # progress bars
    ],
    extras_require={
        **EXTRAS,
        "all": [*EXTRAS["jax"], *EXTRAS["audio"], *EXTRAS["plot"], *EXTRAS["test"]],
    },
)
