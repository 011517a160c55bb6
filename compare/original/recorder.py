#!/usr/bin/env python
# -*- coding: utf-8 -*-
"""Run a training program of the original and record what it computes.

This file needs nothing but itself: carry it to where Theano, ``cle`` and
``nips2015_vrnn`` run (Python 2.7 with Theano 0.7) and start it there:

    python2 recorder.py OUT --original FOLDER --script vrnn_gmm

``FOLDER`` has the two repositories in folders of their names.  Nothing in them
is changed.  The program's ``main`` is called with small settings on a small
corpus made here, or with yours; for each kind of run one file appears in OUT,
``model_<dataset>_<script>_<kind>_<floatX>.npz``, plain arrays by name.  The
port repeats it and shows both side by side:

    python -m compare OUT/model_*.npz

It is written for Python 2.7 and 3, since the port's tests read it too.

No counterpart in the original.
"""

from __future__ import absolute_import, division, print_function

import argparse
import logging
import os
import pickle
import shutil
import sys
import tempfile
import types
import warnings
from collections import OrderedDict
from contextlib import contextmanager

import numpy as np

DATASETS = ("blizzard", "iamondb")
SCRIPTS = ("rnn_gauss", "rnn_gmm", "vrnn_gauss", "vrnn_gmm")
KINDS = ("small", "strong", "clipped")
SNAPSHOTS = (1, 2, 5, 20)  # updates after which everything is kept
LAST = 999  # stands for "after the last update"
FILE_NAME = "blizzard_unseg_tbptt"

# Settings of a run of 21 updates that compiles in a minute or two.
CONFIG = {
    "blizzard": {
        "batch_size": "4",
        "epoch": "3",
        "force_saving_freq": "10",
        "m_batch_size": "6",
        "reset_freq": "4",
        "rnn_dim": "9",
        "x_dim": "8",
        "num_k": "3",
    },
    "iamondb": {"batch_size": "4", "epoch": "3", "rnn_dim": "8", "x_dim": "3", "num_k": "4"},
}
COMMON_CONFIG = {"trial": "1", "monitoring_freq": "5", "z_dim": "5", "lr": "0.0003", "debug": "0"}

# Layer widths that stand as literals in each script's main, and small ones for them.
WIDTHS = {
    "blizzard_rnn_gauss": {800: 12},
    "blizzard_rnn_gmm": {700: 12, 4000: 9},  # 4000 is rnn_dim, which this script sets itself
    "blizzard_vrnn_gauss": {500: 10, 600: 12},
    "blizzard_vrnn_gmm": {500: 10},
    "iamondb_rnn_gauss": {340: 10},
    "iamondb_rnn_gmm": {300: 10},
    "iamondb_vrnn_gauss": {150: 7, 250: 9},
    "iamondb_vrnn_gmm": {150: 7, 250: 9},
}
# The Blizzard scripts' row ranges: end of training, rows of it monitored, end of validation.
ROWS = (2040064, 112640, 2152704)
SMALL_ROWS = (31, 13, 45)
# One script has its folders as literals too.
LITERAL_FOLDERS = {
    "/data/lisatmp3/chungjun/data/blizzard_unseg/": "data_path",
    "/data/lisatmp/chungjun/nips2015/blizzard/pkl/": "save_path",
}
SCAN_OUTPUTS = ("s", "phi_mu", "phi_sig", "prior_mu", "prior_sig", "z_last")
LEARNING_RATES = {"strong": 3e-3, "clipped": 1e-2}


def main(argv=None):
    """Record the runs that the command line asks for; return the exit status."""
    args = parse(argv)
    try:
        record(args)
    except Refused as error:
        print("error: %s" % error, file=sys.stderr)
        return 2
    return 0


class Refused(Exception):
    """Something that the user can mend."""


def parse(argv=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", metavar="OUT", help="folder for the recordings")
    parser.add_argument(
        "--original", required=True, help="folder with the repositories cle and nips2015_vrnn"
    )
    parser.add_argument("--dataset", choices=DATASETS, default="blizzard")
    parser.add_argument("--script", choices=SCRIPTS, default="vrnn_gmm")
    parser.add_argument("--floatX", choices=("float32", "float64"), default="float64")
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=KINDS,
        default=["small"],
        help="small: from the script's own weights; strong: once more from larger weights; "
        "clipped: once more with gradients far above the clipping threshold",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an entry of the script's config.txt, such as batch_size=8; may be repeated",
    )
    parser.add_argument(
        "--exchange",
        action="append",
        default=[],
        metavar="FROM=TO",
        help="another number for a literal of the script's main, such as 500=20 for a layer "
        "width; may be repeated; with --own_sizes only these are exchanged",
    )
    parser.add_argument(
        "--own_sizes", action="store_true", help="keep the script's own layer widths and rows"
    )
    parser.add_argument("--data_path", help="your data; default is a small corpus made here")
    parser.add_argument(
        "--checkpoints", help="folder that keeps what the program saves, one below it for each kind"
    )
    parser.add_argument(
        "--params",
        metavar="FILE.npz",
        help="start from these parameters, by name, in the place of the script's own; the run's "
        "kind is then called given (python -m compare export makes such files)",
    )
    parser.add_argument("--numpy_seed", type=int, default=20150)
    parser.add_argument("--mrg_seed", type=int, default=4242)
    parser.add_argument(
        "--optimizer",
        default="fast_compile",
        help="Theano's: fast_compile (default) or fast_run, which takes long to compile",
    )
    return parser.parse_args(argv)


def record(args):
    """Run the program once for each kind and write a recording of each run."""
    config = settings(args.dataset, args.set)
    label = "%s_%s" % (args.dataset, args.script)
    path = find_script(args.original, args.dataset, args.script)
    if not os.path.isdir(args.out):
        os.makedirs(args.out)
    prepare_imports(args)
    work = tempfile.mkdtemp(prefix="record_")
    try:
        config["data_path"] = folder(args.data_path or make_corpus(args.dataset, work))
        saved = os.path.abspath(args.checkpoints or os.path.join(work, "saved"))
        config["save_path"] = folder(os.path.join(saved, "small"))
        program = OriginalProgram(label, path, config, exchanged(args, label))

        def keep(run):
            name = "model_%s_%s_%s.npz" % (label, run.kind, args.floatX)
            write(os.path.join(args.out, name), run.arrays)

        run = program.run(args.numpy_seed, args.mrg_seed, args.params)
        if args.params or "small" in args.kinds:
            keep(run)
        for kind in ("strong", "clipped"):
            if kind in args.kinds and not args.params:
                seed = args.mrg_seed + KINDS.index(kind)
                given = [change for change in args.set if change.startswith("lr=")]
                rate = float(config["lr"]) if given else None
                keep(program.restart(kind, seed, folder(os.path.join(saved, kind)), rate))
    finally:
        shutil.rmtree(work)


def settings(dataset, changes):
    """Return the entries of the script's config.txt, all as text."""
    config = dict(COMMON_CONFIG, **CONFIG[dataset])
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals or name not in config:
            raise Refused("--set %s: give NAME=VALUE, NAME of %s" % (change, sorted(config)))
        config[name] = value
    return config


def exchanged(args, label):
    """Return which literals of main to exchange for which numbers."""
    pairs = {}
    if not args.own_sizes:
        pairs.update(WIDTHS[label])
        if args.dataset == "blizzard" and not args.data_path:
            pairs.update(zip(ROWS, SMALL_ROWS))
    for text in args.exchange:
        try:
            old, new = (int(number) for number in text.split("="))
        except ValueError:
            raise Refused("--exchange %s: give two whole numbers, FROM=TO" % text)
        pairs[old] = new
    return pairs


def find_script(original, dataset, script):
    """Return the path of a program of nips2015_vrnn."""
    path = os.path.join(original, "nips2015_vrnn", "models", dataset, script + ".py")
    for needed in (path, os.path.join(original, "cle", "cle", "train", "ext.py")):
        if not os.path.isfile(needed):
            raise Refused(
                "there is no %s; give --original the folder that has the repositories cle and "
                "nips2015_vrnn in it" % needed
            )
    return path


def folder(path):
    """Return the path as the scripts want it, ending in a slash."""
    return os.path.join(os.path.abspath(path), "")


def prepare_imports(args):
    """Set Theano's flags, put the original on the path and stand-ins where modules lack."""
    flags = "device=cpu,floatX=%s,optimizer=%s" % (args.floatX, args.optimizer)
    mine = os.environ.get("THEANO_FLAGS")
    os.environ["THEANO_FLAGS"] = mine + "," + flags if mine else flags
    os.environ.setdefault("MPLBACKEND", "Agg")
    sys.path.insert(0, os.path.abspath(args.original))
    sys.dont_write_bytecode = True  # leave the original's folders as they are
    sys.modules["ipdb"] = types.ModuleType("ipdb")  # every module of the original imports it
    if not available("matplotlib.pyplot"):  # imported, but used for pictures only
        matplotlib = sys.modules["matplotlib"] = types.ModuleType("matplotlib")
        matplotlib.use = lambda backend: None
        matplotlib.pyplot = sys.modules["matplotlib.pyplot"] = types.ModuleType("pyplot")
    if not available("lxml"):
        from xml.etree import ElementTree

        sys.modules["lxml"] = types.ModuleType("lxml")
        sys.modules["lxml"].etree = ElementTree
    for name in ("theano", "tables"):
        if not available(name):
            raise Refused(
                "the module %s does not import in %s; run this with the Python in which the "
                "original runs (docs/original.md)" % (name, sys.executable)
            )
    import tables

    if not hasattr(tables, "openFile"):  # gone since PyTables 3.2
        tables.openFile = tables.open_file
        tables.File.createEArray = tables.File.create_earray


def available(name):
    """Whether a module can be imported."""
    try:
        __import__(name)
    except ImportError:
        return False
    return True


# A small corpus ----------------------------------------------------------------------------


def make_corpus(dataset, work):
    """Write a small corpus in the files that the original reads; return its folder."""
    where = os.path.join(work, "data")
    os.makedirs(where)
    rng = np.random.RandomState(1234)
    if dataset == "blizzard":
        make_blizzard(where, rng)
    else:
        make_iamondb(where, rng)
    return where


def make_blizzard(where, rng, n_row=72, row=40):
    """Write rows of smooth noise and their mean and deviation."""
    import tables

    noise = rng.normal(0, 300, size=n_row * row + 4)
    rows = sum(noise[i : i + n_row * row] for i in range(5)).reshape(n_row, row).astype("int16")
    with tables.open_file(os.path.join(where, FILE_NAME + ".h5"), "w") as store:
        data = store.create_earray(store.root, "data", tables.Int16Atom(), shape=(0, row))
        data.append(rows)
    X_mean, X_std = rows.mean(), rows.std()
    np.savez(os.path.join(where, FILE_NAME + "_normal.npz"), X_mean=X_mean, X_std=X_std)


def make_iamondb(where, rng):
    """Write the cache files that the original keeps next to a corpus of handwriting."""
    for name in ("lineStrokes", "ascii"):
        os.makedirs(os.path.join(where, name))
    for part, n_line in (("train", 28), ("valid", 8)):
        open(os.path.join(where, part + ".txt"), "w").close()  # no files: the cache has all
        lines = [make_line(rng, 11 + int(rng.randint(5))) for _ in range(n_line)]
        labels = [np.eye(57, dtype="int16")[rng.randint(57, size=4)] for _ in lines]
        for axis, content in (("x", lines), ("y", labels)):
            with open(os.path.join(where, "%s_npy_%s.npy" % (part, axis)), "wb") as store:
                pickle.dump(content, store, 0)


def make_line(rng, n_point):
    """Return points of a pen, one a row: 1 where it is lifted, and two coordinates."""
    line = np.cumsum(rng.randint(-40, 60, size=(n_point, 3)), axis=0)
    line[:, 0] = rng.uniform(size=n_point) < 0.2
    line[-1, 0] = 1
    return line


# Driving the program -----------------------------------------------------------------------


def load_script(path):
    """Run a script of the original as a module of its own, without its main."""
    module = types.ModuleType("original_script")
    with open(path) as script:
        # dont_inherit: its print is a statement, whatever is imported here from __future__.
        exec(compile(script.read(), path, "exec", 0, True), module.__dict__)
    return module


def with_constants(function, pairs):
    """Return a copy of a function that has other literals.

    Raises
    ------
    Refused
        If a literal to exchange is not in it.
    """
    code = function.__code__
    known = [c for c in code.co_consts if type(c) in (int, str)]
    for old in pairs:
        if old not in known:
            numbers = sorted(c for c in known if type(c) is int)
            raise Refused("%s has no literal %s; it has %s" % (function.__name__, old, numbers))
    constants = tuple(pairs.get(c, c) if type(c) in (int, str) else c for c in code.co_consts)
    if hasattr(code, "replace"):
        code = code.replace(co_consts=constants)
    else:
        code = types.CodeType(
            code.co_argcount,
            code.co_nlocals,
            code.co_stacksize,
            code.co_flags,
            code.co_code,
            constants,
            code.co_names,
            code.co_varnames,
            code.co_filename,
            code.co_name,
            code.co_firstlineno,
            code.co_lnotab,
            code.co_freevars,
            code.co_cellvars,
        )
    return types.FunctionType(code, function.__globals__, function.__name__)


@contextmanager
def replaced(*places):
    """Put other attributes in places: (object, name, maker of the new from the old)."""
    before = [(where, name, getattr(where, name)) for where, name, _ in places]
    try:
        for (where, name, old), (_, _, make) in zip(before, places):
            setattr(where, name, make(old))
        yield
    finally:
        for where, name, old in before:
            setattr(where, name, old)


class OriginalProgram(object):
    """A program of the original: what it builds, caught from outside while it builds it.

    Parameters
    ----------
    label : str
        Data set and script, such as ``blizzard_vrnn_gmm``.
    path : str
        The script.
    config : dict of str to str
        What its main is given.
    constants : dict of int to int
        Literals of its main to exchange.
    """

    def __init__(self, label, path, config, constants):
        self.label, self.config, self.constants = label, config, constants
        pairs = dict(constants)
        if label == "blizzard_rnn_gmm":
            pairs.update((literal, config[name]) for literal, name in LITERAL_FOLDERS.items())
        self.script = load_script(path)  # kept: Python 2 empties a module that goes away
        self.main = with_constants(self.script.main, pairs)
        self.has_noise = "vrnn" in label
        self.drawn = None  # noise drawn by the step being built, None outside of scans
        self.scans = []  # outputs and noise of each scan
        self.layers = OrderedDict()  # what the training graph's layers give, by node
        self.mainloop = None
        self.recording = None

    def run(self, numpy_seed, mrg_seed, params=None):
        """Call main under the seeds, watching, from parameters of a file if one is given.

        Returns the `Recording`.
        """
        import theano
        from cle.cle.layers.feedforward import FullyConnectedLayer
        from cle.cle.train.ext import GradientClipping, Monitoring
        from cle.cle.utils.op import default_theano_rng

        self.rng = default_theano_rng
        self.rng.__init__(mrg_seed)
        kind = "given" if params else "small"
        self.recording = Recorder(self, kind, numpy_seed, mrg_seed)
        with replaced(
            (theano, "scan", self.watch_scan),
            (theano, "function", self.watch_function),
            (self.rng, "normal", self.watch_noise),
            (FullyConnectedLayer, "fprop", self.watch_layer),
            (GradientClipping, "exe", self.watch_clipping),
            (Monitoring, "monitor_data_based_channels", self.watch_monitoring),
            (self.script, "init_tparams", self.watch_initial(params)),
        ):
            np.random.seed(numpy_seed)
            with self.recording.log():
                self.main(self.config)
            self.recording.finish()
        self.numpy_seed = numpy_seed
        self.initial = self.recording.parameters_at_start
        return self.recording

    def restart(self, kind, mrg_seed, save_path, rate=None):
        """Train once more from larger weights with all state as at the beginning.

        The learning rate is that of the kind, unless one is given.
        """
        from cle.cle.train.ext import Monitoring
        from theano.sandbox.rng_mrg import MRG_RandomStreams

        loop = self.mainloop
        for name, value in enlarged(self.initial, kind).items():
            loop.model.params[name].set_value(value)
        for variable in loop.updates:
            if variable.name not in loop.model.params:
                variable.set_value(variable.get_value() * 0)
        lr = loop.optimizer.lr
        rate = LEARNING_RATES[kind] if rate is None else rate
        lr.set_value(np.asarray(rate, dtype=lr.dtype))
        fresh = MRG_RandomStreams(mrg_seed)
        for state, _ in self.rng.state_updates:
            state.set_value(fresh.get_substream_rstates(len(state.get_value())))
        loop.trainlog = type(loop.trainlog)()
        loop.endloop = 0
        for extension in loop.extension:
            if extension.name == "ext_save":
                extension.path = save_path
            if hasattr(extension, "best"):
                extension.best = sys.float_info.max
        if not os.path.isdir(save_path):
            os.makedirs(save_path)
        self.config = dict(self.config, lr=str(rate), save_path=save_path)
        self.recording = Recorder(self, kind, self.numpy_seed, mrg_seed)
        self.recording.add_all("init", self.initial)
        watching = (Monitoring, "monitor_data_based_channels", self.watch_monitoring)
        with replaced(watching), self.recording.log():
            loop.run()
        self.recording.finish()
        return self.recording

    def watch_initial(self, path):
        """Let parameters of a file take the place of what the script has initialised."""

        def watch(init_tparams):
            def watched(params):
                if path:
                    self.recording.add_all("init", params)
                    params = load_params(path, params)
                return init_tparams(params)

            return watched

        return watch

    def watch_scan(self, scan):
        """Let the steps of a scan hand out the noise they draw."""

        def watched(fn, sequences, outputs_info):
            def step(*args):
                self.drawn = []
                outputs = fn(*args)
                drawn, self.drawn = self.drawn, None
                return list(outputs) + drawn if drawn else outputs

            info = outputs_info + [None] if self.has_noise else outputs_info
            self.drawn = []
            outputs, updates = scan(fn=step, sequences=sequences, outputs_info=info)
            self.drawn = None
            noise = outputs.pop() if self.has_noise else None
            self.scans.append((list(outputs) if self.has_noise else [outputs], noise))
            return outputs, updates

        return watched

    def watch_noise(self, normal):
        """Note the noise that a step draws, (batch, z)."""

        def watched(*args, **kwargs):
            sample = normal(*args, **kwargs)
            if self.drawn is not None:
                self.drawn.append(sample.reshape((sample.shape[0], sample.shape[2])))
            return sample

        return watched

    def watch_layer(self, fprop):
        """Note what the layers outside of scans give the first time: in the training graph."""

        def watched(node, *args, **kwargs):
            output = fprop(node, *args, **kwargs)
            if self.drawn is None:
                self.layers.setdefault(node.name, output)
            return output

        return watched

    def watch_clipping(self, exe):
        """Note gradients before and after they are clipped."""

        def watched(extension, mainloop):
            self.mainloop, self.clipping = mainloop, extension
            self.raw = [(p.name, grad) for p, grad in mainloop.grads.items()]
            exe(extension, mainloop)
            self.clipped = [(p.name, grad) for p, grad in mainloop.grads.items()]

        return watched

    def watch_monitoring(self, monitor):
        """Count the monitoring passes."""

        def watched(extension, mainloop):
            self.recording.begin_pass(extension, mainloop.trainlog.batch_seen)
            monitor(extension, mainloop)

        return watched

    def watch_function(self, function):
        """Let the update and the monitoring hand out more than the program asks for."""

        def watched(*args, **kwargs):
            outputs = kwargs.get("outputs")
            if kwargs.get("updates") and self.mainloop is not None:
                print("Compiling the update: this takes a while")
                wanted, note = self.update_outputs(outputs[0]), self.after_update
            elif isinstance(outputs, list) and str(outputs[0].name).startswith("nll"):
                print("Compiling the monitoring")
                noise = self.scans[-1][1]
                wanted = {} if noise is None else {"eps": noise}
                note = self.after_monitoring
            else:
                return function(*args, **kwargs)
            names = sorted(wanted)
            kwargs["outputs"] = outputs + [wanted[name] for name in names]
            before = self.before_update if note == self.after_update else None
            return Watched(function(*args, **kwargs), len(outputs), names, before, note)

        return watched

    def update_outputs(self, cost):
        """Return what to see of an update, by the names of a recording."""
        import theano.tensor as T

        wanted = {}
        outputs, noise = self.scans[0]
        if noise is not None:
            wanted["eps"] = noise
            wanted["recon_term"], wanted["kl_term"] = cost.owner.inputs  # it is their sum
        size = float(self.clipping.batch_size)
        squares = [T.sqr(T.cast(grad, "float64") / size).sum() for _, grad in self.raw]
        wanted["grad_norm"] = T.sqrt(sum(squares))
        forward = dict(zip(SCAN_OUTPUTS, outputs))
        for name, output in self.layers.items():
            if name.startswith(("x_", "theta_")) or name in ("coeff", "corr", "binary"):
                forward[name] = output
        for family, values in (
            ("forward", forward),
            ("grad_raw", dict(self.raw)),
            ("grad_clipped", dict(self.clipped)),
        ):
            wanted.update(("%s/000/%s" % (family, name), v) for name, v in values.items())
        return wanted

    def before_update(self, batch):
        """Tell the recording of the run that is on."""
        self.recording.before_update(batch)

    def after_update(self, batch, outputs, seen):
        """Tell the recording of the run that is on."""
        self.recording.after_update(outputs, seen)

    def after_monitoring(self, batch, outputs, seen):
        """Tell the recording of the run that is on."""
        self.recording.after_monitoring(batch, outputs, seen)


def load_params(path, params):
    """Return parameters of a file, read by the original's function of this name.

    Raises
    ------
    Refused
        If the file has other ones.
    """
    from cle.cle import utils

    shapes = {name: value.shape for name, value in params.items()}
    utils.numpy, utils.warnings = np, warnings  # which it uses and does not import
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it only warns of what is missing
            loaded = utils.load_params(path, OrderedDict(params))
    except (EnvironmentError, ValueError, UserWarning) as error:
        raise Refused("--params %s: %s" % (path, error))
    for name, value in loaded.items():
        if value.shape != shapes[name]:
            raise Refused(
                "--params %s: %s has shape %s and not %s; give --set and --exchange the sizes of "
                "the model" % (path, name, value.shape, shapes[name])
            )
    return loaded


class Watched(object):
    """A compiled function with further outputs, which it tells and keeps to itself."""

    def __init__(self, function, n_output, names, before, after):
        self.function, self.n_output, self.names = function, n_output, names
        self.before, self.after = before, after

    def __call__(self, *batch):
        """Call the function; return what the program asked for."""
        if self.before:
            self.before(batch)
        values = self.function(*batch)
        outputs = values[: self.n_output]
        self.after(batch, outputs, dict(zip(self.names, values[self.n_output :])))
        return outputs


def enlarged(parameters, kind):
    """Return larger weights, so that every part of the model matters.

    The scripts' own are so small that units stay linear and the KL term is
    nearly zero.  For ``clipped`` the outputs get small deviations too, which
    makes the gradients huge.
    """
    rng = np.random.RandomState(99)
    larger = OrderedDict()
    for name, value in parameters.items():
        if name.startswith("W"):
            new = value * (20 if name.startswith("W_x_t__") else 5)
        elif name.startswith("b"):
            new = value + rng.normal(0, 0.18, size=value.shape)
            if kind == "clipped" and name == "b_theta_sig":
                new = new - 3
        else:
            new = value
        larger[name] = np.asarray(new, dtype=value.dtype)
    return larger


# What is recorded --------------------------------------------------------------------------


class Recorder(object):
    """The arrays of one run, by name.

    Parameters
    ----------
    program : OriginalProgram
    kind : str
        Of `KINDS`, or ``given``.
    numpy_seed, mrg_seed : int
    """

    def __init__(self, program, kind, numpy_seed, mrg_seed):
        self.program, self.kind = program, kind
        self.arrays = OrderedDict()
        self.passes_at, self.n_call = [], 0
        self.lines = []
        self.add("meta/numpy_seed", numpy_seed)
        self.add("meta/mrg_seed", mrg_seed)

    def add(self, name, value):
        """Keep a copy of a value."""
        self.arrays[name] = np.array(value)

    def add_all(self, prefix, values):
        """Keep values by name below a prefix."""
        for name, value in values.items():
            self.add("%s/%s" % (prefix, name), value)

    def add_texts(self, name, texts):
        """Keep texts, of fixed width."""
        self.add(name, np.array([text_of(t) for t in texts], dtype="U"))

    @contextmanager
    def log(self):
        """Keep the lines that the program logs meanwhile."""
        handler = logging.Handler()
        handler.emit = lambda entry: self.lines.append(entry.getMessage())
        logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)

    def parameters(self):
        """Return the parameters as they are, in the script's order."""
        params = self.program.mainloop.model.params
        return OrderedDict((name, p.get_value()) for name, p in params.items())

    def moments(self):
        """Return both moments of each parameter; they come just before it."""
        updates = list(self.program.mainloop.updates)
        names = [variable.name for variable in updates]
        places = [(name, names.index(name)) for name in self.program.mainloop.model.params]
        return [
            OrderedDict((name, updates[at - back].get_value()) for name, at in places)
            for back in (2, 1)
        ]

    def variable(self, name):
        """Return the value of an update's variable, None where there is none."""
        found = [v for v in self.program.mainloop.updates if v.name == name]
        return found[0].get_value() if found else None

    def before_update(self, batch):
        """Keep the batch and the carried state."""
        n_update = self.program.mainloop.trainlog.batch_seen
        at = "update/%03d/" % n_update
        if n_update == 0:
            self.parameters_at_start = self.parameters()
            self.add_all("param/000", self.parameters_at_start)
        for name, array in zip(("x", "mask"), batch):
            self.add(at + name, numbers(array))
        for name in ("step_count", "rnn_tm1"):
            value = self.variable(name)
            if value is not None:
                self.add("%s%s_before" % (at, name), value)

    def after_update(self, outputs, seen):
        """Keep what an update computed; its state at the snapshots."""
        n_update = self.program.mainloop.trainlog.batch_seen  # not counted yet
        at = "update/%03d/" % n_update
        self.add(at + "cost", outputs[0])
        for name, value in seen.items():
            if "/" not in name:
                self.add(at + name, value)
            elif n_update == 0:
                self.add(name, value)
        if n_update + 1 in SNAPSHOTS:
            self.snapshot(n_update + 1)

    def snapshot(self, n_update):
        """Keep parameters and moments; of the last moments only a summary."""
        self.add_all("param/%03d" % n_update, self.parameters())
        self.add("adam_counter/%03d" % n_update, self.variable("counter"))
        for family, values in zip(("adam_m", "adam_v"), self.moments()):
            if n_update == LAST:
                rows = [summary(value) for value in values.values()]
                self.add("check/%s/%03d" % (family, n_update), rows)
            else:
                self.add_all("%s/%03d" % (family, n_update), values)

    def begin_pass(self, extension, batch_seen):
        """Begin a monitoring pass."""
        if not self.passes_at:
            self.add_texts("monitor_channels", [v.name for v in extension.ddout])
            self.add_texts("monitor_data_names", [d.name for d in extension.data])
        self.passes_at.append(batch_seen)
        self.n_call = 0

    def after_monitoring(self, batch, outputs, seen):
        """Keep a call of the monitoring; batches repeat, so only those of the first pass."""
        at = "monitor_call/%03d/%02d/" % (len(self.passes_at) - 1, self.n_call)
        if len(self.passes_at) == 1:
            for name, array in zip(("x", "mask"), batch):
                self.add(at + name, numbers(array))
        self.add_all(at[:-1], seen)
        self.add(at + "out", [float(value) for value in outputs])
        self.n_call += 1

    def finish(self):
        """Keep what is known at the end."""
        self.snapshot(LAST)
        program, loop = self.program, self.program.mainloop
        log, data = loop.trainlog, loop.data.data
        paths = ("data_path", "save_path")
        config = sorted((k, v) for k, v in program.config.items() if k not in paths)
        self.add_texts("config/names", [name for name, _ in config])
        self.add_texts("config/values", [value for _, value in config])
        self.add("constants/from", np.array(sorted(program.constants), dtype=int))
        self.add(
            "constants/to",
            np.array([program.constants[c] for c in sorted(program.constants)], dtype=int),
        )
        self.add("data/X_mean", data.X_mean)
        self.add("data/X_std", data.X_std)
        dataset, _, script = program.label.partition("_")
        if dataset == "blizzard":
            parts = [loop.data] + [part for e in loop.extension for part in data_of(e)]
            # A last batch may pass the end of its range.
            self.add("data/rows", data.data[: max(part.end + part.batch_size for part in parts)])
        params = self.parameters()
        self.add_texts("param_names", list(params))
        self.add("param_shapes", [(p.shape + (0,))[:2] for p in params.values()])
        self.add_texts("node_names", [node.name for node in loop.model.nodes])
        self.add_texts("update_order", [str(variable.name) for variable in loop.updates])
        for name in ("scaler", "batch_size", "check_nan"):
            self.add("clip/" + name, getattr(program.clipping, name))
        self.add("monitor/passes_at", self.passes_at)
        for name, values in log.monitor.items():
            if not name.endswith("time"):
                self.add("trainlog/" + name, np.array(values, dtype=float))
        save_path = program.config["save_path"]
        files = sorted(os.listdir(save_path))
        self.add_texts("saved_files", files)
        sizes = [os.path.getsize(os.path.join(save_path, name)) for name in files]
        self.add("saved_sizes", sizes)
        self.add_texts("log_lines", [s.replace(save_path, "SAVE_PATH/") for s in self.lines])
        import theano

        self.add("meta/snapshots", [n for n in SNAPSHOTS if n <= log.batch_seen] + [LAST])
        for name, value in (
            ("dataset", dataset),
            ("model", script),
            ("variant", "narrow" if self.kind == "small" else self.kind),
            ("floatX", theano.config.floatX),
            ("versions", versions()),
        ):
            self.add("meta/" + name, np.array(text_of(value), dtype="U"))
        self.add("meta/n_updates", log.batch_seen)
        self.add("meta/batch_seen", log.batch_seen)
        self.add("meta/epoch_seen", log.epoch_seen)


def data_of(extension):
    """Return the data that an extension monitors."""
    return getattr(extension, "data", None) or []


def text_of(value):
    """Return text of Python 2 or 3 as unicode."""
    return value.decode("utf-8") if isinstance(value, bytes) else value


def numbers(array):
    """Return a batch as numbers: those of handwriting are arrays of objects."""
    array = np.asarray(array)
    return array.astype("float32") if array.dtype == object else array


def summary(array):
    """Return size, sum, sum of squares, norm, first and last 8 entries, in float64."""
    flat = np.asarray(array, dtype="float64").ravel()
    row = np.zeros(20)
    squares = np.sum(flat**2)
    row[:4] = flat.size, flat.sum(), squares, np.sqrt(squares)
    n_end = min(8, flat.size)
    row[4 : 4 + n_end] = flat[:8]
    row[12 : 12 + n_end] = flat[-8:]
    return row


def versions():
    """Return the versions in use, as text."""
    import scipy
    import tables
    import theano

    return "python %s, theano %s, numpy %s, scipy %s, tables %s" % (
        sys.version.split()[0],
        theano.__version__,
        np.__version__,
        scipy.__version__,
        tables.__version__,
    )


def write(path, arrays):
    """Write a recording; the file appears when it is whole."""
    temporary = path + ".tmp"
    try:
        with open(temporary, "wb") as store:
            np.savez_compressed(store, **arrays)
        os.rename(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
    print("Recorded %s" % path)


if __name__ == "__main__":
    sys.exit(main())
