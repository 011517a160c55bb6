"""First entries of dictionaries.

Counterpart: ``cle/utils/compat.py``, which also chooses the ``OrderedDict`` of the Python version;
dictionaries keep their order now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


def first_key(obj: Mapping[Key, Value]) -> Key:
    """Return the first key of a mapping.

    Counterpart: ``cle.utils.compat.first_key``, which always fails.
    """
    return next(iter(obj))


def first_value(obj: Mapping[Key, Value]) -> Value:
    """Return the value of the first key of a mapping.

    Counterpart: ``cle.utils.compat.first_value``.
    """
    return next(iter(obj.values()))
