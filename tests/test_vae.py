"""VAE: its graph against NumPy, the bound against the exact likelihood, whole runs, the plane."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from scipy.special import expit, logsumexp, ndtr, xlogy
from scipy.stats import norm

from cle_port.errors import UserError
from cle_port.graph import compile_function
from cle_port.train import checkpoint
from datasets.digits import open_digits
from models.programs import PROGRAMS
from models.running import Run, run_program
from models.running import run as running_run
from models.running.data import open_digits as open_for_a_run
from models.settings import Settings, parse
from models.vae import PROGRAM, VAE, WIDTHS, sample_pixels, vae
from tests.recordings import PROJECT, largest_difference
from tests.test_devices import environment
from tests.test_resume import assert_same, resume
from tests.test_vrnn_gmm import as_flags
from tests.uncompiled import Uncompiled
from tests.units import compile_plainly, evaluate

T, B = 3, 4
SIZES = {"z_dim": 2, "q_z_dim": 6, "p_x_dim": 7, "depth": 2}
OF_VRNN = {"rnn_dim": 4, "x2s_dim": 4, "z2s_dim": 4, "p_z_dim": 4}
KINDS = ("bernoulli", "gauss", "blizzard", "iamondb")  # decoders: two of digits


@pytest.fixture
def double():
    with pytensor.config.change_flags(floatX="float64"):
        yield


def settings(kind: str, **more) -> Settings:
    data = {"dataset": kind} if kind in ("blizzard", "iamondb") else {"output": kind}
    sizes = {"dataset": "digits", "x_dim": 3, **SIZES, "floatX": "float64"}
    return Settings(**{**sizes, **data, **more})


def strong_net(args: Settings, gain: float = 10) -> VAE:
    """A model whose every weight and bias matters."""
    net = vae(args)
    rng = np.random.default_rng(5)
    for name, p in net.params.items():
        noise = 0.3 * rng.standard_normal(p.get_value().shape)
        p.set_value(p.get_value() * (gain if name.startswith("W_") else 1) + noise)
    return net


def frames(kind: str, x_dim: int = 3) -> np.ndarray:
    """Grey levels, with white and black ones; samples of sound; points of a pen."""
    rng = np.random.default_rng(1)
    if kind in ("bernoulli", "gauss"):
        return rng.integers(0, 17, size=(T, B, x_dim)) / 16
    x = rng.standard_normal((T, B, x_dim))
    if kind == "iamondb":
        x[..., 0] = x[..., 0] > 0
    return x


class ByNumPy:
    """The model in NumPy, for frames and noise of any leading axes."""

    def __init__(self, net: VAE, kind: str) -> None:
        self.p = {name: p.get_value() for name, p in net.params.items()}
        self.kind = kind
        self.floor = 1 / 32 if kind == "gauss" else 1e-4

    def linear(self, parent, name, x):
        return x @ self.p[f"W_{parent}__{name}"] + self.p[f"b_{name}"]

    def stack(self, name, parent, x):
        outputs = {}
        for i in (1, 2):
            x = np.maximum(self.linear(parent, f"{name}_{i}", x), 0)
            parent = f"{name}_{i}"
            outputs[parent] = x
        return outputs

    def encode(self, x):
        last = self.stack("phi", "x_t", x)["phi_2"]
        mu = self.linear("phi_2", "phi_mu", last)
        return mu, np.logaddexp(0, self.linear("phi_2", "phi_sig", last)) + 1e-4

    def decode(self, z):
        """Outputs of all nodes of the decoder by name."""
        out = self.stack("theta", "z_t", z)
        head = {
            name: self.linear("theta_2", name, out["theta_2"])
            for name in ("theta_mu", "theta_sig", "corr", "binary")
            if f"b_{name}" in self.p
        }
        if self.kind in ("bernoulli", "gauss"):
            head["theta_mu"] = expit(head["theta_mu"])
        if "theta_sig" in head:
            head["theta_sig"] = np.logaddexp(0, head["theta_sig"]) + self.floor
        if "corr" in head:
            head |= {"corr": np.tanh(head["corr"]), "binary": expit(head["binary"])}
        return out | head

    def nll(self, x, z):
        """-log p(x | z), with densities of SciPy."""
        theta = self.decode(z)
        mu = theta["theta_mu"]
        if self.kind == "bernoulli":
            return -(xlogy(x, mu) + xlogy(1 - x, 1 - mu)).sum(axis=-1)
        sig = theta["theta_sig"]
        if self.kind in ("gauss", "blizzard"):
            return -norm.logpdf(x, mu, sig).sum(axis=-1)
        rho, up = theta["corr"][..., 0], theta["binary"][..., 0]
        pen = xlogy(x[..., 0], up) + xlogy(1 - x[..., 0], 1 - up)
        return -pen - self.log_pair(x[..., 1:], mu, sig, rho)

    def log_pair(self, y, mu, sig, rho):
        """Log-density of the first offset, and of the second one given the first."""
        first = norm.logpdf(y[..., 0], mu[..., 0], sig[..., 0])
        slope = rho * sig[..., 1] / sig[..., 0]
        mean = mu[..., 1] + slope * (y[..., 0] - mu[..., 0])
        return first + norm.logpdf(y[..., 1], mean, sig[..., 1] * np.sqrt(1 - rho**2))


def compiled(net: VAE, x: np.ndarray, mask: np.ndarray | None = None):
    """The graph from x and eps to tensors, terms and costs by name."""
    symbols = [pt.dtensor3("x", shape=x.shape)]
    symbols.append(net.noise(symbols[0]))
    tensors = net.fprop(*symbols)
    costs = net.cost(symbols[0], tensors, None if mask is None else pt.as_tensor(mask))
    tensors |= net.terms(symbols[0], tensors) | {str(cost.name): cost for cost in costs}
    fn = compile_plainly(symbols, list(tensors.values()))
    return lambda eps: dict(zip(tensors, map(np.asarray, fn(x, eps))))


@pytest.fixture
def uncompiled(monkeypatch):
    monkeypatch.setattr(running_run, "Compiler", lambda *_: Uncompiled())


@pytest.fixture
def digits():
    """For tests that read the images."""
    pytest.importorskip("sklearn")


# --- the model ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "heads"),
    [
        ("bernoulli", {"theta_mu": (3, "sigmoid", 0.0)}),
        ("gauss", {"theta_mu": (3, "sigmoid", 0.0), "theta_sig": (3, "softplus", 1 / 32)}),
        ("blizzard", {"theta_mu": (3, "linear", 0.0), "theta_sig": (3, "softplus", 1e-4)}),
        (
            "iamondb",
            {
                "theta_mu": (2, "linear", 0.0),
                "theta_sig": (2, "softplus", 1e-4),
                "corr": (1, "tanh", 0.0),
                "binary": (1, "sigmoid", 0.0),
            },
        ),
    ],
)
def test_heads(kind, heads):
    net = vae(settings(kind))
    assert {node.name: (node.nout, node.unit, node.cons) for node in net.theta.heads} == heads
    assert (net.state_dim, net.noise_dim) == (0, 2)


@pytest.mark.parametrize("kind", ["blizzard", "iamondb"])
def test_speech_and_handwriting_have_vrnn_gausss_decoder(kind):
    args = settings(kind, **OF_VRNN)
    ours, theirs = (PROGRAMS[name].make_net(args).theta for name in ("vae", "vrnn_gauss"))
    assert ours.density is theirs.density
    assert ours.sample is theirs.sample
    assert [(h.name, h.nout, h.unit, h.cons) for h in ours.heads] == [
        (h.name, h.nout, h.unit, h.cons) for h in theirs.heads
    ]
    widths = PROGRAMS["vrnn_gauss"].widths[kind]
    assert {key: widths[key] for key in WIDTHS[kind]} == WIDTHS[kind]


def test_parameters():
    """Encoder from x to z, decoder from z to x; nothing belongs to the prior or to a state."""
    params = vae(settings("bernoulli", depth=1)).params
    assert {name: p.get_value().shape for name, p in params.items()} == {
        "W_x_t__phi_1": (3, 6),
        "b_phi_1": (6,),
        "W_phi_1__phi_mu": (6, 2),
        "b_phi_mu": (2,),
        "W_phi_1__phi_sig": (6, 2),
        "b_phi_sig": (2,),
        "W_z_t__theta_1": (2, 7),
        "b_theta_1": (7,),
        "W_theta_1__theta_mu": (7, 3),
        "b_theta_mu": (3,),
    }


@pytest.mark.parametrize(("sigmoid", "saturate"), [("theano", True), ("plain", False)])
def test_all_nodes_have_the_sigmoid_of_the_settings(sigmoid, saturate):
    nodes = vae(settings("iamondb", sigmoid=sigmoid)).nodes
    assert {node.saturate for node in nodes} == {saturate}


@pytest.mark.parametrize("kind", KINDS)
def test_every_node_and_the_bound_by_numpy(kind, double):
    net = strong_net(settings(kind))
    x, eps = frames(kind), np.random.default_rng(2).standard_normal((T, B, 2))
    ours = compiled(net, x)(eps)

    model = ByNumPy(net, kind)
    mu, sig = model.encode(x)
    z = mu + sig * eps
    recon, kl_by_dim = model.nll(x, z), 0.5 * (mu**2 + sig**2 - 1 - 2 * np.log(sig))
    kl = kl_by_dim.sum(axis=-1)
    expected = {"phi_mu": mu, "phi_sig": sig, "z": z, **model.decode(z), "recon": recon, "kl": kl}
    expected["kl_by_dim"] = kl_by_dim
    expected |= {"recon_term": recon.mean(), "kl_term": kl.mean()}
    expected["nll_upper_bound"] = recon.mean() + kl.mean()
    assert set(ours) == set(expected)
    for name, value in expected.items():
        assert ours[name].shape == np.shape(value), name
        assert largest_difference(ours[name], value) < 1e-12, name


def test_a_mask_makes_the_bound_that_of_a_line(double):
    """The sum over the points of a line, then the mean over lines, as in the VRNN programs."""
    net = strong_net(settings("iamondb"))
    x, eps = frames("iamondb"), np.random.default_rng(2).standard_normal((T, B, 2))
    mask = np.ones((T, B))
    mask[1:, 0] = mask[2:, 1] = 0
    ours = compiled(net, x, mask)(eps)
    bound = ((ours["recon"] + ours["kl"]) * mask).sum(axis=0).mean()
    np.testing.assert_allclose(ours["nll_upper_bound"], bound, rtol=1e-13)


def test_frames_do_not_know_of_each_other(double):
    net = strong_net(settings("blizzard"))
    x, eps = frames("blizzard"), np.random.default_rng(2).standard_normal((T, B, 2))
    before = compiled(net, x)(eps)
    x[1, 2] += 1
    after = compiled(net, x)(eps)
    for name in ("recon", "kl", "phi_mu", "theta_mu"):
        same = np.ones((T, B), dtype=bool)
        same[1, 2] = False
        np.testing.assert_array_equal(after[name][same], before[name][same])
        assert np.all(after[name][1, 2] != before[name][1, 2])


def test_channels_are_the_vrnns_without_the_priors(double):
    x = pt.dtensor3("x", shape=(T, B, 3))
    names = {}
    for name in ("vae", "vrnn_gauss"):
        net = PROGRAMS[name].make_net(settings("blizzard", **OF_VRNN))
        states = [net.get_init_state(B)] if net.state_dim else []
        tensors = net.fprop(x, *states, net.noise(x))
        names[name] = {str(channel.name) for channel in net.channels(x, tensors)}
    assert names["vae"] == {name for name in names["vrnn_gauss"] if "prior" not in name}
    net = vae(settings("bernoulli"))
    found = [str(channel.name) for channel in net.channels(x, net.fprop(x, net.noise(x)))]
    assert not [name for name in found if "theta_sig" in name]


# --- gradients ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_by_differences(kind, double):
    """Of the bound, for every parameter, along a random direction."""
    net = strong_net(settings(kind))
    x, eps = frames(kind), np.random.default_rng(2).standard_normal((T, B, 2))
    symbol = pt.dtensor3("x", shape=x.shape)
    noise = net.noise(symbol)
    bound = net.cost(symbol, net.fprop(symbol, noise))[0]
    grads = pytensor.grad(bound, list(net.params.values()))
    fn = compile_plainly([symbol, noise], [bound, *grads])
    rng, step = np.random.default_rng(3), 1e-6
    _, *found = fn(x, eps)
    for (name, p), grad in zip(net.params.items(), found):
        value, direction = p.get_value(), rng.standard_normal(grad.shape)
        bounds = []
        for sign in (1, -1):
            p.set_value(value + sign * step * direction)
            bounds.append(fn(x, eps)[0])
        p.set_value(value)
        slope = (bounds[0] - bounds[1]) / (2 * step)
        assert slope == pytest.approx((grad * direction).sum(), rel=1e-6, abs=1e-7), name


@pytest.mark.full  # numba of PyTensor 3.0 warns of its arrays' layout
@pytest.mark.parametrize("floatX", ["float64", "float32"])
def test_a_saturated_pixel_has_a_finite_cost_and_gradient(floatX):
    """A sigmoid that is exactly 1 and a grey pixel: log(1 - 1) must not appear."""
    with pytensor.config.change_flags(floatX=floatX):
        net = vae(settings("bernoulli", floatX=floatX))
        bias = net.params["b_theta_mu"]
        bias.set_value(np.array([50.0, -200.0, 0.0], dtype=floatX))
        x = pt.tensor("x", dtype=floatX, shape=(1, 1, 3))
        eps = net.noise(x)
        bound = net.cost(x, net.fprop(x, eps))[1]
        fn = compile_function([x, eps], [bound, pytensor.grad(bound, bias)], None, "numba")
        grey = np.array([[[0.75, 0.25, 0.5]]], dtype=floatX)
        recon, grad = fn(grey, np.zeros((1, 1, 2), dtype=floatX))
    np.testing.assert_allclose(recon, 0.25 * 50 + 0.25 * 200 + np.log(2), rtol=1e-2)
    np.testing.assert_allclose(grad, [0.25, -0.25, 0.0], atol=0.01)


# --- the bound and the likelihood -----------------------------------------------------------

GRID = np.linspace(-9, 9, 9001)  # a sum over it is an integral: all is smooth, and 0 at both ends
STEP = GRID[1] - GRID[0]


@pytest.mark.parametrize("kind", KINDS)
def test_bound_is_the_likelihood_plus_the_divergence_from_the_true_posterior(kind, double):
    """-log p(x) and p(z | x) by quadrature over a z of one dimension, from NumPy's decoder.

    The graph gives the other side, for noise on a grid.  The gap is
    KL(q || p(z | x)) >= 0: so the bound lies above -log p(x).
    """
    net = strong_net(settings(kind, z_dim=1), gain=5)
    model = ByNumPy(net, kind)
    weight = norm.pdf(GRID) * STEP
    for x in frames(kind)[:2, 0]:
        many = np.tile(x, (len(GRID), 1))
        terms = compiled(net, many[None])(GRID[None, :, None])
        bound = (weight * terms["recon"][0]).sum() + terms["kl"][0, 0]

        def log_joint(z, x=many):
            return norm.logpdf(z) - model.nll(x, z[:, None])

        log_p = logsumexp(log_joint(GRID)) + np.log(STEP)
        mu, sig = (float(v[0]) for v in model.encode(x))
        log_q = norm.logpdf(GRID) - np.log(sig)  # at z = mu + sig * GRID
        gap = (weight * (log_q - (log_joint(mu + sig * GRID) - log_p))).sum()

        assert gap > 1e-3  # a Gaussian is not the true posterior
        np.testing.assert_allclose(bound, -log_p + gap, rtol=1e-11)


def test_bound_is_exact_where_x_says_nothing_about_z(double):
    """Decoder without z, encoder that answers with the prior: no gap, whatever the noise."""
    net = strong_net(settings("blizzard"))
    for name in ("W_z_t__theta_1", "W_phi_2__phi_mu", "b_phi_mu", "W_phi_2__phi_sig"):
        net.params[name].set_value(np.zeros_like(net.params[name].get_value()))
    net.params["b_phi_sig"].set_value(np.full(2, np.log(np.expm1(1 - 1e-4))))  # sigma is 1
    x = frames("blizzard")
    ours = compiled(net, x)(np.random.default_rng(4).standard_normal((T, B, 2)))
    theta = ByNumPy(net, "blizzard").decode(np.zeros(2))
    exact = -norm.logpdf(x, theta["theta_mu"], theta["theta_sig"]).sum(axis=-1)
    np.testing.assert_allclose(ours["kl"], 0, atol=1e-15)
    np.testing.assert_allclose(ours["recon"] + ours["kl"], exact, rtol=1e-13)


# --- draws ----------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_pixels_are_drawn_with_their_probabilities(temperature):
    n, p = 100_000, np.array([[0.0, 0.1, 0.5, 0.9, 1.0]])
    eps = temperature * np.random.default_rng(0).standard_normal((n, 5))
    theta = {"theta_mu": pt.as_tensor(p)}
    draw = sample_pixels(theta, pt.as_tensor(eps), None, temperature=temperature)
    x, mean = evaluate(list(draw))
    powers = np.stack([p, 1 - p]) ** (1 / temperature)
    expected = powers[0] / powers.sum(axis=0)
    np.testing.assert_allclose(mean, expected, atol=1e-12)
    assert set(np.unique(x)) == {0.0, 1.0}
    np.testing.assert_allclose(x.mean(axis=0), expected[0], atol=0.006)


def test_a_draw_without_noise_is_the_more_probable_value():
    theta = {"theta_mu": pt.as_tensor([[0.4, 0.6]])}
    x, mean = evaluate(list(sample_pixels(theta, pt.zeros((1, 2)), None, "argmax")))
    np.testing.assert_array_equal(x, [[0.0, 1.0]])
    np.testing.assert_array_equal(mean, [[0.4, 0.6]])
    assert ndtr(0) == 0.5


def test_a_frame_is_generated_from_z_alone(double):
    net = strong_net(settings("gauss"))
    z, nothing = pt.dmatrix("z", shape=(B, 2)), pt.dmatrix("s", shape=(B, 0))
    s, x, mean = net.generate_fn(z, nothing, lambda theta: (theta["theta_sig"], theta["theta_mu"]))
    assert s is nothing
    values = np.random.default_rng(0).standard_normal((B, 2))
    x, mean = evaluate([x, mean], {z: values})
    theta = ByNumPy(net, "gauss").decode(values)
    assert largest_difference(mean, theta["theta_mu"]) < 1e-12
    assert largest_difference(x, theta["theta_sig"]) < 1e-12
    assert evaluate(net.get_init_state(5)).shape == (5, 0)


# --- settings and data ----------------------------------------------------------------------


def resolve(*argv: str) -> Settings:
    return PROGRAM.run_of(argv).args


def test_digits_are_the_default():
    args = resolve()
    assert (args.dataset, args.x_dim, args.z_dim, args.output) == ("digits", 64, 2, "bernoulli")
    assert resolve("--dataset", "blizzard").x_dim == 200
    assert parse([], "", PROGRAMS["vrnn_gmm"].widths).dataset == "blizzard"


def test_a_resumed_run_keeps_its_data_set():
    saved = Settings(dataset="iamondb").as_dict()
    assert parse([], "", WIDTHS, saved).dataset == "iamondb"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_path": "x"}, "the digits come with scikit-learn; leave it out, or give another"),
        ({"x_dim": 784}, "x_dim is 784, but an image has 64 pixels; give 64"),
        ({"batch_size": 1438}, "batch_size is 1438, but there are 1437 images of digits; use 1 to"),
        ({"m_batch_size": 361}, "m_batch_size is 361, but there are 360 images of digits"),
    ],
)
def test_settings_that_do_not_fit_the_digits(changes, message, digits):
    sizes = {"dataset": "digits", "x_dim": 64, "batch_size": 20, "m_batch_size": 360}
    with pytest.raises(UserError, match=message):
        open_for_a_run(Settings(**sizes | changes))


def test_a_run_says_what_it_trains_on(tmp_path, caplog, digits, uncompiled):
    caplog.set_level("INFO")
    args = digits_settings(tmp_path)
    with pytensor.config.change_flags(floatX="float32"):
        PROGRAM.mainloop(Run("vae", args))
    assert "data      the digits of scikit-learn" in caplog.text
    assert "images    1437 for training, 360 for validation" in caplog.text
    assert "batch     50 images" in caplog.text


# --- whole runs -----------------------------------------------------------------------------

SHORT = {
    "x_dim": 64,
    "z_dim": 2,
    "q_z_dim": 16,
    "p_x_dim": 16,
    "depth": 1,
    "batch_size": 50,
    "m_batch_size": 360,
    "monitoring_freq": 4,
    "max_updates": 8,
    "lr": 0.01,
}


def digits_settings(folder: Path, **more) -> Settings:
    return Settings(**SHORT | more, dataset="digits", save_path=str(folder), quiet=True)


def log_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "vae_1.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("output", ["bernoulli", "gauss"])
def test_training_lowers_the_bound(output, tmp_path, digits, uncompiled):
    args = digits_settings(tmp_path, output=output, max_updates=40, monitoring_freq=20)
    with pytensor.config.change_flags(floatX="float32"):
        PROGRAM.mainloop(Run("vae", args)).run()
    lines = log_of(tmp_path)
    assert [line["batch_seen"] for line in lines] == [0, 20, 40]
    for channel in ("train_nll_upper_bound", "valid_nll_upper_bound"):
        assert lines[2][channel] < lines[1][channel] < lines[0][channel]
    # All 360 images are validated; the mean over them is the channel's.
    np.testing.assert_allclose(
        lines[0]["valid_mean_x"], open_digits(1)[1].data[0].mean(), rtol=1e-6
    )
    for line in lines:
        both = line["valid_recon_term"] + line["valid_kl_term"]
        np.testing.assert_allclose(line["valid_nll_upper_bound"], both, rtol=1e-6)


def test_a_resumed_run_is_the_run_that_was_not_stopped(tmp_path, digits, uncompiled):
    """Stopped after 5 of 9 updates, between two monitoring steps; parameters, moments, log."""

    def mainloop(folder, n):
        return PROGRAM.mainloop(Run("vae", digits_settings(tmp_path / folder, max_updates=n)))

    with pytensor.config.change_flags(floatX="float32"):
        mainloop("whole", 9).run()
        mainloop("two", 5).run()
        last = tmp_path / "two" / "vae_1.npz"
        args = digits_settings(tmp_path / "two", max_updates=9, resume=str(last))
        resume(PROGRAM.mainloop(Run("vae", args)), last)
    assert_same(tmp_path / "two", tmp_path / "whole", "vae_1.npz", best=False)


@pytest.mark.full
def test_the_program_on_digits(tmp_path, digits):
    """From its command line, compiled; a checkpoint from which a second program call goes on."""
    assert run_program(PROGRAM, as_flags(SHORT | {"save_path": tmp_path})) == 0
    assert (
        run_program(PROGRAM, ["--save_path", str(tmp_path), "--resume", "--max_updates", "12"]) == 0
    )
    lines = log_of(tmp_path)
    assert [line["batch_seen"] for line in lines] == [0, 4, 8, 12]
    assert lines[-1]["valid_nll_upper_bound"] < lines[0]["valid_nll_upper_bound"]


@pytest.mark.full
def test_two_devices_give_the_numbers_of_one(tmp_path, digits):
    """Parameters, moments and log, in double precision."""
    for devices in (1, 2):
        settings = SHORT | {"floatX": "float64", "backend": "jax", "devices": devices}
        argv = as_flags(settings | {"save_path": tmp_path / str(devices)})
        command = [sys.executable, "-m", "models.vae", *argv, "--quiet"]
        done = subprocess.run(
            command, cwd=PROJECT, env=environment(2), capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
    one, two = (checkpoint.load(tmp_path / name / "vae_1.npz")[0] for name in ("1", "2"))
    assert one.keys() == two.keys()
    for name in one.keys() - {"log/time", "log/monitoring_time", "log_lines"}:
        scale = np.abs(one[name]).max(initial=0)
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-11 * scale, err_msg=name)
