"""Sampling: against the original's recorded samples, and from checkpoint to files."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from scipy.io import wavfile
from scipy.stats import norm

from cle_port.errors import UserError
from cle_port.files import write
from cle_port.train import checkpoint
from cle_port.utils import zipp
from cle_port.utils.op import multinomial
from compare.recording import SCRIPTS
from compare.units import samples
from datasets.demo import blizzard as demo_blizzard
from datasets.digits import open_digits
from datasets.hdf5.lines import Line, LineWriter
from models import sample
from models.parts import Decoder, Init, tempered
from models.programs import PROGRAMS
from models.rnn_gmm import rnn_gmm
from models.running import Run
from models.sampling import files as sample_files
from models.sampling import generation, loading, pictures, png
from models.sampling.data import Sequences, open_data
from models.settings import Settings
from models.vrnn_gauss import vrnn_gauss
from models.vrnn_gmm import vrnn_gmm
from tests.recordings import below, largest_difference, read
from tests.test_vrnn_gmm import TINY
from tests.units import FLOATS, case_names, compile_plainly, evaluate, recorded

RECORDING = "artifacts/sample_vrnn_gauss.npz"
RTOL = {"float64": 1e-13, "float32": 2e-6}


# --- the original's helpers -----------------------------------------------------------------


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize(
    "case", case_names("random", "GMM_sample", "GMM_sample_mean", "GMM_argmax_mean")
)
def test_GMM_samples(case, floatX):
    helper, seed = case.split("/")
    for num_k in ("k1", "k3"):
        arrays = recorded("random", f"{helper}/{seed}/{num_k}", floatX)
        ours = samples(helper, arrays)
        assert set(ours) == {name for name in arrays if name.startswith("out")}
        for name, value in ours.items():
            assert value.dtype == arrays[name].dtype == floatX
            assert largest_difference(value, arrays[name]) <= np.finfo(floatX).eps


def test_multinomial_draws_components_by_their_weights():
    coeff = np.array([[0.2, 0.0, 0.5, 0.3]])
    u = np.linspace(0, 1, 1000, endpoint=False)
    drawn = evaluate(multinomial(pt.as_tensor(np.repeat(coeff, 1000, axis=0)), pt.as_tensor(u)))
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 1000, coeff[0], atol=1e-3)


def test_multinomial_takes_the_last_component_where_rounding_leaves_none():
    coeff = np.full((1, 3), 0.33333, dtype="float32")
    u = np.array([1 - 2**-24], dtype="float32")
    assert evaluate(multinomial(pt.as_tensor(coeff), pt.as_tensor(u))) == [2]


# --- draws from the decoder's heads ---------------------------------------------------------


def decoder(dataset: str, num_k: int | None, **sizes) -> Decoder:
    args = Settings(**TINY | sizes | {"num_k": num_k or 1}, dataset=dataset)
    return (vrnn_gmm if num_k else vrnn_gauss)(args, Init(1)).theta


def draw(head: Decoder, v: dict, eps, u, **options) -> tuple[np.ndarray, np.ndarray]:
    v = {name: pt.as_tensor(np.asarray(value)) for name, value in v.items()}
    return evaluate(list(head.sample(v, pt.as_tensor(eps), pt.as_tensor(u), **options)))


def test_pen_offsets_have_the_heads_mean_deviation_and_correlation():
    rng = np.random.default_rng(0)
    n = 200_000
    eps, u = rng.standard_normal((n, 2)), rng.random((n, 2))
    rows = {
        "theta_mu": [1.0, 9.0, -2.0, 9.0],  # x of both components, then y
        "theta_sig": [0.5, 0.1, 2.0, 0.1],
        "coeff": [1.0, 0.0],
        "corr": [-0.8, 0.3],
        "binary": [0.1],
    }
    x, mean = draw(
        decoder("iamondb", 2, x_dim=3), {k: np.tile(v, (n, 1)) for k, v in rows.items()}, eps, u
    )
    np.testing.assert_allclose(x.mean(axis=0), [0.1, 1.0, -2.0], atol=0.02)
    np.testing.assert_allclose(x[:, 1:].std(axis=0), [0.5, 2.0], rtol=0.01)
    np.testing.assert_allclose(np.corrcoef(x[:, 1], x[:, 2])[0, 1], -0.8, atol=0.01)
    np.testing.assert_array_equal(mean[:, 1:], np.tile([1.0, -2.0], (n, 1)))
    np.testing.assert_array_equal(mean[:, 0], x[:, 0])
    assert set(np.unique(x[:, 0])) == {0.0, 1.0}


def test_gmm_options_choose_the_component():
    v = {"theta_mu": [[1.0, 2.0, 3.0]], "theta_sig": [[1.0, 1.0, 1.0]], "coeff": [[0.3, 0.5, 0.2]]}
    head = decoder("blizzard", 3, x_dim=1)
    eps, u = np.zeros((1, 1)), np.array([[0.9, 0.0]])
    assert draw(head, v, eps, u)[0] == 3.0
    assert draw(head, v, eps, u, gmm="argmax")[0] == 2.0
    # 0.2 of 1 becomes 0.04 of 0.38 at half the temperature.
    assert draw(head, v, eps, np.array([[0.88, 0.0]]), temperature=0.5)[0] == 2.0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_tempered(temperature):
    p = np.array([[0.1, 0.6, 0.3], [0.0, 1.0, 0.0]])
    powers = p ** (1 / temperature)
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(evaluate(tempered(pt.as_tensor(p), temperature)), expected)


# --- generation -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded_net():
    """The model that the original's samples come from."""
    arrays = read(RECORDING)
    params = below(arrays, "param")
    widths = {
        "x_dim": params["W_x_t__x_1"].shape[0],
        "z_dim": params["W_z_t__z_1"].shape[0],
        "rnn_dim": params["U_rnn__rnn"].shape[0],
        "x2s_dim": params["b_x_1"].size,
        "z2s_dim": params["b_z_1"].size,
        "q_z_dim": params["b_phi_1"].size,
        "p_z_dim": params["b_prior_1"].size,
        "p_x_dim": params["b_theta_1"].size,
    }
    args = Settings(**widths, depth=4)
    with pytensor.config.change_flags(floatX="float32"):
        net = vrnn_gauss(args, Init(None))
        loading.check_params("recording", params, net)
        zipp(params, net.params)
        yield net


@pytest.mark.full
def test_reproduces_the_originals_samples(recorded_net):
    """Frame by frame, then the waves, with the recorded noise."""
    theirs = read(RECORDING)
    n_steps, batch_size, _ = theirs["x"].shape
    u = np.zeros((n_steps, batch_size, 2), dtype="float32")
    with pytensor.config.change_flags(floatX="float32"):
        fn = generation.generation_fn(recorded_net, batch_size, n_steps)
    s_0 = np.zeros((batch_size, recorded_net.state_dim), dtype="float32")
    _, x, mean = (np.asarray(a) for a in fn(s_0, theirs["eps_z"], theirs["eps_x"], u))
    assert x.dtype == mean.dtype == theirs["x"].dtype == "float32"
    for t in range(n_steps):
        assert largest_difference(x[t], theirs["x"][t]) < 2e-6
        assert largest_difference(mean[t], theirs["theta_mu"][t]) < 2e-6

    lines = sample_files.denormalize(mean, theirs["X_mean"], theirs["X_std"]).swapaxes(0, 1)
    waves = lines.reshape(batch_size, -1)
    assert waves.dtype == theirs["samples"].dtype
    assert largest_difference(waves, theirs["samples"]) < 2e-6
    for i, wave in enumerate(waves):
        # A sample that is a whole number but for rounding may be cut off to either side.
        cut = theirs[f"wav/sample_{i}.wav/data"]
        near_whole = np.abs(wave - np.round(wave)) < 1e-2
        ours = sample_files.as_wave(wave)
        assert ours.dtype == cut.dtype
        np.testing.assert_array_equal(ours[~near_whole], cut[~near_whole])
        assert np.abs(ours.astype(int) - cut).max() <= 1
        assert near_whole.mean() < 0.1


def test_waves_are_clipped_not_wrapped():
    wave = sample_files.as_wave(np.array([-1e9, -32768.9, -1.9, 1.9, 32767.9, 40000.0]))
    assert wave.tolist() == [-32768, -32768, -1, 1, 32767, 32767]


def test_strokes_undo_what_the_data_set_did():
    offsets = np.array([[3.0, -4.0], [5.0, 6.0]])
    frames = np.column_stack([[0.0, 1.0], (offsets - 16) / 7.5])
    strokes = sample_files.as_strokes(frames, 16, 7.5)
    np.testing.assert_allclose(np.column_stack([strokes["dx"], strokes["dy"]]), offsets)
    points = sample_files.as_points(strokes)
    np.testing.assert_allclose(points, [[0, 0, 0], [0, 3, -4], [1, 8, 2]])


# --- from checkpoint to files ---------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Small data sets: 300 rows of 12 frames; 8 and 6 lines of 9 to 16 points."""
    blizzard = tmp_path_factory.mktemp("blizzard")
    demo_blizzard.build(blizzard, minutes=0.15, seq_len=480, n_streams=4)
    return {"blizzard": blizzard, "iamondb": pen_folder(tmp_path_factory.mktemp("iamondb"))}


def pen_folder(folder: Path) -> Path:
    """Eight lines for training and six for validation, of 9 to 16 points."""
    rng = np.random.default_rng(0)
    with LineWriter(folder / "iamondb.h5") as writer:
        for split, number in (("train", 8), ("valid", 6)):
            for i in range(number):
                steps = rng.integers(-40, 60, size=(9 + i, 2)).cumsum(axis=0)
                pen = rng.random(9 + i) < 0.2
                pen[-1] = True
                writer.append(split, Line(np.column_stack([pen, steps]), "ab"))
        writer.finish()
        writer.commit()
    return folder


def tiny(dataset: str, folders: dict[str, Path], **changes) -> Settings:
    sizes = TINY | ({"x_dim": 3} if dataset == "iamondb" else {})
    return Settings(
        **sizes | changes,
        dataset=dataset,
        data_path=str(folders[dataset]),
        save_path=str(folders[dataset] / "runs"),
        quiet=True,
    )


def save_checkpoint(name: str, args: Settings, path: Path) -> Path:
    """Write the checkpoint of an untrained model without compiling it."""
    with pytensor.config.change_flags(floatX=args.floatX):
        net = PROGRAMS[name].make_net(args)
    arrays = {key: np.asarray(p.get_value()) for key, p in net.params.items()}
    meta = {"program": f"{name}_1", "settings": args.as_dict(), "params": list(net.params)}
    checkpoint.save(path, arrays, meta)
    return path


def run(path: Path, out: Path, *flags: object) -> dict[str, Path]:
    """Run the program; returns the files it wrote, by name without the checkpoint's."""
    assert sample.main([str(path), "--out", str(out), "--quiet", *map(str, flags)]) == 0
    return {file.name.removeprefix(f"{path.stem}_"): file for file in sorted(out.iterdir())}


@pytest.mark.full
@pytest.mark.system
@pytest.mark.parametrize(
    ("dataset", "name", "prior"),
    [
        ("blizzard", "rnn_gmm", "recurrent"),
        ("blizzard", "vrnn_gauss", "recurrent"),
        ("iamondb", "rnn_gauss", "recurrent"),
        ("iamondb", "vrnn_gmm", "independent"),
    ],
)
def test_writes_samples_that_the_seed_decides(dataset, name, prior, folders, tmp_path):
    path = save_checkpoint(name, tiny(dataset, folders, prior=prior), tmp_path / "model.npz")
    flags = ("--number", 2, "--length", 45)  # more than one chunk, and not whole chunks
    files = run(path, tmp_path / "a", *flags)
    again = run(path, tmp_path / "b", *flags)
    other = run(path, tmp_path / "c", *flags, "--seed", 2)
    assert files.keys() == again.keys() == other.keys()
    plain = [key for key in files if not key.endswith(".png")]
    assert all(files[key].read_bytes() == again[key].read_bytes() for key in plain)
    assert all(files[key].read_bytes() != other[key].read_bytes() for key in plain)
    if dataset == "blizzard":
        rate, wave = wavfile.read(files["sample_1.wav"])
        assert (rate, wave.dtype, wave.shape) == (16000, np.int16, (45 * 40,))
    else:
        with np.load(files["sample_1.npz"]) as strokes:
            assert {key: a.shape for key, a in strokes.items()} == dict.fromkeys(
                ("pen", "dx", "dy"), (45,)
            )
        assert files["sample.svg"].read_text().count("<text") == 2
    if png.has_matplotlib():
        images = [file for key, file in files.items() if key.endswith(".png")]
        assert len(images) == (2 if dataset == "blizzard" else 1)
        assert all(file.read_bytes().startswith(b"\x89PNG") for file in images)


@pytest.mark.full
def test_longer_samples_begin_like_shorter_ones(folders):
    with pytensor.config.change_flags(floatX="float32"):
        net = rnn_gmm(tiny("iamondb", folders))
        s_0 = np.zeros((2, net.state_dim), dtype="float32")
        short, long = (
            generation.generate(net, np.random.default_rng(5), length, s_0, quiet=True)[0]
            for length in (45, 81)
        )
    assert (short.shape, long.shape) == ((45, 2, 3), (81, 2, 3))
    np.testing.assert_array_equal(long[:45], short)


@pytest.mark.full
@pytest.mark.parametrize("dataset", ["blizzard", "iamondb"])
def test_reads_what_a_program_saves(dataset, folders, tmp_path):
    """Checkpoint of a main loop; one value, primed and reconstructed."""
    args = tiny(dataset, folders, floatX="float64")
    with pytensor.config.change_flags(floatX="float64"):
        mainloop = PROGRAMS["vrnn_gmm"].mainloop(Run("vrnn_gmm", args))
        mainloop.saving.save(tmp_path / "best.npz")
    path = tmp_path / "best.npz"
    primed = run(path, tmp_path / "primed", "--prime", 2, "--length", 5, "--gmm", "argmax")
    pairs = run(path, tmp_path / "pairs", "--reconstruct", "--number", 2)
    data = open_data(args)
    if dataset == "blizzard":
        (row,) = (line for line in data.first(1).x.swapaxes(0, 1))
        samples = sample_files.denormalize(row, data.X_mean, data.X_std)
        real = sample_files.as_wave(samples.reshape(-1))
        wave = wavfile.read(primed["primed_0.wav"])[1]
        assert len(wave) == len(real) + 5 * 40
        np.testing.assert_array_equal(wave[: len(real)], real)
        np.testing.assert_array_equal(wavfile.read(pairs["original_0.wav"])[1], real)
        assert wavfile.read(pairs["reconstruction_1.wav"])[1].shape == real.shape
    else:
        lengths = data.first(2).lengths
        for i, length in enumerate(lengths):
            with np.load(primed[f"primed_{i}.npz"]) as strokes:
                assert len(strokes["pen"]) == length + 5
        with np.load(pairs["original_1.npz"]) as strokes:
            frames = data.first(2).lines(data.first(2).x)[1]
            expected = sample_files.denormalize(frames[:, 1:], data.X_mean, data.X_std)
            np.testing.assert_array_equal(strokes["dy"], expected[:, 1])
            np.testing.assert_array_equal(strokes["pen"], frames[:, 0])
        drawing = pairs["reconstruction.svg"].read_text()
        assert [drawing.count(kind) for kind in (">original", ">reconstruction")] == [2, 2]


@pytest.mark.full
@pytest.mark.parametrize("name", SCRIPTS)
def test_generation_is_what_the_model_says_of_its_own_frames(name, folders):
    """Means generated step by step equal those of the whole sequence run through the model.

    The weights are large enough for every step to matter for the next.  A
    posterior that equals the prior makes z the same, given the same noise.
    """
    with pytensor.config.change_flags(floatX="float64"):
        net = PROGRAMS[name].make_net(tiny("blizzard", folders, floatX="float64", num_k=1))
        for key, p in net.params.items():
            p.set_value(p.get_value() * (4 if key.startswith("W") else 1))
        if name.startswith("vrnn"):
            weights = net.params["W_x_1__phi_1"]
            weights.set_value(np.zeros_like(weights.get_value()))
            for key, p in net.params.items():
                if "prior" in key:
                    net.params[key.replace("prior", "phi")].set_value(p.get_value())
        rng = np.random.default_rng(0)
        noise = generation.draw_noise(net, rng, 7, 3)
        s_0 = np.zeros((3, net.state_dim))
        s, x, mean = (np.asarray(a) for a in generation.generation_fn(net, 3, 7)(s_0, *noise))
        known = Known(noise.z)
        whole = generation.through_model(net, x, known, lambda tensors: tensors["theta_mu"])
        states = generation.through_model(net, x, known, lambda tensors: tensors["s"])
        lengths = np.array([7, 4, 1])
        last = generation.state_after(net, Sequences(x, lengths), known)
    np.testing.assert_allclose(mean, whole, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(s, states[-1], rtol=1e-9, atol=1e-12)
    for b, length in enumerate(lengths):
        np.testing.assert_array_equal(last[b], states[length - 1, b])
    assert mean.std(axis=0).min() > 1e-4  # the frames before do matter


class Known:
    """Noise that is known, in the place of a generator."""

    def __init__(self, z: np.ndarray) -> None:
        self.z = z

    def standard_normal(self, shape, dtype) -> np.ndarray:
        return self.z if shape == self.z.shape else np.zeros(shape, dtype)

    def random(self, shape, dtype) -> np.ndarray:
        return np.zeros(shape, dtype)


def test_temperature_scales_the_noise(folders):
    net = vrnn_gmm(tiny("blizzard", folders))
    one, half = (
        generation.draw_noise(net, np.random.default_rng(3), 4, 2, temperature)
        for temperature in (1.0, 0.5)
    )
    np.testing.assert_array_equal(half.z, one.z / 2)
    np.testing.assert_array_equal(half.x, one.x / 2)
    np.testing.assert_array_equal(half.u, one.u)
    assert one.u.min() >= 0
    assert one.u.max() < 1


def test_floatX_stays(folders, tmp_path, monkeypatch):
    """Loading and sampling take the checkpoint's precision and give the process's back."""
    monkeypatch.setattr(sample_files, "has_matplotlib", lambda: False)  # pictures take time
    args = tiny("blizzard", folders, floatX="float64")
    path = save_checkpoint("vrnn_gmm", args, tmp_path / "m.npz")
    with pytensor.config.change_flags(floatX="float32"):
        _, _, net = loading.load_model(path)
        assert pytensor.config.floatX == "float32"
        assert {p.dtype for p in net.params.values()} == {"float64"}
        assert generation.draw_noise(net, np.random.default_rng(0), 2, 3).z.dtype == "float64"
        assert open_data(args).first(1).x.dtype == "float64"
        assert sample.main([str(path), "--prime", "1", "--length", "2", "--quiet"]) == 0
        assert pytensor.config.floatX == "float32"


# --- images, and the plane of z -------------------------------------------------------------


@pytest.fixture
def interpreted(monkeypatch):
    """Sampling without a compiler."""
    monkeypatch.setattr(generation, "compile_function", compile_plainly)


@pytest.fixture
def images(interpreted, tmp_path) -> Path:
    """The checkpoint of a VAE of digits."""
    pytest.importorskip("sklearn")
    return of_digits(tmp_path / "vae.npz")


def of_digits(path: Path, **changes) -> Path:
    sizes = TINY | {"x_dim": 64, "z_dim": 2, "seed": 7} | changes
    return save_checkpoint("vae", Settings(**sizes, dataset="digits"), path)


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return dict(arrays)


def decoded(path: Path, z: np.ndarray) -> np.ndarray:
    """Means of the decoder by the model itself, shape (..., x_dim) for z of shape (..., 2)."""
    _, _, net = loading.load_model(path)
    rows = pt.as_tensor(z.reshape(-1, 2))
    mean = evaluate(net.theta.fprop([rows], net.params)["theta_mu"])
    return mean.reshape((*z.shape[:-1], -1))


@pytest.mark.full
def test_images_are_drawn_on_one_sheet(images, tmp_path):
    files = run(images, tmp_path / "a", "--number", 12)
    again = run(images, tmp_path / "b", "--number", 12)
    means = run(images, tmp_path / "c", "--number", 12, "--mean")
    x, mean = (arrays_of(found["sample.npz"])["x"] for found in (files, means))
    assert x.shape == mean.shape == (12, 8, 8)
    assert x.dtype == mean.dtype == "float32"
    assert set(np.unique(x)) == {0.0, 1.0}
    assert 0 < mean.min() < mean.max() < 1
    np.testing.assert_array_equal(arrays_of(again["sample.npz"])["x"], x)
    assert set(files) - {"sample.png"} == {"sample.npz"}
    assert ("sample.png" in files) == png.has_matplotlib()


@pytest.mark.full
def test_images_of_gaussian_pixels(images, tmp_path):
    """Draws around the means, with at least the deviation of half a grey level."""
    path = of_digits(tmp_path / "gauss.npz", output="gauss")
    x, mean = (
        arrays_of(run(path, tmp_path / name, "--number", 40, *flags)["sample.npz"])["x"]
        for name, flags in {"draws": (), "means": ("--mean",)}.items()
    )
    assert 0 < mean.min() < mean.max() < 1
    np.testing.assert_allclose((x - mean).std(), np.log1p(np.exp(0.6)) + 1 / 32, rtol=0.05)


@pytest.mark.full
def test_images_are_reconstructed(images, tmp_path):
    files = run(images, tmp_path / "out", "--reconstruct", "--number", 3)
    arrays = arrays_of(files["reconstruction.npz"])
    assert set(arrays) == {"original", "reconstruction"}
    (real,) = open_digits(1)[1].slices(0, 3)
    np.testing.assert_array_equal(arrays["original"].reshape(3, 64), real[0])
    assert arrays["reconstruction"].shape == (3, 8, 8)
    assert 0 < arrays["reconstruction"].min() < arrays["reconstruction"].max() < 1


@pytest.mark.full
def test_a_plane_of_images(images, tmp_path):
    """Means at equally probable steps of z; z_1 to the right, z_2 upwards."""
    arrays = arrays_of(run(images, tmp_path / "out", "--plane")["plane.npz"])
    z, x = arrays["z"], arrays["x"]
    assert (z.shape, x.shape) == ((15, 15, 2), (15, 15, 8, 8))
    np.testing.assert_allclose(norm.cdf(z[4, :, 0]), (np.arange(15) + 0.5) / 15, rtol=1e-6)
    np.testing.assert_array_equal(z[::-1, :, 1], z[..., 0].T)
    np.testing.assert_allclose(x.reshape(15, 15, 64), decoded(images, z), rtol=1e-6)
    assert np.ptp(x, axis=(0, 1)).max() > 0  # z does something


@pytest.mark.full
def test_a_plane_of_waves(interpreted, folders, tmp_path):
    """In the unit of the data."""
    args = tiny("blizzard", folders, z_dim=2)
    path = save_checkpoint("vae", args, tmp_path / "vae.npz")
    files = run(path, tmp_path / "out", "--plane")
    arrays, data = arrays_of(files["plane.npz"]), open_data(args)
    waves = sample_files.denormalize(decoded(path, arrays["z"]), data.X_mean, data.X_std)
    assert arrays["x"].shape == (15, 15, 40)
    np.testing.assert_allclose(arrays["x"], waves, rtol=1e-4, atol=1e-3)
    if png.has_matplotlib():
        assert files["plane.png"].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("dataset", ["blizzard", "iamondb"])
def test_frames_of_a_vae_follow_each_other(dataset, interpreted, folders, monkeypatch, tmp_path):
    """As sound and as a line, each frame drawn on its own."""
    monkeypatch.setattr(sample_files, "has_matplotlib", lambda: False)  # pictures take time
    path = save_checkpoint("vae", tiny(dataset, folders), tmp_path / "vae.npz")
    files = run(path, tmp_path / "out", "--number", 2, "--length", 45)
    if dataset == "blizzard":
        assert wavfile.read(files["sample_1.wav"])[1].shape == (45 * 40,)
    else:
        assert len(arrays_of(files["sample_1.npz"])["pen"]) == 45
    pairs = run(path, tmp_path / "pairs", "--reconstruct", "--number", 2)
    assert {name.split(".")[0] for name in pairs} >= {"original_1", "reconstruction_1"}


@pytest.mark.full
def test_a_sheet_puts_kinds_above_each_other():
    pytest.importorskip("matplotlib")
    grey = np.arange(24)[:, None, None] * np.ones((1, 2, 3)) / 24
    _, ax = pictures._mosaic(grey.reshape(2, 12, 2, 3))
    (image,) = ax.images
    picture = np.asarray(image.get_array())
    assert picture.shape == (2 * 2, 12 * 3)
    np.testing.assert_array_equal(picture[:2, 3:6], grey[1])
    np.testing.assert_array_equal(picture[2:, -3:], grey[-1])
    assert image.get_clim() == (0, 1)
    for number in (1, pictures.COLUMNS, pictures.COLUMNS + 2):
        some = {"original": grey[:number], "reconstruction": grey[:number]}
        assert pictures.image_sheet(some).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flags", "changes", "message"),
    [
        (["--prime", "1"], {}, "vae has no state to go on from"),
        (["--length", "3"], {}, "an image is one frame; leave --length"),
        (["--plane"], {"z_dim": 3}, "z has 3 dimensions and a plane has 2"),
        (["--reconstruct", "--number", "361"], {}, "asked for, but there are 360; ask for less"),
        (["--plane", "--data_path", "x"], {}, "the digits come with scikit-learn"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_vae_of_images_refuses(flags, changes, message, images, capsys, tmp_path):
    path = of_digits(tmp_path / "other.npz", **changes)
    assert message in refused(capsys, path, "--quiet", "--out", tmp_path / "out", *flags)


def test_a_plane_needs_frames_that_make_a_picture_and_no_state(good, folders, capsys, tmp_path):
    assert "x_t of vrnn_gauss depends on the frames before" in refused(capsys, good, "--plane")
    rnn = save_checkpoint("rnn_gmm", tiny("iamondb", folders), tmp_path / "rnn.npz")
    assert "--plane is for a VAE" in refused(capsys, rnn, "--plane")
    pen = save_checkpoint("vae", tiny("iamondb", folders, z_dim=2), tmp_path / "pen.npz")
    assert "one movement of the pen" in refused(capsys, pen, "--plane")


# --- refusals -------------------------------------------------------------------------------


def refused(capsys, *argv: object) -> str:
    """The one line that the program says before it ends with status 2."""
    assert sample.main([str(word) for word in argv]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def with_meta(path: Path, new: Path, **changes) -> Path:
    arrays, meta = checkpoint.load(path)
    checkpoint.save(new, arrays, meta | changes)
    return new


@pytest.fixture
def good(folders, tmp_path) -> Path:
    return save_checkpoint("vrnn_gauss", tiny("blizzard", folders), tmp_path / "good.npz")


def test_refuses_files_that_are_no_checkpoint(capsys, tmp_path):
    assert "there is no checkpoint" in refused(capsys, tmp_path / "missing.npz")
    for name, content in {"empty.npz": b"", "text.npz": b"hello", "zip.npz": b"PK\3\4rest"}.items():
        (tmp_path / name).write_bytes(content)
        assert "not a whole checkpoint" in refused(capsys, tmp_path / name)
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    assert "not a whole checkpoint" in refused(capsys, tmp_path / "foreign.npz")
    np.savez(tmp_path / "pickle.npz", a=np.array([{}], dtype=object))
    assert "not a whole checkpoint" in refused(capsys, tmp_path / "pickle.npz")


@pytest.mark.parametrize(
    "changes",
    [
        {"program": "other_1"},
        {"program": 3},
        {"settings": None},
        {"settings": {"unknown": 1}},
        {"settings": {"rnn_dim": "eight"}},
        {"settings": {"rnn_dim": -1}},
        {"params": 5},
    ],
    ids=str,
)
def test_refuses_foreign_descriptions(changes, good, capsys, tmp_path):
    path = with_meta(good, tmp_path / "bad.npz", **changes)
    assert "not a checkpoint of rnn_gauss" in refused(capsys, path)


@pytest.mark.parametrize("other", ["rnn_gauss", "vrnn_gmm"])
def test_refuses_parameters_of_another_model(other, good, capsys, tmp_path):
    path = with_meta(good, tmp_path / "bad.npz", program=f"{other}_1")
    assert "is of another model" in refused(capsys, path)


def test_refuses_parameters_of_other_sizes_and_without_numbers(good, capsys, tmp_path):
    arrays, meta = checkpoint.load(good)
    wider = meta | {"settings": meta["settings"] | {"rnn_dim": 9}}
    checkpoint.save(tmp_path / "wider.npz", arrays, wider)
    assert "(8, 32)" in refused(capsys, tmp_path / "wider.npz")
    for sizes, why in (
        ({"rnn_dim": 10**18}, "rnn_dim is 1000000000000000000; it must be at most"),
        ({"rnn_dim": 10**5, "z_dim": 10**5}, "more parameters than it has"),
        ({"depth": 10**3}, "more parameters than it has"),
    ):
        forged = meta | {"settings": meta["settings"] | sizes}
        checkpoint.save(tmp_path / "forged.npz", arrays, forged)
        assert why in refused(capsys, tmp_path / "forged.npz")
    for value in (np.nan, np.inf):
        arrays["b_rnn"][3] = value
        checkpoint.save(tmp_path / "nan.npz", arrays, meta)
        assert "b_rnn that are no finite" in refused(capsys, tmp_path / "nan.npz")


def test_sets_all_parameters_or_none(good, monkeypatch, tmp_path):
    arrays, meta = checkpoint.load(good)
    del arrays[meta["params"][-1]]
    checkpoint.save(tmp_path / "less.npz", arrays, meta)
    monkeypatch.setattr(loading, "zipp", lambda *_: pytest.fail("parameters were set"))
    with pytest.raises(UserError, match="1 parameters differ"):
        loading.load_model(tmp_path / "less.npz")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--number", "0"], "--number is 0"),
        (["--length", "-1"], "--length is -1"),
        (["--seed", "-1"], "--seed is -1"),
        (["--prime", "0"], "--prime is 0"),
        (["--prime", "1", "--reconstruct"], "are 2 things; give one of them"),
        (["--reconstruct", "--plane"], "--reconstruct and --plane are 2 things"),
        (["--temperature", "0"], "above 0"),
        (["--temperature", "nan"], "above 0"),
        (["--temperature", "inf"], "above 0"),
        (["--gmm", "best"], "invalid choice"),
        (["--colour"], "unrecognized"),
        (["--prime", "100000"], "validation sequences are asked for"),
        (["--reconstruct", "--number", "100000"], "validation sequences are asked for"),
        (["--data_path", "/nonexistent"], "is not a folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refuses_options(flags, message, good, capsys, tmp_path):
    assert message in refused(capsys, good, "--quiet", "--out", tmp_path / "out", *flags)


def test_refuses_a_folder_that_is_a_file(good, capsys):
    assert "--out" in refused(capsys, good, "--quiet", "--out", good)


def test_refuses_to_reconstruct_without_a_latent_variable(folders, capsys, tmp_path):
    path = save_checkpoint("rnn_gauss", tiny("blizzard", folders), tmp_path / "rnn.npz")
    assert "no latent variable" in refused(capsys, path, "--reconstruct")


def test_leaves_no_half_written_file(monkeypatch, tmp_path):
    def fail(*_):
        raise OSError(28, "No space left on device")

    (tmp_path / "a.wav").write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fail)
        with pytest.raises(UserError, match="No space left"):
            write(tmp_path / "a.wav", b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["a.wav"]
    assert (tmp_path / "a.wav").read_bytes() == b"old"


def test_a_checkpoint_does_not_say_where_to_write(good, capsys, monkeypatch, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    arrays, meta = checkpoint.load(good)
    forged = meta | {"settings": meta["settings"] | {"sample_path": str(elsewhere)}}
    checkpoint.save(tmp_path / "forged.npz", arrays, forged)

    def stop(args):
        raise UserError("far enough")

    monkeypatch.setattr(sample, "open_data", stop)
    refused(capsys, tmp_path / "forged.npz")
    assert not elsewhere.exists()
    assert (tmp_path / "samples").exists()


def test_says_how_to_get_pictures(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    monkeypatch.setattr(sample, "sample", lambda _: [tmp_path / "a.wav"])
    assert sample.main([str(tmp_path / "model.npz")]) == 0
    assert "pip install matplotlib" in capsys.readouterr().out


def test_ends_without_traceback_for_want_of_memory(monkeypatch, capsys, tmp_path):
    def exhaust(_):
        raise MemoryError("Unable to allocate 8 TiB")

    monkeypatch.setattr(sample, "sample", exhaust)
    assert "ask for less" in refused(capsys, tmp_path / "model.npz")
