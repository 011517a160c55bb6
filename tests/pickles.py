"""Make pickles like those of the original, of a small model, without the original."""

from __future__ import annotations

import pickle
import sys
from collections import OrderedDict, defaultdict
from types import ModuleType

import numpy as np
import pytest

X_DIM, WIDTH, RNN_DIM = 3, 4, 2
NODES = ["rnn", "x_1", "theta_1", "theta_mu", "theta_sig", "corr", "binary"]
FULLY_CONNECTED = "cle.cle.layers.feedforward.FullyConnectedLayer"
SHAPES = {
    "W_x_1__rnn": (WIDTH, 4 * RNN_DIM),
    "U_rnn__rnn": (RNN_DIM, 4 * RNN_DIM),
    "b_rnn": (4 * RNN_DIM,),
    "W_x_t__x_1": (X_DIM, WIDTH),
    "b_x_1": (WIDTH,),
    "W_s_tm1__theta_1": (RNN_DIM, WIDTH),
    "b_theta_1": (WIDTH,),
    "W_theta_1__theta_mu": (WIDTH, 2),
    "b_theta_mu": (2,),
    "W_theta_1__theta_sig": (WIDTH, 2),
    "b_theta_sig": (2,),
    "W_theta_1__corr": (WIDTH, 1),
    "b_corr": (1,),
    "W_theta_1__binary": (WIDTH, 1),
    "b_binary": (1,),
}


class Classes:
    """Makes classes and functions of modules that do not exist, for the duration of a test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def put(self, path: str, value: object) -> None:
        """Make a value importable under a path."""
        module, _, name = path.rpartition(".")
        parts = module.split(".")
        for i in range(1, len(parts) + 1):
            part = ".".join(parts[:i])
            if part not in sys.modules:
                self.monkeypatch.setitem(sys.modules, part, ModuleType(part))
        setattr(sys.modules[module], name, value)

    def new(self, path: str, **state: object) -> object:
        """Make an instance of a class with this path."""
        module, _, name = path.rpartition(".")
        kind = getattr(sys.modules.get(module), name, None)
        if kind is None:
            kind = type(name, (), {"__module__": module})
            self.put(path, kind)
        instance = kind()
        instance.__dict__.update(state)
        return instance

    def gpu_array(self, array: np.ndarray) -> object:
        """Make an object that pickles like a GPU array: as a call of a function of Theano."""
        module = "theano.sandbox.cuda.type"
        if module not in sys.modules:
            self.put(f"{module}.CudaNdarray_unpickler", _of_module(module))
        call = sys.modules[module].CudaNdarray_unpickler, (array,)
        return type("CudaNdarray", (), {"__reduce__": lambda self: call})()


def _of_module(module: str) -> object:
    def CudaNdarray_unpickler(array: object) -> None:
        raise AssertionError

    CudaNdarray_unpickler.__module__ = module
    CudaNdarray_unpickler.__qualname__ = CudaNdarray_unpickler.__name__
    return CudaNdarray_unpickler


def parameters() -> dict[str, np.ndarray]:
    """Return random parameters of RNN-Gauss on IAM-OnDB."""
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def mainloop(
    classes: Classes,
    params: dict | None = None,
    name: object = "rnn_gauss_1",
    nodes: list[str] = NODES,
    recurrence: str = "LSTM",
    update: object = None,
    **trainlog: object,
) -> object:
    """Make a main loop of the original."""
    params = parameters() if params is None else params
    layers = {"rnn": f"cle.cle.layers.recurrent.{recurrence}"}

    def shared(name: str, value: object) -> object:
        container = classes.new("theano.gof.link.Container", name=name, storage=[value])
        return classes.new(
            "theano.tensor.sharedvar.TensorSharedVariable", name=name, container=container
        )

    monitor: defaultdict[str, object] = defaultdict(list)
    monitor["update"] = (
        [[np.array(2.5, dtype=np.float32)], [np.array(2.25, dtype=np.float32)]]
        if update is None
        else update
    )
    monitor["time"] = [0.5, 0.25]
    monitor["valid_nll"] = [np.float32(3.5)]
    monitor["monitoring_time"] = 0.125
    model = classes.new(
        "cle.cle.models.Model",
        inputs=[],
        nodes=[classes.new(layers.get(node, FULLY_CONNECTED), name=node) for node in nodes],
        params=OrderedDict((key, shared(key, value)) for key, value in params.items()),
        updates=OrderedDict(),
    )
    log = {"monitor": monitor, "epoch_seen": 0, "batch_seen": 2, **trainlog}
    return classes.new(
        "cle.cle.train.Training",
        name=name,
        model=model,
        trainlog=classes.new("cle.cle.train.TrainLog", **log),
    )


def dump(value: object) -> bytes:
    """Pickle with protocol 2, as the original does."""
    return pickle.dumps(value, protocol=2)
