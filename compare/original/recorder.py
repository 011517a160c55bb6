#!/usr/bin/env python
# -*- coding: utf-8 -*-
"""Run a training program of the original and record what it computes.

The file imports nothing of the port.  Copy it to a machine where Theano, ``cle``
and ``nips2015_vrnn`` run (Python 2.7 with Theano 0.7) and start it there:

    python2 recorder.py OUT --original FOLDER --script vrnn_gmm

``FOLDER`` contains the two repositories, in folders ``cle`` and ``nips2015_vrnn``.
The recorder does not change them.  It calls the program's ``main`` with small
settings, on a small corpus that it makes or on your data.  For each kind of run
it writes one file to OUT, ``model_<dataset>_<script>_<kind>_<floatX>.npz``, which
contains plain arrays by name.  The port repeats the run and compares:

    python -m compare OUT/model_*.npz

The code runs under Python 2.7, and under Python 3 because the port's tests import it.

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
# Layers of cle that can replace the scripts' LSTM, and the width of their state: 2 for [h | c].
RNNS = {
    "lstm": ("LSTM", 2),
    "gru": ("GRU", 1),
    "gru2": ("GRU2", 1),
    "gflstm": ("GFLSTM", 2),
    "gfgru": ("GFGRU", 1),
    "simple": ("SimpleRecurrent", 1),
}
SNAPSHOTS = (1, 2, 5, 20)  # record parameters and moments after these updates
LAST = 999  # means "after the last update"
FILE_NAME = "blizzard_unseg_tbptt"

# These settings give a run of 21 updates that compiles in a minute or two.
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

# Each script's main has its layer widths as literals.  These small widths replace them.
WIDTHS = {
    "blizzard_rnn_gauss": {800: 12},
    "blizzard_rnn_gmm": {700: 12, 4000: 9},  # 4000 is rnn_dim, which this script hard-codes
    "blizzard_vrnn_gauss": {500: 10, 600: 12},
    "blizzard_vrnn_gmm": {500: 10},
    "iamondb_rnn_gauss": {340: 10},
    "iamondb_rnn_gmm": {300: 10},
    "iamondb_vrnn_gauss": {150: 7, 250: 9},
    "iamondb_vrnn_gmm": {150: 7, 250: 9},
}
# Row ranges of the Blizzard scripts: end of the training rows, number of training rows that are
# monitored, end of the validation rows.
ROWS = (2040064, 112640, 2152704)
SMALL_ROWS = (31, 13, 45)
# One script also has its folders as literals.
LITERAL_FOLDERS = {
    "/data/lisatmp3/chungjun/data/blizzard_unseg/": "data_path",
    "/data/lisatmp/chungjun/nips2015/blizzard/pkl/": "save_path",
}
SCAN_OUTPUTS = ("s", "phi_mu", "phi_sig", "prior_mu", "prior_sig", "z_last")
LEARNING_RATES = {"strong": 3e-3, "clipped": 1e-2}


def main(argv=None):
    """Record the runs that the command line asks for.

    Returns 0, or 2 if an argument or the installation is unusable.
    """
    args = parse(argv)
    try:
        record(args)
    except Refused as error:
        print("error: %s" % error, file=sys.stderr)
        return 2
    return 0


class Refused(Exception):
    """An argument or an installation that the user can correct."""


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
    parser.add_argument(
        "--rnn",
        choices=sorted(RNNS),
        default="lstm",
        help="replace the script's LSTM by another layer of cle",
    )
    parser.add_argument("--floatX", choices=("float32", "float64"), default="float64")
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=KINDS,
        default=["small"],
        help="small: start from the script's own weights; strong: start again from larger "
        "weights; clipped: the same with gradients far above the clipping threshold",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change an entry of the script's config.txt, such as batch_size=8; may be repeated",
    )
    parser.add_argument(
        "--exchange",
        action="append",
        default=[],
        metavar="FROM=TO",
        help="replace a number in the script's main, such as 500=20 for a layer width; may be "
        "repeated; with --own_sizes only these numbers are replaced",
    )
    parser.add_argument(
        "--own_sizes", action="store_true", help="keep the script's own layer widths and rows"
    )
    parser.add_argument("--data_path", help="folder of your data; default: make a small corpus")
    parser.add_argument(
        "--checkpoints",
        help="keep the program's checkpoints in this folder, with a subfolder for each kind",
    )
    parser.add_argument(
        "--params",
        metavar="FILE.npz",
        help="start from these parameters, by name, instead of the script's own; the kind of the "
        "run is then 'given' (python -m compare export writes such files)",
    )
    parser.add_argument("--numpy_seed", type=int, default=20150)
    parser.add_argument("--mrg_seed", type=int, default=4242)
    parser.add_argument(
        "--optimizer",
        default="fast_compile",
        help="optimizer of Theano: fast_compile (default), or fast_run, which compiles slowly",
    )
    return parser.parse_args(argv)


def record(args):
    """Run the program once for each kind of run and write a recording of each.

    Raises
    ------
    Refused
        If an argument or the installation is unusable.
    """
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
        program = OriginalProgram(label, path, config, replacements(args, label), args.rnn)

        def write_recording(recorder):
            variant = label if args.rnn == "lstm" else label + "_" + args.rnn
            name = "model_%s_%s_%s.npz" % (variant, recorder.kind, args.floatX)
            write(os.path.join(args.out, name), recorder.arrays)

        recorder = program.run(args.numpy_seed, args.mrg_seed, args.params)
        if args.params or "small" in args.kinds:
            write_recording(recorder)
        for kind in ("strong", "clipped"):
            if kind in args.kinds and not args.params:
                seed = args.mrg_seed + KINDS.index(kind)
                has_rate = any(change.startswith("lr=") for change in args.set)
                rate = float(config["lr"]) if has_rate else None
                save_path = folder(os.path.join(saved, kind))
                write_recording(program.restart(kind, seed, save_path, rate))
    finally:
        shutil.rmtree(work)


def settings(dataset, changes):
    """Return the entries of the script's config.txt, all as text.

    Raises
    ------
    Refused
        If a change is not of the form NAME=VALUE or names an unknown entry.
    """
    config = dict(COMMON_CONFIG, **CONFIG[dataset])
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals or name not in config:
            raise Refused("--set %s: give NAME=VALUE, NAME of %s" % (change, sorted(config)))
        config[name] = value
    return config


def replacements(args, label):
    """Return the literals of main to replace, old to new.

    Raises
    ------
    Refused
        If a replacement is not of the form FROM=TO.
    """
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
    """Return the path of a program of nips2015_vrnn.

    Raises
    ------
    Refused
        If the program or ``cle`` is not in the folder.
    """
    path = os.path.join(original, "nips2015_vrnn", "models", dataset, script + ".py")
    for needed in (path, os.path.join(original, "cle", "cle", "train", "ext.py")):
        if not os.path.isfile(needed):
            raise Refused(
                "there is no %s; give --original the folder that has the repositories cle and "
                "nips2015_vrnn in it" % needed
            )
    return path


def folder(path):
    """Return an absolute path that ends in a slash, as the scripts need it."""
    return os.path.join(os.path.abspath(path), "")


def prepare_imports(args):
    """Set Theano's flags, put the original on the path and replace missing optional modules.

    Raises
    ------
    Refused
        If Theano or PyTables cannot be imported.
    """
    flags = "device=cpu,floatX=%s,optimizer=%s" % (args.floatX, args.optimizer)
    users_flags = os.environ.get("THEANO_FLAGS")
    os.environ["THEANO_FLAGS"] = users_flags + "," + flags if users_flags else flags
    os.environ.setdefault("MPLBACKEND", "Agg")
    sys.path.insert(0, os.path.abspath(args.original))
    sys.dont_write_bytecode = True  # bytecode would change the original's folders
    sys.modules["ipdb"] = types.ModuleType("ipdb")  # the original imports it but does not use it
    if not available("matplotlib.pyplot"):  # the original uses it for pictures only
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
                "%s cannot import the module %s; run this file with the Python that runs the "
                "original (docs/original.md)" % (sys.executable, name)
            )
    import tables

    if not hasattr(tables, "openFile"):  # PyTables 3.2 removed the old names
        tables.openFile = tables.open_file
        tables.File.createEArray = tables.File.create_earray


def available(name):
    """Return whether a module can be imported."""
    try:
        __import__(name)
    except ImportError:
        return False
    return True


# A small corpus ----------------------------------------------------------------------------


def make_corpus(dataset, work):
    """Write a small corpus in the original's file formats; return its folder."""
    data_path = os.path.join(work, "data")
    os.makedirs(data_path)
    rng = np.random.RandomState(1234)
    if dataset == "blizzard":
        make_blizzard(data_path, rng)
    else:
        make_iamondb(data_path, rng)
    return data_path


def make_blizzard(data_path, rng, n_row=72, width=40):
    """Write smooth int16 noise of shape (n_row, width), and its mean and standard deviation."""
    import tables

    size = n_row * width
    noise = rng.normal(0, 300, size=size + 4)
    rows = sum(noise[i : i + size] for i in range(5)).reshape(n_row, width).astype("int16")
    with tables.open_file(os.path.join(data_path, FILE_NAME + ".h5"), "w") as store:
        data = store.create_earray(store.root, "data", tables.Int16Atom(), shape=(0, width))
        data.append(rows)
    X_mean, X_std = rows.mean(), rows.std()
    np.savez(os.path.join(data_path, FILE_NAME + "_normal.npz"), X_mean=X_mean, X_std=X_std)


def make_iamondb(data_path, rng):
    """Write the cache files that the original keeps next to a corpus of handwriting."""
    for name in ("lineStrokes", "ascii"):
        os.makedirs(os.path.join(data_path, name))
    for part, n_line in (("train", 28), ("valid", 8)):
        # The list of files is empty because the cache has all lines.
        open(os.path.join(data_path, part + ".txt"), "w").close()
        lines = [make_line(rng, 11 + int(rng.randint(5))) for _ in range(n_line)]
        labels = [np.eye(57, dtype="int16")[rng.randint(57, size=4)] for _ in lines]
        for axis, content in (("x", lines), ("y", labels)):
            with open(os.path.join(data_path, "%s_npy_%s.npy" % (part, axis)), "wb") as store:
                pickle.dump(content, store, 0)


def make_line(rng, n_point):
    """Return the points of a pen, shape (n_point, 3): 1 if it is lifted, and two coordinates."""
    line = np.cumsum(rng.randint(-40, 60, size=(n_point, 3)), axis=0)
    line[:, 0] = rng.uniform(size=n_point) < 0.2
    line[-1, 0] = 1
    return line


# Driving the program -----------------------------------------------------------------------


def load_script(path):
    """Execute a script of the original as a module; this does not call its main."""
    module = types.ModuleType("original_script")
    with open(path) as script:
        # dont_inherit is True because the script uses print as a statement.
        exec(compile(script.read(), path, "exec", 0, True), module.__dict__)
    return module


def use_recurrence(script, rnn):
    """Let a script make another layer of cle where it makes its LSTM.

    The scripts for Blizzard also make the carried state, a shared variable of
    two columns for each hidden unit.  A layer without cells has half of these.
    """
    from cle.cle.layers import recurrent

    name, width = RNNS[rnn]
    shared = script.sharedX
    script.LSTM = getattr(recurrent, name)

    def shared_state(value, name=None):
        if name == "rnn_tm1":
            value = value[:, : value.shape[1] * width // 2]
        return shared(value, name=name)

    script.sharedX = shared_state


def with_constants(function, pairs):
    """Return a copy of a function with other literals.

    Parameters
    ----------
    function : function
    pairs : dict
        Literals to replace, integers or text, old to new.

    Raises
    ------
    Refused
        If the function does not contain one of the literals.
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
    """Replace attributes within a context.

    Parameters
    ----------
    places : tuples (owner, name, make)
        ``make`` returns the new attribute, given the old one.
    """
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
    try:
        for (owner, name, old), (_, _, make) in zip(originals, places):
            setattr(owner, name, make(old))
        yield
    finally:
        for owner, name, old in originals:
            setattr(owner, name, old)


class OriginalProgram(object):
    """A program of the original, wrapped so that a `Recorder` sees what it builds and computes.

    Parameters
    ----------
    label : str
        Dataset and script, such as ``blizzard_vrnn_gmm``.
    path : str
        Path of the script.
    config : dict of str to str
        Argument of the script's main.
    constants : dict of int to int
        Literals of the script's main to replace, old to new.
    rnn : str
        Layer that replaces the script's LSTM, one of `RNNS`.
    """

    def __init__(self, label, path, config, constants, rnn="lstm"):
        self.label, self.config, self.constants, self.rnn = label, config, constants, rnn
        pairs = dict(constants)
        if label == "blizzard_rnn_gmm":
            pairs.update((literal, config[name]) for literal, name in LITERAL_FOLDERS.items())
        self.script = load_script(path)  # Python 2 would empty an unreferenced module
        if rnn != "lstm":
            use_recurrence(self.script, rnn)
        self.main = with_constants(self.script.main, pairs)
        self.has_noise = "vrnn" in label
        self.drawn = None  # noise drawn in the step being built; None outside of scans
        self.scans = []  # outputs and noise of each scan
        self.layers = OrderedDict()  # outputs of the training graph's layers, by node
        self.mainloop = None
        self.recorder = None

    def run(self, numpy_seed, mrg_seed, params=None):
        """Call main with the given seeds and record the run.

        Parameters
        ----------
        numpy_seed, mrg_seed : int
            Seeds of NumPy's generator and of Theano's.
        params : str, optional
            File of parameters to start from.

        Returns
        -------
        Recorder
        """
        import theano
        from cle.cle.layers.feedforward import FullyConnectedLayer
        from cle.cle.train.ext import GradientClipping, Monitoring
        from cle.cle.utils.op import default_theano_rng

        self.rng = default_theano_rng
        self.rng.__init__(mrg_seed)
        kind = "given" if params else "small"
        self.recorder = Recorder(self, kind, numpy_seed, mrg_seed)
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
            with self.recorder.log():
                self.main(self.config)
            self.recorder.finish()
        self.numpy_seed = numpy_seed
        self.initial = self.recorder.parameters_at_start
        return self.recorder

    def restart(self, kind, mrg_seed, save_path, rate=None):
        """Train again from larger weights, with all other state reset, and record the run.

        Parameters
        ----------
        kind : {'strong', 'clipped'}
        mrg_seed : int
            Seed of Theano's generator.
        save_path : str
            Folder of the checkpoints.
        rate : float, optional
            Learning rate; default is the rate of the kind.

        Returns
        -------
        Recorder
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
        self.recorder = Recorder(self, kind, self.numpy_seed, mrg_seed)
        self.recorder.add_all("init", self.initial)
        watching = (Monitoring, "monitor_data_based_channels", self.watch_monitoring)
        with replaced(watching), self.recorder.log():
            loop.run()
        self.recorder.finish()
        return self.recorder

    def watch_initial(self, path):
        """Replace the initial parameters of the script by those of a file, if one is given."""

        def watch(init_tparams):
            def watched(params):
                if path:
                    self.recorder.add_all("init", params)
                    params = load_params(path, params)
                return init_tparams(params)

            return watched

        return watch

    def watch_scan(self, scan):
        """Add the noise that the steps draw to the outputs of a scan."""

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
        """Keep the noise that a step draws, shape (batch_size, z_dim)."""

        def watched(*args, **kwargs):
            sample = normal(*args, **kwargs)
            if self.drawn is not None:
                self.drawn.append(sample.reshape((sample.shape[0], sample.shape[2])))
            return sample

        return watched

    def watch_layer(self, fprop):
        """Keep the first output of each layer outside of scans, which is in the training graph."""

        def watched(node, *args, **kwargs):
            output = fprop(node, *args, **kwargs)
            if self.drawn is None:
                self.layers.setdefault(node.name, output)
            return output

        return watched

    def watch_clipping(self, exe):
        """Keep the gradients before and after they are clipped."""

        def watched(extension, mainloop):
            self.mainloop, self.clipping = mainloop, extension
            self.raw = [(p.name, grad) for p, grad in mainloop.grads.items()]
            exe(extension, mainloop)
            self.clipped = [(p.name, grad) for p, grad in mainloop.grads.items()]

        return watched

    def watch_monitoring(self, monitor):
        """Tell the recorder when a monitoring pass begins."""

        def watched(extension, mainloop):
            self.recorder.begin_pass(extension, mainloop.trainlog.batch_seen)
            monitor(extension, mainloop)

        return watched

    def watch_function(self, function):
        """Add outputs to the compiled functions of the update and of the monitoring."""

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
        """Return the additional outputs of an update, by their names in a recording."""
        import theano.tensor as T

        wanted = {}
        outputs, noise = self.scans[0]
        if noise is not None:
            wanted["eps"] = noise
            wanted["recon_term"], wanted["kl_term"] = cost.owner.inputs  # the cost is their sum
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

    # The compiled functions serve several runs, so these look up the recorder of the current one.

    def before_update(self, batch):
        """Pass the batch of an update to the recorder of the current run."""
        self.recorder.before_update(batch)

    def after_update(self, batch, outputs, seen):
        """Pass the outputs of an update to the recorder of the current run."""
        self.recorder.after_update(outputs, seen)

    def after_monitoring(self, batch, outputs, seen):
        """Pass the outputs of a monitoring call to the recorder of the current run."""
        self.recorder.after_monitoring(batch, outputs, seen)


def load_params(path, params):
    """Return the parameters of a file, read by the original's function of this name.

    Parameters
    ----------
    path : str
    params : dict of str to ndarray
        Initial parameters of the script.

    Raises
    ------
    Refused
        If the file is unreadable, or its names or shapes differ from those of ``params``.
    """
    from cle.cle import utils

    shapes = {name: value.shape for name, value in params.items()}
    utils.numpy, utils.warnings = np, warnings  # the function uses them without importing them
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # the function only warns about missing parameters
            loaded = utils.load_params(path, OrderedDict(params))
    except (EnvironmentError, ValueError, UserWarning) as error:
        raise Refused("--params %s: %s" % (path, error))
    for name, value in loaded.items():
        if value.shape != shapes[name]:
            raise Refused(
                "--params %s: %s has shape %s and not %s; set the sizes of the model with --set "
                "and --exchange" % (path, name, value.shape, shapes[name])
            )
    return loaded


class Watched(object):
    """A compiled function with additional outputs, which only the recorder sees.

    Parameters
    ----------
    function : callable
        The compiled function.
    n_output : int
        Number of outputs that the program asked for; the others follow.
    names : list of str
        Names of the additional outputs.
    before : callable or None
        Called with the batch before each call.
    after : callable
        Called with batch, outputs and additional outputs by name after each call.
    """

    def __init__(self, function, n_output, names, before, after):
        self.function, self.n_output, self.names = function, n_output, names
        self.before, self.after = before, after

    def __call__(self, *batch):
        """Call the function and return the outputs that the program asked for."""
        if self.before:
            self.before(batch)
        values = self.function(*batch)
        outputs = values[: self.n_output]
        self.after(batch, outputs, dict(zip(self.names, values[self.n_output :])))
        return outputs


def enlarged(parameters, kind):
    """Return larger weights, so that every part of the model affects the cost.

    The scripts' own weights are so small that units stay linear and the KL term
    is nearly zero.  For ``clipped`` the outputs also get small standard
    deviations, which make the gradients huge.
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
    """Collects the arrays of one run, by name, while the program runs.

    Parameters
    ----------
    program : OriginalProgram
    kind : str
        One of `KINDS`, or ``given``.
    numpy_seed, mrg_seed : int
        Seeds of NumPy's generator and of Theano's.
    """

    def __init__(self, program, kind, numpy_seed, mrg_seed):
        self.program, self.kind = program, kind
        self.arrays = OrderedDict()
        self.passes_at, self.n_call = [], 0
        self.lines = []
        self.add("meta/numpy_seed", numpy_seed)
        self.add("meta/mrg_seed", mrg_seed)

    def add(self, name, value):
        """Record a copy of a value."""
        self.arrays[name] = np.array(value)

    def add_all(self, prefix, values):
        """Record the values of a dictionary as ``prefix/name``."""
        for name, value in values.items():
            self.add("%s/%s" % (prefix, name), value)

    def add_texts(self, name, texts):
        """Record texts as an array of fixed-width unicode."""
        self.add(name, np.array([text_of(text) for text in texts], dtype="U"))

    @contextmanager
    def log(self):
        """Collect the lines that the program logs within this context."""
        handler = logging.Handler()
        handler.emit = lambda entry: self.lines.append(entry.getMessage())
        logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)

    def parameters(self):
        """Return the current parameters, in the script's order."""
        params = self.program.mainloop.model.params
        return OrderedDict((name, p.get_value()) for name, p in params.items())

    def moments(self):
        """Return the first and the second moments of all parameters.

        In the updates the two moments of a parameter precede the parameter.
        """
        updates = list(self.program.mainloop.updates)
        names = [variable.name for variable in updates]
        positions = [(name, names.index(name)) for name in self.program.mainloop.model.params]
        return [
            OrderedDict((name, updates[i - back].get_value()) for name, i in positions)
            for back in (2, 1)
        ]

    def variable(self, name):
        """Return the value of a shared variable of the update, or None without such a variable."""
        found = [v for v in self.program.mainloop.updates if v.name == name]
        return found[0].get_value() if found else None

    def add_batch(self, prefix, batch):
        """Record a batch below a prefix."""
        for name, array in zip(("x", "mask"), batch):
            self.add("%s/%s" % (prefix, name), numbers(array))

    def before_update(self, batch):
        """Record the batch and the carried state."""
        n_update = self.program.mainloop.trainlog.batch_seen
        prefix = "update/%03d" % n_update
        if n_update == 0:
            self.parameters_at_start = self.parameters()
            self.add_all("param/000", self.parameters_at_start)
        self.add_batch(prefix, batch)
        for name in ("step_count", "rnn_tm1"):
            value = self.variable(name)
            if value is not None:
                self.add("%s/%s_before" % (prefix, name), value)

    def after_update(self, outputs, seen):
        """Record the outputs of an update, and a snapshot if the update is in `SNAPSHOTS`."""
        n_update = self.program.mainloop.trainlog.batch_seen  # does not count this update yet
        prefix = "update/%03d" % n_update
        self.add(prefix + "/cost", outputs[0])
        for name, value in seen.items():
            if "/" not in name:
                self.add("%s/%s" % (prefix, name), value)
            elif n_update == 0:
                self.add(name, value)
        if n_update + 1 in SNAPSHOTS:
            self.snapshot(n_update + 1)

    def snapshot(self, n_update):
        """Record parameters and moments; the last moments only as summaries."""
        self.add_all("param/%03d" % n_update, self.parameters())
        self.add("adam_counter/%03d" % n_update, self.variable("counter"))
        for family, values in zip(("adam_m", "adam_v"), self.moments()):
            if n_update == LAST:
                rows = [summary(value) for value in values.values()]
                self.add("check/%s/%03d" % (family, n_update), rows)
            else:
                self.add_all("%s/%03d" % (family, n_update), values)

    def begin_pass(self, extension, batch_seen):
        """Begin a monitoring pass after ``batch_seen`` updates."""
        if not self.passes_at:
            self.add_texts("monitor_channels", [channel.name for channel in extension.ddout])
            self.add_texts("monitor_data_names", [data.name for data in extension.data])
        self.passes_at.append(batch_seen)
        self.n_call = 0

    def after_monitoring(self, batch, outputs, seen):
        """Record a call of the monitoring.

        All passes use the same batches, so only the first pass records them.
        """
        prefix = "monitor_call/%03d/%02d" % (len(self.passes_at) - 1, self.n_call)
        if len(self.passes_at) == 1:
            self.add_batch(prefix, batch)
        self.add_all(prefix, seen)
        self.add(prefix + "/out", [float(value) for value in outputs])
        self.n_call += 1

    def finish(self):
        """Record what is known after the last update."""
        self.snapshot(LAST)
        self.add_settings()
        self.add_data()
        self.add_structure()
        self.add_log()
        self.add_meta()

    def add_settings(self):
        """Record the settings and the replaced literals."""
        config, constants = self.program.config, self.program.constants
        names = sorted(name for name in config if name not in ("data_path", "save_path"))
        self.add_texts("config/names", names)
        self.add_texts("config/values", [config[name] for name in names])
        literals = sorted(constants)
        self.add("constants/from", np.array(literals, dtype=int))
        self.add("constants/to", np.array([constants[old] for old in literals], dtype=int))

    def add_data(self):
        """Record the statistics of the data, and the rows that a Blizzard program reads."""
        loop = self.program.mainloop
        data = loop.data.data
        self.add("data/X_mean", data.X_mean)
        self.add("data/X_std", data.X_std)
        if self.program.label.startswith("blizzard"):
            parts = [loop.data] + [part for e in loop.extension for part in data_of(e)]
            # The last batch of a range may extend past its end.
            self.add("data/rows", data.data[: max(part.end + part.batch_size for part in parts)])

    def add_structure(self):
        """Record names, shapes and order of parameters, nodes and updates, and the clipping."""
        loop, params = self.program.mainloop, self.parameters()
        self.add_texts("param_names", list(params))
        self.add("param_shapes", [(p.shape + (0,))[:2] for p in params.values()])
        self.add_texts("node_names", [node.name for node in loop.model.nodes])
        self.add_texts("update_order", [str(variable.name) for variable in loop.updates])
        for name in ("scaler", "batch_size", "check_nan"):
            self.add("clip/" + name, getattr(self.program.clipping, name))

    def add_log(self):
        """Record the training log, the logged lines and the saved files."""
        self.add("monitor/passes_at", self.passes_at)
        for name, values in self.program.mainloop.trainlog.monitor.items():
            if not name.endswith("time"):
                self.add("trainlog/" + name, np.array(values, dtype=float))
        save_path = self.program.config["save_path"]
        files = sorted(os.listdir(save_path))
        self.add_texts("saved_files", files)
        sizes = [os.path.getsize(os.path.join(save_path, name)) for name in files]
        self.add("saved_sizes", sizes)
        lines = [line.replace(save_path, "SAVE_PATH/") for line in self.lines]
        self.add_texts("log_lines", lines)

    def add_meta(self):
        """Record program, kind of run, precision, versions and numbers of updates and epochs."""
        import theano

        log = self.program.mainloop.trainlog
        dataset, _, script = self.program.label.partition("_")
        self.add("meta/snapshots", [n for n in SNAPSHOTS if n <= log.batch_seen] + [LAST])
        for name, value in (
            ("dataset", dataset),
            ("model", script),
            ("rnn", self.program.rnn),
            ("variant", "narrow" if self.kind == "small" else self.kind),
            ("floatX", theano.config.floatX),
            ("versions", versions()),
        ):
            self.add("meta/" + name, np.array(text_of(value), dtype="U"))
        self.add("meta/n_updates", log.batch_seen)
        self.add("meta/batch_seen", log.batch_seen)
        self.add("meta/epoch_seen", log.epoch_seen)


def data_of(extension):
    """Return the data that an extension monitors, or an empty list."""
    return getattr(extension, "data", None) or []


def text_of(value):
    """Return text as unicode, in Python 2 as in Python 3."""
    return value.decode("utf-8") if isinstance(value, bytes) else value


def numbers(array):
    """Return a batch as an array of numbers; batches of handwriting are arrays of objects."""
    array = np.asarray(array)
    return array.astype("float32") if array.dtype == object else array


def summary(array):
    """Return size, sum, sum of squares, norm, first and last 8 entries: 20 numbers in float64.

    Entries that a short array lacks are 0.
    """
    flat = np.asarray(array, dtype="float64").ravel()
    values = np.zeros(20)
    squares = np.sum(flat**2)
    values[:4] = flat.size, flat.sum(), squares, np.sqrt(squares)
    n_end = min(8, flat.size)
    values[4 : 4 + n_end] = flat[:8]
    values[12 : 12 + n_end] = flat[-8:]
    return values


def versions():
    """Return the versions of Python, Theano, NumPy, SciPy and PyTables, as text."""
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
    """Write a recording under a temporary name and rename it when it is complete."""
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
