"""Read pickles of NumPy arrays without executing their code.

A pickle is a program: `pickle.load` of a file from another source may run any
code.  The readers in this module accept arrays, dtypes, NumPy scalars and plain
containers, as Python 2 with NumPy 1 and Python 3 with NumPy 1 or 2 write them.
They build these with their own code and reject everything else before it is
called.

A pickle may hold objects of another program, such as the checkpoints of the
original.  `load_objects` replaces each object by an `Instance`, which stores its
attributes and has no behaviour.
"""

from __future__ import annotations

import math
import os
import pickle
import struct
import tokenize
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from cle_port.errors import UserError, one_line
from cle_port.files import open_file

_SAFE_KINDS = "biufcSU"  # booleans, numbers and text: no objects, records or dates
_MOST_AXES = 64  # NumPy's own limit
_LONGEST_AXIS = 2**48
_NUMBER_TYPES = {f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)}
_CONTAINERS = {"list", "tuple", "dict", "set", "frozenset", "slice", "object"}
_MOST_CLASSES = 1000  # the original's checkpoints have about a hundred
_COLLECTIONS = {("collections", "OrderedDict"), ("collections", "defaultdict")}
_KEYS = (str, bytes, int, float, complex, type(None))
UNREADABLE = (
    OSError,
    pickle.UnpicklingError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    OverflowError,
    MemoryError,
    RecursionError,
    AssertionError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
)


def load_pickled_arrays(path: str | os.PathLike[str]) -> Any:
    """Read a pickle of NumPy arrays or of lists, tuples and dictionaries of them.

    Parameters
    ----------
    path : path-like
        Pickle of any protocol, written by Python 2 or 3.

    Returns
    -------
    object
        The pickled object.  Arrays are read-only; Python 2's text becomes str.

    Raises
    ------
    UserError
        If the file cannot be read, is damaged, or refers to anything other than
        arrays, dtypes and NumPy scalars.  This executes nothing from the file.

    Notes
    -----
    Counterpart: ``cPickle.load``.
    """
    path = Path(path)
    with _open(path) as file:
        return _load(file, path)


def load_npy(path: str | os.PathLike[str]) -> NDArray:
    """Read an ``.npy`` file; object arrays in it are pickles.

    Parameters
    ----------
    path : path-like
        File in NumPy's format, written by NumPy 1 or 2.

    Returns
    -------
    ndarray
        A read-only memory map of numbers, or an object array.

    Raises
    ------
    UserError
        See `load_pickled_arrays`.

    Notes
    -----
    Counterpart: ``np.load``, which unpickled any object in NumPy 1.9.
    """
    path = Path(path)
    with _open(path) as file:
        try:
            shape, fortran, dtype = _read_header(file)
            if dtype != np.dtype(object):
                return _map(file, shape, "F" if fortran else "C", dtype)
        except UNREADABLE as error:
            raise _refused(path, "which is no .npy file", error) from error
        loaded = _load(file, path)
    if not isinstance(loaded, np.ndarray) or loaded.dtype != object or loaded.shape != shape:
        raise _refused(path, "whose content is not what its header promises")
    return loaded


def load_objects(path: str | os.PathLike[str], packages: Collection[str]) -> Any:
    """Read a pickle of Python 2 that holds objects of other programs.

    Parameters
    ----------
    path : path-like
        Pickle written by Python 2.
    packages : collection of str
        Top-level packages whose objects the pickle may hold.

    Returns
    -------
    object
        Containers with an `Instance` for each object.  `finished` converts the
        arrays and NumPy scalars in them.

    Raises
    ------
    UserError
        If the file cannot be read, is damaged, or refers to other packages.
        This imports and executes nothing from the file.

    Notes
    -----
    Counterpart: ``cle.utils.unpickle``.
    """
    path = Path(path)
    with _open(path) as file:
        try:
            return _ObjectUnpickler(file, packages).load()
        except UNREADABLE as error:
            names = ", ".join(packages)
            raise UserError(
                f"cannot use {path} ({one_line(error)[:200]}); only whole pickles of objects of "
                f"{names} are read: give another file"
            ) from error


def finished(loaded: Any) -> Any:
    """Convert arrays and scalars in a result of `load_objects`.

    Parameters
    ----------
    loaded : object
        Part of the result: an array or scalar, alone or in containers.

    Returns
    -------
    object
        Arrays are read-only ndarrays, scalars those of NumPy.

    Raises
    ------
    pickle.UnpicklingError
        If it contains other objects.
    """
    return _finish(loaded, {})


class Instance:
    """A stand-in for an object of a class that is not loaded.

    Attributes
    ----------
    path : str
        Module and name of the class or function that made the object.
    args : tuple
        Arguments of that class or function.
    items : list
        Appended items; items set by key are pairs of key and value.
    state : object
        Attributes, usually a dictionary.
    """

    __slots__ = ("args", "items", "state")

    path: ClassVar[str] = ""
    args: tuple
    items: list
    state: Any

    def __new__(cls, *args: Any) -> Instance:
        """Store the arguments: some pickles make an object without calling ``__init__``."""
        self = super().__new__(cls)
        self.args, self.items, self.state = args, [], None
        return self

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, item: Any) -> None:
        """Store an item of a list."""
        self.items.append(item)


def check_unshared(path: str | os.PathLike[str], items: Sequence[Any] | NDArray) -> None:
    """Check that copies of a file's arrays take no more memory than the file's size.

    A pickle may refer to one array many times, with two bytes each.  Copying the
    items would then exhaust the memory.

    Parameters
    ----------
    path : path-like
        The file.
    items : sequence
        Contents of the file.  Items that are not arrays do not count.

    Raises
    ------
    UserError
        If the arrays take more memory.

    Notes
    -----
    No counterpart in the original.
    """
    available = Path(path).stat().st_size
    size = len(items)
    if size <= available:
        size = sum(item.nbytes for item in items if isinstance(item, np.ndarray))
    if size > available:
        raise UserError(f"{path} unfolds to {size} bytes, more than it has; save it again")


def _open(path: Path) -> BinaryIO:
    try:
        return open_file(path)
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); check the path") from error


def _refused(path: Path, reason: str, error: BaseException | None = None) -> UserError:
    detail = f" ({one_line(error)[:200]})" if error and str(error) else ""
    return UserError(
        f"cannot use {path}, {reason}{detail}; only NumPy arrays of numbers and text are read: "
        "save it again with numpy.save or leave it out"
    )


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # NumPy warns that Python 2 wrote the header
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    _check_shape(shape)
    return shape, fortran, dtype


def _check_shape(shape: Any) -> None:
    """Reject impossible shapes before anything is computed from them."""
    valid = isinstance(shape, tuple | list) and len(shape) <= _MOST_AXES
    if not valid or not all(isinstance(n, int) and 0 <= n < _LONGEST_AXIS for n in shape):
        raise pickle.UnpicklingError("an array has no valid shape")


def _map(file: BinaryIO, shape: tuple[int, ...], order: Any, dtype: np.dtype) -> NDArray:
    if dtype.kind not in _SAFE_KINDS or dtype.itemsize == 0:
        raise pickle.UnpicklingError(f"dtype {dtype} is not allowed")
    size, there = math.prod(shape) * dtype.itemsize, os.fstat(file.fileno()).st_size - file.tell()
    if size > there:
        raise EOFError(f"{there} of {size} bytes are there")
    if size == 0:
        return np.zeros(shape, dtype, order)
    return np.memmap(file, dtype, mode="r", offset=file.tell(), shape=shape, order=order)


def _load(file: BinaryIO, path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged text may hold deprecated escapes
            return _finish(_ArrayUnpickler(file).load(), {})
    except UNREADABLE as error:
        raise _refused(path, "whose pickle is damaged or not of arrays", error) from error


class _BoundedFile:
    """A file that refuses to read beyond its end: a false length must not allocate memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end = os.fstat(file.fileno()).st_size
        self.readline = file.readline

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self._end - self._file.tell():
            raise EOFError("it ends in the middle")
        return self._file.read(size)


class _ArrayUnpickler(pickle._Unpickler):
    """An unpickler that replaces NumPy's classes by stand-ins.

    It derives from the unpickler written in Python, whose memo is a dictionary.
    The one in C allocates a table up to the highest index in the file.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(_BoundedFile(file), encoding="latin1")
        self._encodable = os.fstat(file.fileno()).st_size

    def encode(self, text: str, encoding: str) -> bytes:
        """Encode bytes of protocols below 3; limit their total to the size of the file."""
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"encoding {encoding!r} is not allowed")
        self._encodable -= len(text)
        if self._encodable < 0:
            raise pickle.UnpicklingError("it encodes more than it has")
        return text.encode("latin1")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _Function(self.encode)
        try:
            return _STAND_INS[module.replace("numpy._core", "numpy.core"), name]
        except KeyError:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}") from None

    def load_bytearray8(self: Any) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(size)))  # the base class allocates before it reads

    def put(self, target: Any, key: Any, value: Any) -> None:
        """Set an item of a dictionary; keys are text or numbers only.

        The hash of nested tuples may take forever, if each contains the previous
        one twice.
        """
        if not isinstance(key, _KEYS) or not isinstance(target, dict):
            raise pickle.UnpicklingError("a key is neither text nor a number")
        target[key] = value

    def load_setitem(self: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.put(self.stack[-1], key, value)

    def load_setitems(self: Any) -> None:
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.put(self.stack[-1], key, value)

    def load_dict(self: Any) -> None:
        items = self.pop_mark()
        self.append({})
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.put(self.stack[-1], key, value)

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
    }
    for _refused_code in (
        *(pickle.EXT1, pickle.EXT2, pickle.EXT4),  # refer to any name in a registry
        *(pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET),  # compute hashes of their items
    ):
        del dispatch[_refused_code[0]]


class _ObjectUnpickler(_ArrayUnpickler):
    """An unpickler that replaces classes of other programs by subclasses of `Instance`."""

    def __init__(self, file: BinaryIO, packages: Collection[str]) -> None:
        super().__init__(file)
        self._packages = packages
        self._classes: dict[str, type[Instance]] = {}

    def find_class(self, module: str, name: str) -> Any:
        known = (
            module.split(".")[0] in self._packages
            or (module == "numpy" and name in _NUMBER_TYPES)
            or (module == "__builtin__" and name in _CONTAINERS)
            or (module, name) in _COLLECTIONS
        )
        if not known:
            return super().find_class(module, name)
        path = f"{module}.{name}"
        if path not in self._classes:
            if len(self._classes) >= _MOST_CLASSES:
                raise pickle.UnpicklingError("it refers to too many classes")
            self._classes[path] = type("Instance", (Instance,), {"__slots__": (), "path": path})
        return self._classes[path]

    def put(self, target: Any, key: Any, value: Any) -> None:
        if isinstance(target, Instance):
            target.items.append((key, value))
        elif isinstance(target, dict) and not isinstance(key, _KEYS):
            return  # only Theano's bookkeeping has such keys, and nothing reads it
        else:
            super().put(target, key, value)


class _Dtype:
    """A stand-in for a dtype; `_finish` returns its ``value``."""

    def __init__(self, code: str | bytes, align: Any = False, copy: Any = True) -> None:
        code = code.decode("ascii") if isinstance(code, bytes) else code
        if not isinstance(code, str) or len(code) > 20:
            raise pickle.UnpicklingError("a dtype is not given as text")
        self.value = np.dtype(code)
        if self.value != np.dtype(object) and self.value.kind not in _SAFE_KINDS:
            raise pickle.UnpicklingError(f"dtype {code} is not allowed")

    def __setstate__(self, state: tuple) -> None:
        order: Any = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("records are not allowed")
        if order in ("<", ">"):
            self.value = self.value.newbyteorder(order)


class _Array:
    """A stand-in for an array or scalar; `_finish` converts it."""

    def __setstate__(self, state: tuple) -> None:
        shape, dtype, fortran, content = state[-4:]
        self.set(shape, dtype, "F" if fortran else "C", content)

    def set(self, shape: Any, dtype: Any, order: str, content: Any, scalar: bool = False) -> None:
        if not isinstance(dtype, _Dtype):
            raise pickle.UnpicklingError("an array has no dtype")
        self.dtype = dtype.value
        _check_shape(shape)
        if self.dtype == object and not isinstance(content, list):
            raise pickle.UnpicklingError("an array has no objects")
        self.content = content
        unit = 1 if self.dtype == object else self.dtype.itemsize
        if math.prod(shape) * unit != len(content):
            raise pickle.UnpicklingError("the data of an array do not fit its shape")
        self.shape, self.order, self.scalar = tuple(shape), order, scalar

    def finish(self, done: dict[int, Any]) -> Any:
        order: Any = "F" if self.order == "F" else "C"
        array = self._objects(done) if self.dtype == object else self._numbers(done)
        array = array.reshape(self.shape, order=order)
        return array[()] if self.scalar else array

    # Several arrays may share one content; it is converted once.  ``done`` holds the result
    # under a key of its own, because it may hold the content as well.

    def _objects(self, done: dict[int, Any]) -> NDArray:
        key = ~id(self.content)
        if key not in done:
            done[key] = None
            array = np.empty(len(self.content), dtype=object)
            for index, item in enumerate(self.content):
                array[index] = _finish(item, done)
            done[key] = array
        if done[key] is None:
            raise pickle.UnpicklingError("an array contains itself")
        return done[key]

    def _numbers(self, done: dict[int, Any]) -> NDArray:
        content, key = self.content, ~id(self.content)
        if not isinstance(content, bytes):
            if key not in done:
                text = isinstance(content, str)
                done[key] = content.encode("latin1") if text else bytes(content)
            content = done[key]
        return np.ndarray(math.prod(self.shape), self.dtype, content)


class _Function:
    """A function that a pickle may call but not change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it alters a function")


def _reconstruct(kind: Any, shape: Any, typecode: Any) -> _Array:
    if kind is not _Array:
        raise pickle.UnpicklingError("an array is of another class")
    return _Array()


def _scalar(dtype: Any, content: Any) -> _Array:
    scalar = _Array()
    scalar.set((), dtype, "C", content, scalar=True)
    return scalar


def _frombuffer(content: Any, dtype: Any, shape: Any, order: str, axis_order: Any = None) -> _Array:
    if axis_order is not None:
        raise pickle.UnpicklingError("an array has permuted axes")
    array = _Array()
    array.set(shape, dtype, order, content)
    return array


def _no_bytes() -> bytes:
    """Return empty bytes, which protocols below 3 store as a call of ``bytes``."""
    return b""


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Function(_reconstruct),
    ("numpy.core.multiarray", "scalar"): _Function(_scalar),
    ("numpy.core.numeric", "_frombuffer"): _Function(_frombuffer),
    ("__builtin__", "bytes"): _Function(_no_bytes),
}


def _finish(loaded: Any, done: dict[int, Any]) -> Any:
    """Replace stand-ins by the objects they stand for; convert shared ones once."""
    if loaded is None or isinstance(loaded, bool | int | float | complex | str | bytes):
        return loaded
    if id(loaded) in done:
        return done[id(loaded)]
    result: Any
    if isinstance(loaded, _Array):
        result = loaded.finish(done)
    elif isinstance(loaded, _Dtype):
        result = loaded.value
    elif isinstance(loaded, list | tuple):
        result = type(loaded)([_finish(item, done) for item in loaded])
    elif isinstance(loaded, dict):
        result = {_finish(key, done): _finish(value, done) for key, value in loaded.items()}
    else:
        raise pickle.UnpicklingError("it holds something other than arrays and containers")
    done[id(loaded)] = result
    return result
