"""Installation of the library ``cle_port``.

Only ``cle_port`` is installed.  ``models``, ``datasets``, ``tutorials``, ``compare``,
``benchmarks`` and ``tests`` run from the checkout or the unpacked source
archive: installed packages of these names would collide with other projects'.
"""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent

EXTRAS = {
    "jax": ["jax>=0.7.2"],  # older versions round float64 arrays when they copy them without x64
    "mkl": ["mkl>=2024"],  # a BLAS for the C backend, on x86 without administrator's rights
    "audio": ["soundfile>=0.12"],  # reads wav, flac, ogg and mp3 for datasets.build
    "plot": ["matplotlib>=3.9"],  # draws the pictures of models/sample.py
    "digits": ["scikit-learn>=1.5"],  # ships images of digits, for models/vae.py and the tutorials
    "tensorboard": ["tensorboard>=2.18"],  # for readers of docs/library.md who watch runs in it
    "bench": ["torch>=2.5"],  # the benchmarks compare with it
    "test": ["pytest>=8", "hypothesis>=6.100", "setuptools>=77.0.3"],  # setuptools builds archives
    "lint": ["mypy>=1.15", "ruff>=0.11"],
}

setup(
    name="cle-port",
    version="0.1.0",
    description="PyTensor port of cle and of the VRNN programs of nips2015_vrnn",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The cle-port contributors",
    license_expression="BSD-3-Clause",
    license_files=["LICENSE"],
    project_urls={
        "Original library": "https://github.com/jych/cle",
        "Original programs": "https://github.com/jych/nips2015_vrnn",
        "Paper": "https://arxiv.org/abs/1506.02216",
    },
    keywords=["VRNN", "variational recurrent neural network", "PyTensor", "Theano", "JAX"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=["cle_port", "cle_port.*"]),
    package_data={"cle_port": ["py.typed"]},
    install_requires=[
        "pytensor>=3.0,<4",
        "numpy>=2.2",
        "scipy>=1.13",
        "h5py>=3.11",
        "hdf5plugin>=4.4",  # the original compresses its HDF5 files with blosc
        "filelock>=3.16",  # keeps two runs out of one folder; PyTensor needs it anyway
        "tqdm>=4.66",  # progress bars
    ],
    extras_require={
        **EXTRAS,
        "all": [
            requirement
            for name in ("jax", "audio", "plot", "digits", "tensorboard", "test")
            for requirement in EXTRAS[name]
        ],
    },
)
