"""Calls are those of the original: its arguments come first, under its names, with its defaults.

What the port adds comes behind them.
"""

from __future__ import annotations

import ast
import importlib
import inspect

import pytest

# Arguments of what is ported, as `cle` and `nips2015_vrnn` have them; ... is a default that is
# an object.  What takes none is left out.
ORIGINAL = {
    "cle_port.models": {
        "Model.set_updates": "updates",
        "Model.__init__": "inputs=None, nodes=None, params=None, updates=None",
    },
    "cle_port.utils": {
        "segment_axis": "a, length, overlap=0, axis=None, end='cut', endvalue=0",
        "sharedX": "value, name=None, borrow=False",
        "tolist": "arg",
        "castX": "value",
        "unzip": "zipped",
        "zipp": "params, tparams",
        "totuple": "arg",
        "init_tparams": "params",
        "topological_sort": "graph",
        "one_hot": "labels, nlabels=None",
        "T_one_hot": "labels, nlabels=None",
        "flatten": "nested_list",
        "uniqify": "seq",
        "shared_int": "value, dtype='int32', name=None, borrow=False",
        "predict": "probs, axis=-1",
        "error": "labels, pred_labels",
        "unpack": "arg",
        "todict": "args",
        "itemlist": "tparams",
        "load_params": "path, params",
    },
    "cle_port.utils.compat": {"first_key": "obj", "first_value": "obj"},
    "cle_port.utils.gpu_op": {"softmax": "X", "concatenate": "tensor_list, axis=0"},
    "cle_port.cost": {
        "GMM": "y, mu, sig, coeff",
        "Gaussian": "y, mu, sig",
        "BiGMM": "y, mu, sig, coeff, corr, binary",
        "KLGaussianStdGaussian": "mu, sig",
        "BiGauss": "y, mu, sig, corr, binary",
        "KLGaussianGaussian": "mu1, sig1, mu2, sig2, keep_dims=0",
    },
    "cle_port.train.opt": {
        "Optimizer.__init__": "lr, lr_scalers=None",
        "Adam.get_updates": "grads",
        "Adam.__init__": "b1=0.9, b2=0.999, lambd=0.99999999, eps=1e-08",
        "Momentum.get_updates": "grads",
        "Momentum.__init__": "mom=0.9, nesterov=False",
        "RMSProp.get_updates": "grads",
        "RMSProp.__init__": "mom=0.9, sec_mom=0.95, e=0.0001",
        "Adam2.get_updates": "grads",
    },
    "cle_port.layers": {
        "StemCell.__init__": (
            "name, parent=[], parent_dim=[], nout=None, init_W=..., init_b=..., cons=0.0, "
            "use_bias=1, lr_scaler=1.0, x_as_index=0"
        ),
        "NonlinCell.linear": "z",
        "NonlinCell.sigmoid": "z",
        "NonlinCell.tanh": "z",
        "NonlinCell.softplus": "z",
        "NonlinCell.hard_sigmoid": "z",
        "NonlinCell.hard_tanh": "z",
        "NonlinCell.relu": "z",
        "NonlinCell.gpu_softmax": "z",
        "NonlinCell.steeper_sigmoid": "z",
        "NonlinCell.which_fn": "which",
        "NonlinCell.__init__": "unit=None",
        "NonlinCell.softmax": "z",
        "InitCell.rand": "shape",
        "InitCell.which_init": "which",
        "InitCell.randn": "shape",
        "InitCell.get": "shape",
        "InitCell.ortho": "shape",
        "InitCell.getX": "shape, name=None",
        "InitCell.ones": "shape",
        "InitCell.zeros": "shape",
        "InitCell.const": "shape",
        "InitCell.setX": "x, name=None",
        "InitCell.__init__": "init_type='randn', mean=0.0, std_dev=0.01, low=-0.08, high=0.08",
    },
    "cle_port.data.prep": {
        "StaticPrepMixin.normalize": "X, X_mean=None, X_std=None, axis=0",
        "StaticPrepMixin.global_normalize": "X, X_mean=None, X_std=None",
        "StaticPrepMixin.standardize": "X, X_max=None, X_min=None",
        "SequentialPrepMixin.stft": "X",
        "SequentialPrepMixin.global_normalize": "X, X_mean=None, X_std=None",
        "SequentialPrepMixin.irfft": "X",
        "SequentialPrepMixin.standardize": "X, X_max=None, X_min=None",
        "SequentialPrepMixin.reverse": "X",
        "SequentialPrepMixin.fill_zero": "X, pad_len=0, mode='righthand'",
        "SequentialPrepMixin.numpy_irfft": "X",
        "SequentialPrepMixin.rfft": "X",
        "SequentialPrepMixin.fill_zero1D": "x, pad_len=0, mode='righthand'",
        "SequentialPrepMixin.istft": "X",
        "SequentialPrepMixin.numpy_rfft": "X",
        "SequentialPrepMixin.norm_normalize": "X, avr_norm=None",
    },
    "datasets.blizzard": {
        "P2R": "magnitude, phase",
        "R2P": "x",
        "is_power2": "num",
        "Blizzard.load": "data_path",
        "Blizzard.concatenate": "batch",
        "Blizzard.apply_fft": "batch",
        "Blizzard.slices": "start, end",
        "Blizzard.apply_ifft": "batch",
        "Blizzard.apply_window": "batch",
        "Blizzard.log_magnitude": "batch",
        "Blizzard.pow_magnitude": "batch",
        "Blizzard.__init__": (
            "X_mean=None, X_std=None, shuffle=0, seq_len=32000, use_window=0, use_spec=0, "
            "frame_size=200, overlap=0, file_name='full_blizzard'"
        ),
        "Blizzard_tbptt.load": "data_path",
        "Blizzard_tbptt.__init__": (
            "batch_size=100, file_name='blizzard_tbptt', range_start=0, range_end=None"
        ),
    },
    "datasets.grep_blizzard_hdf5": {
        "fetch_blizzard": "data_path, shuffle=0, sz=32000, file_name='full_blizzard.h5'",
        "fetch_blizzard_tbptt": (
            "data_path, sz=8000, batch_size=100, file_name='blizzard_tbptt.h5'"
        ),
    },
    "cle_port.utils.op": {
        "Gaussian_sample": "mu, sig, num_sample=None, theano_rng=...",
        "GMM_sample": "mu, sig, coeff, theano_rng=...",
        "logsumexp": "x, axis=None",
        "GMM_sample_mean": "mu, sig, coeff, theano_rng=...",
        "GMM_argmax_mean": "mu, sig, coeff, theano_rng=...",
        "dropout": "x, p=0.5, theano_rng=...",
        "add_noise": "x, std_dev=0.075, theano_rng=...",
        "add_noise_params": "params, keys=['W'], std_dev=0.075",
        "overlap_sum": "X, overlap",
        "batch_overlap_sum": "X, overlap",
        "complex_to_real": "X",
        "real_to_complex": "X",
        "numpy_rfft": "X",
        "numpy_irfft": "X",
    },
    "cle_port.train.ext": {
        "Monitoring.monitor_data_based_channels": "mainloop",
        "Monitoring.__init__": (
            "freq, ddout=None, data=None, monitor_fn=None, obj_monitor_fn=None, "
            "obj_monitor_ch=[], explosion_limit=100000000.0"
        ),
        "Monitoring.exe": "mainloop",
        "EpochCount.__init__": "num_epoch",
        "EpochCount.exe": "mainloop",
        "Extension.exe": "mainloop",
        "WeightNorm.__init__": "is_vector=1, weight_norm=1.9365, keys=['W'], waivers=[]",
        "WeightNorm.exe": "mainloop",
        "WeightDecay.__init__": "lambd=0.0002, keys=['W']",
        "WeightDecay.exe": "mainloop",
        "LrLinearDecay.__init__": "start, end, decay_factor",
        "LrLinearDecay.exe": "mainloop",
        "LrExponentialDecay.__init__": "decay_factor, min_lr",
        "LrExponentialDecay.exe": "mainloop",
        "EarlyStopping.__init__": "path, channel=None, freq=1, force_save_freq=None, minimize=1",
        "EarlyStopping.exe": "mainloop",
        "GradientClipping.__init__": "scaler=5, batch_size=1, check_nan=0",
        "GradientClipping.exe": "mainloop",
        "Picklize.__init__": "freq, path, force_save_freq=1000000000000000.0",
        "Picklize.exe": "mainloop",
    },
    "cle_port.layers.feedforward": {
        "FullyConnectedLayer.fprop": "X, tparams, ndim=None",
    },
    "cle_port.layers.recurrent": {
        "RecurrentLayer.get_init_state": "batch_size",
        "RecurrentLayer.__init__": "recurrent=[], recurrent_dim=[], self_recurrent=1, init_U=...",
        "SimpleRecurrent.fprop": "XH, tparams",
        "LSTM.get_init_state": "batch_size",
        "LSTM.fprop": "XH, tparams",
    },
    "cle_port.data": {
        "TemporalSeries.create_mask_and_zero_pad": "batch",
        "TemporalSeries.zero_pad": "batch",
        "TemporalSeries.create_mask": "batch",
        "TemporalSeries.slices": "start, end",
        "Data.load": "path",
        "Data.multi_process_slices": "mid=-1",
        "Data.__init__": "name=None, path=None, multi_process=0",
        "DesignMatrix.slices": "start, end",
        "Iterator.__init__": (
            "data, batch_size=None, nbatch=None, start=0, end=None, shuffle=False, "
            "infinite_data=0, pseudo_n=1000000"
        ),
    },
    "cle_port.train": {
        "Training.run_extension": "name",
        "Training.find_extension": "name",
        "Training.__init__": (
            "name, data, model, optimizer, cost, outputs, debug_print=0, trainlog=None, "
            "extension=None"
        ),
    },
}
# Noise and choices are inputs of the graph; see "Noise is an input of the graph" in the ledger.
DEPARTURES = {
    "cle_port.utils.op": (
        "Gaussian_sample",
        "GMM_sample",
        "GMM_sample_mean",
        "GMM_argmax_mean",
        "dropout",
        "add_noise",
    ),
}
CALLS = [
    pytest.param(module, name, arguments, id=f"{module}.{name}")
    for module, functions in ORIGINAL.items()
    for name, arguments in functions.items()
    if name not in DEPARTURES.get(module, ())
]


def defaults(arguments: str) -> dict[str, object]:
    """Names of arguments with their defaults; `inspect.Parameter.empty` where there is none."""
    function = ast.parse(f"lambda {arguments}: 0", mode="eval").body
    assert isinstance(function, ast.Lambda)
    args = function.args
    values = [ast.literal_eval(default) for default in args.defaults]
    missing = [inspect.Parameter.empty] * (len(args.args) - len(values))
    return dict(zip((arg.arg for arg in args.args), missing + values))


@pytest.mark.parametrize(("module", "name", "arguments"), CALLS)
def test_the_originals_arguments_come_first(module, name, arguments):
    call = importlib.import_module(module)
    for part in name.split("."):
        call = getattr(call, part)
    ours = {k: p for k, p in inspect.signature(call).parameters.items() if k != "self"}
    theirs = defaults(arguments)
    assert list(ours)[: len(theirs)] == list(theirs)
    for key, default in theirs.items():
        assert ours[key].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ours_default = ours[key].default
        if default is ...:  # a new object there, None here, which stands for it
            assert ours_default is None
        elif isinstance(default, list):  # a tuple here, since nobody can change it
            assert list(ours_default or ()) == default
        elif default is not inspect.Parameter.empty:
            assert ours_default == default
    for parameter in list(ours.values())[len(theirs) :]:
        required = parameter.default is inspect.Parameter.empty
        assert not required or parameter.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD
