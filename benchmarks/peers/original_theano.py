# -*- coding: utf-8 -*-
"""The original's own program as a peer of the benchmark.

Answers the commands of `benchmarks.peers.worker` in the Python that runs Theano,
cle and nips2015_vrnn (docs/original.md).  It imports only one file of the port,
``compare/original/recorder.py``.  The program's ``main`` runs with the widths of
the settings and stops before it trains.  Then this script calls its compiled
update.  The program starts from the parameters of the other peers but draws its
own noise, so its costs are only near theirs.

Usage: ``python2 original_theano.py ORIGINAL FOLDER FLOATX``, with Theano's flags
in THEANO_FLAGS.
"""

from __future__ import absolute_import, division, print_function

import json
import os
import resource
import shutil
import sys
import tempfile
import time

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "compare", "original"))

import recorder as driver

# Settings that are this literal in main; all settings of one literal must be equal.
LITERALS = {
    "blizzard": {500: ("x2s_dim", "z2s_dim", "q_z_dim", "p_z_dim", "p_x_dim")},
    "iamondb": {150: ("z2s_dim", "q_z_dim", "p_z_dim"), 250: ("x2s_dim", "p_x_dim")},
}
ROW = 8000  # samples per row of the data file; the batches come from the problem


class Arguments(object):
    """Options that `compare.original.recorder.prepare_imports` reads."""

    optimizer = "fast_run"

    def __init__(self, original, floatX):
        self.original, self.floatX = original, floatX


def build(original, settings, work):
    """Run the original's main up to its main loop; return the main loop."""
    dataset = settings["dataset"]
    data = os.path.join(work, "data")
    os.makedirs(data)
    rng = np.random.RandomState(0)
    if dataset == "blizzard":
        driver.make_blizzard(data, rng, width=ROW)
    else:
        driver.make_iamondb(data, rng)
    config = {name: str(value) for name, value in settings.items()}
    config.update(data_path=driver.folder(data), save_path=driver.folder(work), debug="0")
    pairs = dict(zip(driver.ROWS, driver.SMALL_ROWS)) if dataset == "blizzard" else {}
    for literal, names in LITERALS[dataset].items():
        (pairs[literal],) = {settings[name] for name in names}

    import theano
    from cle.cle.layers import InitCell
    from cle.cle.train import Training

    built = []
    script = driver.load_script(driver.find_script(original, dataset, "vrnn_gmm"))
    with driver.replaced(
        (Training, "run", lambda run: lambda mainloop: built.append(mainloop)),
        # Orthogonal matrices take minutes; the problem's parameters replace them later.
        (InitCell, "ortho", lambda ortho: lambda cell, shape: np.zeros(shape)),
        # Compiles the update only, without the monitoring.
        (theano, "function", lambda f: lambda *a, **k: f(*a, **k) if k.get("updates") else None),
    ):
        driver.with_constants(script.main, pairs)(config)
    return built[0]


class Worker(object):
    """See `benchmarks.peers.worker.Worker`."""

    def __init__(self, original, folder, floatX):
        self.original, self.folder, self.floatX = original, folder, floatX
        with open(os.path.join(folder, "settings.json")) as settings:
            self.settings = json.load(settings)
        self.mainloop = None

    def updates(self, numbers):
        """Run updates and time them."""
        before = time.time()
        if self.mainloop is None:
            work = tempfile.mkdtemp(prefix="original_")
            try:
                self.mainloop = build(self.original, self.settings, work)
            finally:
                shutil.rmtree(work)
            with np.load(os.path.join(self.folder, "params.npz")) as params:
                for name in params.files:
                    value = params[name].astype(self.floatX)
                    self.mainloop.model.params[name].set_value(value)
        seconds_of_build = time.time() - before
        costs, seconds = [], []
        for number in numbers:
            with np.load(os.path.join(self.folder, "batch_%d.npz" % number)) as batch:
                arrays = [batch[k].astype(self.floatX) for k in ("x", "mask") if k in batch.files]
            started = time.time()
            costs.append(float(self.mainloop.cost_fn(*arrays)[0]))
            seconds.append(time.time() - started)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"costs": costs, "seconds": seconds, "peak": peak, "build": seconds_of_build}


def main():
    """Answer commands until the standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    original, folder, floatX = sys.argv[1:]
    driver.prepare_imports(Arguments(original, floatX))
    worker = Worker(original, folder, floatX)

    import theano

    versions = "Python %s, Theano %s, numpy %s" % (
        sys.version.split()[0],
        theano.__version__,
        np.__version__,
    )
    answers.write(json.dumps({"versions": versions}) + "\n")
    answers.flush()
    for line in iter(sys.stdin.readline, ""):
        ((command, argument),) = json.loads(line).items()
        answers.write(json.dumps(getattr(worker, command)(argument)) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
