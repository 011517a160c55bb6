"""STORN: its graph against a loop over time in NumPy, its state, whole runs and sampling."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from scipy.special import expit, logsumexp

from cle_port.train import checkpoint
from models import sample
from models.programs import PROGRAMS
from models.sampling import files as sample_files
from models.sampling import generation
from models.settings import Settings
from models.storn import PROGRAM, STORN, WIDTHS, storn
from models.vrnn_gmm import WIDTHS as WIDTHS_GMM
from tests.recordings import largest_difference
from tests.test_programs import flags, folders  # noqa: F401
from tests.test_resume import check_program
from tests.units import compile_plainly

DATASETS = ("blizzard", "iamondb")
T, B = 5, 3
SIZES = {
    "z_dim": 2,
    "rnn_dim": 4,
    "x2s_dim": 5,
    "z2s_dim": 6,
    "q_z_dim": 7,
    "p_x_dim": 8,
    "depth": 2,
}


@pytest.fixture
def double():
    with pytensor.config.change_flags(floatX="float64"):
        yield


def settings(dataset: str = "blizzard", **more) -> Settings:
    return Settings(**{"x_dim": 3, **SIZES, **more}, dataset=dataset, floatX="float64")


def strong_net(args: Settings) -> STORN:
    """A model whose every weight and bias matters."""
    net = storn(args)
    rng = np.random.default_rng(5)
    for name, p in net.params.items():
        value = p.get_value()
        if name.startswith("b_"):
            p.set_value(value + 0.3 * rng.standard_normal(value.shape))
        else:
            p.set_value(value * (10 if name.startswith("W_") else 1))
    return net


def example(net: STORN, n_step: int = T, seed: int = 1) -> dict[str, np.ndarray]:
    """Frames, a state in the midst of a stream, and noise."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_step, B, net.x_dim))
    if net.dataset == "iamondb":
        x[..., 0] = x[..., 0] > 0
    s_0 = rng.uniform(-0.8, 0.8, (B, net.state_dim))
    return {"x": x, "s_0": s_0, "eps": rng.standard_normal((n_step, B, net.noise_dim))}


class Compiled:
    """The graph of `fprop` with terms and costs, as a function of the arrays of `example`."""

    def __init__(self, net: STORN, n_step: int = T, mask: np.ndarray | None = None) -> None:
        symbols = [
            pt.dtensor3("x", shape=(n_step, B, net.x_dim)),
            pt.dmatrix("s_0", shape=(B, net.state_dim)),
            pt.dtensor3("eps", shape=(n_step, B, net.noise_dim)),
        ]
        x = symbols[0]
        tensors = net.fprop(*symbols)
        costs = net.cost(x, tensors, None if mask is None else pt.as_tensor(mask))
        self.tensors = tensors | net.terms(x, tensors) | {str(cost.name): cost for cost in costs}
        self.fn = compile_plainly(symbols, list(self.tensors.values()))

    def __call__(self, **values: np.ndarray) -> dict[str, np.ndarray]:
        results = self.fn(values["x"], values["s_0"], values["eps"])
        return dict(zip(self.tensors, map(np.asarray, results)))


# --- the model ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "num_k", "heads"),
    [
        ("blizzard", 1, {"theta_mu": 3, "theta_sig": 3}),
        ("blizzard", 2, {"theta_mu": 6, "theta_sig": 6, "coeff": 2}),
        ("iamondb", 1, {"theta_mu": 2, "theta_sig": 2, "corr": 1, "binary": 1}),
        ("iamondb", 2, {"theta_mu": 4, "theta_sig": 4, "coeff": 2, "corr": 2, "binary": 1}),
    ],
)
def test_heads(dataset, num_k, heads):
    """Those of the VRNN programs with and without a mixture, with the same units."""
    args = settings(dataset, num_k=num_k)
    theta = storn(args).theta
    assert {node.name: node.nout for node in theta.heads} == heads
    vrnn = PROGRAMS["vrnn_gauss" if num_k == 1 else "vrnn_gmm"].make_net(args).theta
    assert [(h.name, h.nout, h.unit) for h in theta.heads] == [
        (h.name, h.nout, h.unit) for h in vrnn.heads
    ]
    assert theta.density is vrnn.density


def test_parameters():
    """Both recurrences read x; only the generating one reads z; nothing belongs to a prior."""
    params = storn(settings(num_k=2, depth=1)).params
    assert {name: p.get_value().shape for name, p in params.items()} == {
        "W_x_1__h": (5, 16),
        "W_z_1__h": (6, 16),
        "U_h__h": (4, 16),
        "b_h": (16,),
        "W_x_1__g": (5, 16),
        "U_g__g": (4, 16),
        "b_g": (16,),
        "W_x_t__x_1": (3, 5),
        "b_x_1": (5,),
        "W_z_t__z_1": (2, 6),
        "b_z_1": (6,),
        "W_g__phi_1": (4, 7),
        "b_phi_1": (7,),
        "W_phi_1__phi_mu": (7, 2),
        "b_phi_mu": (2,),
        "W_phi_1__phi_sig": (7, 2),
        "b_phi_sig": (2,),
        "W_h__theta_1": (4, 8),
        "b_theta_1": (8,),
        "W_theta_1__theta_mu": (8, 6),
        "b_theta_mu": (6,),
        "W_theta_1__theta_sig": (8, 6),
        "b_theta_sig": (6,),
        "W_theta_1__coeff": (8, 2),
        "b_coeff": (2,),
    }


@pytest.mark.parametrize("dataset", DATASETS)
def test_widths_are_vrnn_gmms(dataset):
    widths = {key: n for key, n in WIDTHS_GMM[dataset].items() if key != "p_z_dim"}
    assert WIDTHS[dataset] == widths


@pytest.mark.parametrize(("sigmoid", "saturate"), [("theano", True), ("plain", False)])
def test_all_nodes_have_the_sigmoid_of_the_settings(sigmoid, saturate):
    assert {node.saturate for node in storn(settings(sigmoid=sigmoid)).nodes} == {saturate}


def test_channels_are_the_vrnns_without_the_priors(double):
    for dataset in DATASETS:
        args = settings(dataset, num_k=2)
        names = {}
        for name in ("storn", "vrnn_gmm"):
            net = PROGRAMS[name].make_net(args)
            x = pt.dtensor3("x", shape=(T, B, 3))
            tensors = net.fprop(x, net.get_init_state(B), net.noise(x))
            names[name] = [str(channel.name) for channel in net.channels(x, tensors)]
        assert names["storn"] == [name for name in names["vrnn_gmm"] if "prior" not in name]


# --- the graph, by a loop over time ---------------------------------------------------------


class Loop:
    """STORN in NumPy, one frame after the other."""

    def __init__(self, net: STORN, args: Settings) -> None:
        self.p = {name: p.get_value() for name, p in net.params.items()}
        self.args = args
        self.last = args.depth
        self.step = {"lstm": self.lstm, "gru": self.gru}[args.rnn]

    def linear(self, name, **inputs):
        weights = {parent: self.p[f"W_{parent}__{name}"] for parent in inputs}
        return sum(x @ weights[parent] for parent, x in inputs.items()) + self.p[f"b_{name}"]

    def stack(self, name, parent, x):
        """Outputs of all layers by name."""
        outputs = {}
        for i in range(1, self.args.depth + 1):
            x = np.maximum(self.linear(f"{name}_{i}", **{parent: x}), 0)
            parent = f"{name}_{i}"
            outputs[parent] = x
        return outputs

    def softplus(self, name, **inputs):
        return np.logaddexp(0, self.linear(name, **inputs)) + 1e-4

    def lstm(self, name, s, **inputs):
        h, c = np.split(s, 2, axis=1)
        z = self.linear(name, **inputs) + h @ self.p[f"U_{name}__{name}"]
        z_c, z_i, z_f, z_o = np.split(z, 4, axis=1)
        c = expit(z_f) * c + expit(z_i) * np.tanh(z_c)
        return np.concatenate([expit(z_o) * np.tanh(c), c], axis=1)

    def gru(self, name, s, **inputs):
        z_c, z_r, z_u = np.split(self.linear(name, **inputs), 3, axis=1)
        u_c, u_r, u_u = np.split(s @ self.p[f"U_{name}__{name}"], 3, axis=1)
        r, u = expit(z_r + u_r), expit(z_u + u_u)
        return u * s + (1 - u) * np.tanh(z_c + r * u_c)

    def theta(self, h):
        """Outputs of the decoder's layers and heads."""
        v = self.stack("theta", "h", h)
        top = {f"theta_{self.last}": v[f"theta_{self.last}"]}
        v["theta_mu"] = self.linear("theta_mu", **top)
        v["theta_sig"] = self.softplus("theta_sig", **top)
        if self.args.num_k > 1:
            logits = self.linear("coeff", **top)
            v["coeff"] = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
        if self.args.dataset == "iamondb":
            v["corr"] = np.tanh(self.linear("corr", **top))
            v["binary"] = expit(self.linear("binary", **top))
        return v

    def recon(self, x, v):
        """-log p of frames (B, x_dim)."""
        pen = self.args.dataset == "iamondb"
        y = x[:, 1:] if pen else x
        mu, sig = (v[key].reshape(len(x), y.shape[1], -1) for key in ("theta_mu", "theta_sig"))
        d = (y[:, :, None] - mu) / sig
        if pen:
            rho = v["corr"]
            distance = (d[:, 0] ** 2 + d[:, 1] ** 2 - 2 * rho * d[:, 0] * d[:, 1]) / (1 - rho**2)
            log_p = -distance / 2 - np.log(1 - rho**2) / 2
        else:
            log_p = -(d**2).sum(axis=1) / 2
        log_p = log_p - np.log(sig).sum(axis=1) - y.shape[1] * np.log(2 * np.pi) / 2
        log_p = logsumexp(log_p + np.log(v.get("coeff", 1.0)), axis=1)
        if pen:
            log_p = log_p + np.log(np.where(x[:, 0] == 1, v["binary"][:, 0], 1 - v["binary"][:, 0]))
        return -log_p

    def frame(self, x_t, eps_t, s_tm1):
        """All tensors of one frame, with the next state as ``s``."""
        size = (s_tm1.shape[1] - x_t.shape[1]) // 2
        h_tm1, g_tm1, x_tm1 = np.split(s_tm1, [size, 2 * size], axis=1)
        x_last, z_last = f"x_{self.last}", f"z_{self.last}"
        features = self.stack("x", "x_t", x_t)

        g_t = self.step("g", g_tm1, **{x_last: features[x_last]})
        top = self.stack("phi", "g", g_t[:, : self.args.rnn_dim])[f"phi_{self.last}"]
        phi_mu = self.linear("phi_mu", **{f"phi_{self.last}": top})
        phi_sig = self.softplus("phi_sig", **{f"phi_{self.last}": top})

        z = self.stack("z", "z_t", phi_mu + phi_sig * eps_t)[z_last]
        before = self.stack("x", "x_t", x_tm1)[x_last]
        h_t = self.step("h", h_tm1, **{x_last: before, z_last: z})
        v = self.theta(h_t[:, : self.args.rnn_dim])
        kl_by_dim = (-2 * np.log(phi_sig) + phi_mu**2 + phi_sig**2 - 1) / 2
        return {
            **features,
            "s": np.concatenate([h_t, g_t, x_t], axis=1),
            "phi_mu": phi_mu,
            "phi_sig": phi_sig,
            "z_last": z,
            **v,
            "recon": self.recon(x_t, v),
            "kl": kl_by_dim.sum(axis=1),
            "kl_by_dim": kl_by_dim,
        }

    def __call__(self, x, s_0, eps):
        frames, s = [], s_0
        for x_t, eps_t in zip(x, eps):
            frames.append(self.frame(x_t, eps_t, s))
            s = frames[-1]["s"]
        return {name: np.stack([frame[name] for frame in frames]) for name in frames[0]}


@pytest.mark.parametrize("rnn", ["lstm", "gru"])
@pytest.mark.parametrize("num_k", [1, 3])
@pytest.mark.parametrize("dataset", DATASETS)
def test_every_node_and_the_bound(dataset, num_k, rnn, double):
    """Blizzard averages over frames, IAM-OnDB over lines the sums of their frames."""
    args = settings(dataset, num_k=num_k, rnn=rnn)
    net = strong_net(args)
    mask = None
    if dataset == "iamondb":
        mask = (np.arange(T)[:, None] < [T, T - 2, 1]).astype(float)
    values = example(net)
    ours, theirs = Compiled(net, mask=mask)(**values), Loop(net, args)(**values)
    costs = {}
    for term in ("recon", "kl"):
        frames = theirs[term]
        mean = frames.mean() if mask is None else (frames * mask).sum() / B
        costs[f"{term}_term"] = mean
    theirs |= {"nll_upper_bound": sum(costs.values()), **costs}
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        assert ours[name].shape == np.shape(value), name
        assert largest_difference(ours[name], value) < 1e-12, name


def test_each_input_matters(double):
    """Else the test above could compare constants."""
    net = strong_net(settings(num_k=2))
    fn, values = Compiled(net), example(net)
    before = fn(**values)
    for name, value in values.items():
        changed = fn(**values | {name: value + 0.1})
        for term in ("recon", "kl") if name != "eps" else ("recon",):
            assert np.all(changed[term] != before[term]), f"{name} does not change {term}"


def test_gradients(double):
    """Of the bound, along a random direction of each parameter, by central differences."""
    net = strong_net(settings("iamondb", num_k=2, rnn="lstm"))
    mask = pt.as_tensor((np.arange(T)[:, None] < [T, T - 2, 1]).astype(float))
    x, s_0, eps = (pt.as_tensor(value) for value in example(net).values())
    cost = net.cost(x, net.fprop(x, s_0, eps), mask)[0]
    params = list(net.params.values())
    fn = compile_plainly([], [cost, *pytensor.grad(cost, params)])
    _, *grads = (np.asarray(value) for value in fn())
    value_of = compile_plainly([], cost)
    rng = np.random.default_rng(3)
    for p, grad in zip(params, grads, strict=True):
        value, direction, step = p.get_value(), rng.standard_normal(grad.shape), 1e-6
        bounds = []
        for sign in (1, -1):
            p.set_value(value + sign * step * direction)
            bounds.append(float(value_of()))
        p.set_value(value)
        expected = (bounds[0] - bounds[1]) / (2 * step)
        assert np.vdot(grad, direction) == pytest.approx(expected, rel=1e-6, abs=1e-8), p.name


# --- the state ------------------------------------------------------------------------------


@pytest.mark.parametrize("rnn", ["lstm", "gru"])
@pytest.mark.parametrize("dataset", DATASETS)
def test_state_carries_everything_on(dataset, rnn, double):
    """Two halves, the second from the state after the first, are the whole.

    A matrix product may round its rows otherwise when there are more of them.
    """
    net = strong_net(settings(dataset, num_k=2, rnn=rnn))
    values = example(net, 2 * T)
    whole = Compiled(net, 2 * T)(**values)
    half, s = Compiled(net), values["s_0"]
    for start, end in pairwise([0, T, 2 * T]):
        part = half(x=values["x"][start:end], s_0=s, eps=values["eps"][start:end])
        for name, value in part.items():
            if value.ndim:
                difference = largest_difference(value, whole[name][start:end])
                assert difference < 1e-14, f"{name} from frame {start} on"
        s = part["s"][-1]


def test_state_before_the_first_frame(double):
    """Zeros: also x_0, which phi^x sees like any frame."""
    args = settings(num_k=2)
    net = strong_net(args)
    s_0 = compile_plainly([], net.get_init_state(B))()
    np.testing.assert_array_equal(s_0, np.zeros((B, 2 * 2 * 4 + 3)))
    assert net.state_dim == s_0.shape[1]
    assert storn(settings(rnn="gru")).state_dim == 2 * 4 + 3
    values = example(net) | {"s_0": s_0}
    after = Compiled(net)(x=values["x"] * 0, s_0=s_0, eps=values["eps"])["x_2"]
    assert after[0].any()  # phi^x(0) is not 0


@pytest.mark.parametrize("num_k", [1, 3])
@pytest.mark.parametrize("dataset", DATASETS)
def test_generation_is_fprop_of_its_own_frames(dataset, num_k, double):
    """With the noise of its z: means, deviations and all that draws x_t agree, and the states."""
    net = strong_net(settings(dataset, num_k=num_k))
    rng = np.random.default_rng(2)
    s = s_0 = example(net)["s_0"]
    z = rng.standard_normal((T, B, net.noise_dim))
    step, names = generation_step(net)
    steps = []
    for z_t in z:
        noise = rng.standard_normal((B, net.theta.noise_dim)), rng.random((B, 2))
        steps.append(dict(zip(names, step(z_t, s, *noise))))
        s = steps[-1]["s"]
    generated = {name: np.stack([values[name] for values in steps]) for name in names}

    fn, x = Compiled(net), generated["x"]
    q = fn(x=x, s_0=s_0, eps=z)  # the posterior depends on x only
    again = fn(x=x, s_0=s_0, eps=(z - q["phi_mu"]) / q["phi_sig"])
    for name in ["s", *(node.name for node in net.theta.heads)]:
        assert largest_difference(generated[name], again[name]) < 1e-12, name
    assert generated["theta_mu"].std(axis=0).min() > 1e-3  # the frames before do matter


def generation_step(net: STORN):
    """One compiled step of generation, and the names of its results."""
    eps_t, s_tm1 = pt.dmatrix("eps_t"), pt.dmatrix("s_tm1", shape=(B, net.state_dim))
    eps_x, u = pt.dmatrix("eps_x"), pt.dmatrix("u")
    seen = {}

    def draw(theta):
        seen.update(theta)
        return net.theta.sample(theta, eps_x, u)

    s_t, x_t, mean_t = net.generate_fn(eps_t, s_tm1, draw)
    outputs = {"s": s_t, "x": x_t, "mean": mean_t, **seen}
    return compile_plainly([eps_t, s_tm1, eps_x, u], list(outputs.values())), list(outputs)


# --- whole runs -----------------------------------------------------------------------------


@pytest.mark.full
def test_resumes_exactly(folders, tmp_path):  # noqa: F811
    """Stopped within an epoch, where the state is carried on: the same bits as without a stop."""
    check_program(PROGRAM, "blizzard", folders, tmp_path)
    arrays, _ = checkpoint.load(tmp_path / "two" / "storn_1.npz")
    assert arrays["state/rnn_tm1"].shape == (20, 2 * 2 * 8 + 40)


# --- sampling -------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", DATASETS)
def test_sampling(dataset, folders, tmp_path, monkeypatch):  # noqa: F811
    """Samples, what goes on from data, and reconstructions, of a checkpoint's model."""
    monkeypatch.setattr(generation, "compile_function", compile_plainly)
    monkeypatch.setattr(sample_files, "has_matplotlib", lambda: False)
    path = saved(dataset, folders[dataset], tmp_path)

    def run(*options):
        out = tmp_path / "".join(options)
        assert sample.main([str(path), "--out", str(out), "--quiet", *options]) == 0
        return sorted(file.name.removeprefix("storn_1_") for file in out.iterdir())

    kind = "wav" if dataset == "blizzard" else "npz"
    drawing = [] if dataset == "blizzard" else ["svg"]
    assert run("--number", "2", "--length", "4") == sorted(
        [f"sample_0.{kind}", f"sample_1.{kind}", *(f"sample.{end}" for end in drawing)]
    )
    assert run("--prime", "1", "--length", "4") == sorted(
        [f"primed_0.{kind}", *(f"primed.{end}" for end in drawing)]
    )
    assert run("--reconstruct", "--number", "1") == sorted(
        [
            f"original_0.{kind}",
            f"reconstruction_0.{kind}",
            *(f"reconstruction.{end}" for end in drawing),
        ]
    )


def saved(dataset, data_path, folder):
    """Checkpoint of an untrained model."""
    args = PROGRAM.run_of(flags(dataset, data_path, folder)).args
    with pytensor.config.change_flags(floatX=args.floatX):
        net = storn(args)
    arrays = {name: p.get_value() for name, p in net.params.items()}
    meta = {"program": "storn_1", "settings": args.as_dict(), "params": list(arrays)}
    checkpoint.save(folder / "storn_1.npz", arrays, meta)
    return folder / "storn_1.npz"
