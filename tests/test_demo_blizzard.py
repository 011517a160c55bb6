import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.testing import assert_allclose, assert_array_equal
from scipy.io import wavfile
from scipy.signal import lfilter

from cle_port.errors import UserError
from datasets.blizzard import row_ranges
from datasets.demo import blizzard as demo
from datasets.demo import corpus as demo_corpus
from datasets.demo import speech
from datasets.demo.__main__ import main
from datasets.hdf5.rows import HDF5Rows
from datasets.hdf5.statistics import load_statistics
from tests.demo_corpora import log_normal

FRAME_SIZE = 40  # samples, 2.5 ms: short enough for a regression on few rows
SEQ_LEN, N_STREAMS = 1600, 8


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return demo.build(
        tmp_path_factory.mktemp("demo"),
        minutes=1.5,
        seq_len=SEQ_LEN,
        n_streams=N_STREAMS,
        seed=3,
        quiet=True,
    )


@pytest.fixture(scope="module")
def rows(corpus):
    return HDF5Rows(corpus / "blizzard_unseg_tbptt.h5")[:]


@pytest.fixture(scope="module")
def split(corpus, rows):
    """Normalised training and validation rows."""
    X_mean, X_std = load_statistics(corpus, "blizzard_unseg_tbptt")
    X = (rows - X_mean) / X_std
    end = row_ranges(len(rows), N_STREAMS, N_STREAMS).train_end
    return X[:end], X[end:]


def levels(samples, size=400):
    """Return the level of every 25 ms, dB relative to full scale."""
    frames = samples.astype(np.float64).reshape(-1, size) / 32768
    return 10 * np.log10(np.mean(frames**2, axis=1))


# --- files -------------------------------------------------------------------------------


def test_layout(corpus, rows):
    assert sorted(path.name for path in corpus.iterdir()) == [
        "SHA256SUMS",
        "blizzard_unseg_tbptt.h5",
        "blizzard_unseg_tbptt_normal.npz",
    ]
    n_blocks = int(1.5 * 60 * 16000) // (SEQ_LEN * N_STREAMS)
    assert rows.dtype == np.int16
    assert rows.shape == (n_blocks * N_STREAMS, SEQ_LEN)
    attrs = HDF5Rows(corpus / "blizzard_unseg_tbptt.h5").attrs
    assert attrs == {"batch_size": N_STREAMS, "seq_len": SEQ_LEN, "sample_rate": 16000}


def test_batches_continue_streams(rows):
    recording = demo.speak(rows.size, seed=3)
    for j, stream in enumerate(recording.reshape(N_STREAMS, -1)):
        assert_array_equal(rows[j::N_STREAMS].ravel(), stream)


def test_statistics_are_those_of_the_training_rows(corpus, rows):
    train = rows[: row_ranges(len(rows), N_STREAMS, N_STREAMS).train_end].astype(np.float64)
    with np.load(corpus / "blizzard_unseg_tbptt_normal.npz") as stored:
        assert stored["X_mean"].dtype == stored["X_std"].dtype == np.float64
        assert stored["X_mean"].shape == stored["X_std"].shape == ()
        assert_allclose(stored["X_mean"], train.mean(), rtol=1e-12)
        assert_allclose(stored["X_std"], train.std(), rtol=1e-12)


def test_two_builds_are_equal(tmp_path):
    small = {"minutes": 0.05, "seq_len": 800, "n_streams": 4, "quiet": True}
    one, two = (demo.build(tmp_path / name, seed=5, **small) for name in ("one", "two"))
    other = demo.build(tmp_path / "other", seed=6, **small)
    for name in ("blizzard_unseg_tbptt.h5", "SHA256SUMS"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
        assert (one / name).read_bytes() != (other / name).read_bytes()


def test_longer_recording_begins_with_the_shorter():
    assert_array_equal(demo.speak(90001, seed=1)[:40000], demo.speak(40000, seed=1))


def test_building_again_replaces(tmp_path):
    small = {"minutes": 0.05, "seq_len": 800, "n_streams": 4, "quiet": True}
    demo.build(tmp_path, seed=1, **small)
    before = (tmp_path / "SHA256SUMS").read_text()
    demo.build(tmp_path, seed=2, **small)
    assert (tmp_path / "SHA256SUMS").read_text() != before
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": -1}, "seed must be a whole number of at least 0, not -1"),
        ({"seed": 0.5}, "seed must be a whole number"),
        ({"seq_len": 0}, "seq_len must be a whole number of at least 1, not 0"),
        ({"n_streams": 2.0}, "n_streams must be a whole number"),
        ({"minutes": 0}, "minutes must be above 0 and at most 60, not 0"),
        ({"minutes": float("nan")}, "minutes must be above 0"),
        ({"minutes": 61}, "at most 60, not 61"),
        ({"minutes": 0.1}, "0.1 minutes are too short .* ask for at least 0.14 minutes"),
    ],
)
def test_bad_settings(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        demo.build(tmp_path / "out", quiet=True, **settings)
    assert not (tmp_path / "out").exists()


def test_the_named_shortest_length_suffices(tmp_path):
    demo.build(tmp_path, minutes=0.14, quiet=True)


def test_folder_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*file"):
        demo.build(tmp_path / "file", quiet=True)


# --- cache -------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache and fast fake speech; the list has one entry per call."""
    monkeypatch.setenv("CLE_PORT_CACHE", str(tmp_path))
    spoken = []

    def speak(n_samples, seed, quiet):
        spoken.append(seed)
        return np.arange(n_samples).astype(np.int16)

    monkeypatch.setattr(demo, "speak", speak)
    return spoken


def test_ensure_builds_once(cache, tmp_path):
    folder = demo.ensure(quiet=True)
    assert demo.ensure(quiet=True) == folder
    assert len(cache) == 1
    assert folder.is_relative_to(tmp_path)
    assert folder.name.startswith(f"v{demo.VERSION}-")
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert HDF5Rows(folder / "blizzard_unseg_tbptt.h5").shape == (1920, 4000)


@pytest.mark.parametrize(
    "name", ["blizzard_unseg_tbptt.h5", "blizzard_unseg_tbptt_normal.npz", "SHA256SUMS"]
)
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_ensure_replaces_damaged_files(cache, name, damage):
    path = demo.ensure(quiet=True) / name
    whole = path.read_bytes()
    if damage == "changed":
        path.write_bytes(whole[:50] + bytes([whole[50] ^ 255]) + whole[51:])
    elif damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    else:
        path.unlink()
    folder = demo.ensure(quiet=True)
    assert len(cache) == 2
    assert (folder / name).read_bytes() == whole
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_ensure_in_several_programs_at_once(cache):
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: demo.ensure(quiet=True), range(4)))
    (folder,) = folders
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    n_built = len(cache)
    demo.ensure(quiet=True)
    assert len(cache) == n_built


def test_ensure_removes_what_a_killed_program_left(cache):
    shelf = demo.ensure(quiet=True).parent
    for name, age in (("old", 2 * demo_corpus.ABANDONED_SECONDS), ("new", 60)):
        (shelf / f".tmp-{name}" / "corpus").mkdir(parents=True)
        os.utime(shelf / f".tmp-{name}", (time.time() - age,) * 2)
    (demo.ensure(quiet=True) / demo.SUMS).unlink()
    demo.ensure(quiet=True)
    assert [path.name for path in shelf.glob(".tmp-*")] == [".tmp-new"]


def test_ensure_leaves_nothing_when_interrupted(cache, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "speak", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.ensure(quiet=True)
    assert list((tmp_path / "demo_blizzard").iterdir()) == []


def test_fingerprint_follows_settings_and_code(tmp_path, monkeypatch):
    default = demo._fingerprint(demo.CorpusSettings())
    assert default == demo._fingerprint(demo.CorpusSettings())
    assert default != demo._fingerprint(demo.CorpusSettings(seed=1))
    changed = tmp_path / "changed.py"
    for module in (demo, speech):
        changed.write_bytes(Path(module.__file__).read_bytes() + b"#")
        with monkeypatch.context() as patch:
            patch.setattr(module, "__file__", str(changed))
            assert default != demo._fingerprint(demo.CorpusSettings())


def test_notice():
    assert demo.STAND_IN_NOTICE.count("\n") <= 1
    for words in ("stand-in", "python -m datasets.build blizzard RECORDINGS OUT", "--data_path"):
        assert words in demo.STAND_IN_NOTICE


# --- parts of the synthesiser ------------------------------------------------------------


def steady(n=200, pitch=200.0, voice=1.0, breath=0.0, formants=(500.0, 1500.0, 2500.0)):
    full = np.full
    return speech.Tracks(
        pitch=full(n, pitch),
        formants=np.tile(formants, (n, 1)),
        nasal=np.zeros(n),
        voice=full(n, voice),
        breath=full(n, breath),
        hiss=np.zeros(n),
        hiss_centre=full(n, 4000.0),
        hiss_width=full(n, 1000.0),
    )


def test_rosenberg_pulse():
    phase = np.linspace(0, 1, 1001)
    flow = speech.rosenberg_pulse(phase)
    assert_allclose(flow.max(), 1, atol=1e-5)
    assert_allclose(phase[flow.argmax()], 0.4, atol=1e-3)  # 2/3 of the open part
    assert_allclose(flow[phase >= 0.6], 0, atol=1e-12)
    assert flow.min() >= -1e-12


def test_glottal_source_is_harmonic():
    source = speech.glottal_source(steady(), np.random.Generator(np.random.PCG64(0)))
    assert source.shape == (200 * 80,)
    power = np.abs(np.fft.rfft(source[:16000] * np.hanning(16000))) ** 2  # bins of 1 Hz
    between = power[90:110].sum() + power[290:310].sum()
    on = power[190:210].sum() + power[390:410].sum()
    assert on > 100 * between


def test_breath_is_noise():
    source = speech.glottal_source(
        steady(voice=0.0, breath=0.5), np.random.Generator(np.random.PCG64(0))
    )
    assert_allclose(source.std(), 0.5, rtol=0.02)
    assert abs(np.corrcoef(source[1:], source[:-1])[0, 1]) < 0.03


@pytest.mark.parametrize("name", sorted(speech.VOWELS))
def test_vocal_tract_resonates_at_the_formants(name):
    (sound,) = speech.VOWELS[name]
    response = np.abs(speech.vocal_tract(np.array([sound.formants]), np.zeros(1))[0])
    assert_allclose(response[0], 1)
    peaks = 20.0 * (
        1 + np.flatnonzero((response[1:-1] > response[:-2]) & (response[1:-1] > response[2:]))
    )
    for formant in sound.formants[1:]:
        assert np.abs(peaks - formant).min() <= 120
    assert np.abs(peaks - sound.formants[0]).min() <= 60


def test_open_nose_swallows():
    formants = np.array([[300.0, 1500.0, 2500.0]])
    shut, opened = (np.abs(speech.vocal_tract(formants, np.array([x]))[0]) for x in (0.0, 1.0))
    assert opened[30] < 0.4 * shut[30]  # 600 Hz


def test_filter_frames_equals_recursive_filter():
    """A constant filter equals the recursive one, with a delay of half a frame."""
    rng = np.random.Generator(np.random.PCG64(0))
    source = rng.standard_normal(100 * 80)
    poles = 0.97 * np.exp(2j * np.pi * np.array([500.0, 2500.0]) / 16000)
    denominator = np.poly([*poles, *poles.conj()]).real
    z = np.exp(-2j * np.pi * np.arange(401) / 800)
    response = 1 / np.polyval(denominator[::-1], z)
    output = speech.filter_frames([source], [np.tile(response, (100, 1))])
    expected = lfilter([1], denominator, source)
    # The first half frame has no partner to overlap with.
    assert_allclose(output[1000:], expected[960:-40], atol=1e-6 * np.abs(expected).max())


def test_filter_frames_adds_sources():
    rng = np.random.Generator(np.random.PCG64(0))
    one, two = rng.standard_normal((2, 800))
    f = np.ones((10, 401), dtype=complex)
    both = speech.filter_frames([one, two], [f, 2 * f])
    assert_allclose(both, speech.filter_frames([one + 2 * two], [f]), atol=1e-12)


def test_hiss_has_its_colour():
    response = np.abs(speech.hiss_spectrum(np.array([6300.0]), np.array([1800.0]))[0])
    assert_allclose(response.argmax() * 20, 6300, atol=200)
    assert response[0] < 1e-12
    assert response[-1] < 1e-12


def test_tracks_glide_and_fill_in():
    h, (ay,), t = speech.CONSONANTS["h"][0], speech.VOWELS["ay"], speech.PAUSE
    pieces = [speech.Piece(sound, 40) for sound in (h, ay, t)]
    tracks = speech.draw_tracks(pieces, np.random.Generator(np.random.PCG64(0)))
    assert_allclose(tracks.formants[5], ay.formants, rtol=1e-6)  # h adopts those of ay
    assert_allclose(tracks.formants[-5], ay.glide_to, rtol=1e-6)
    assert (np.diff(tracks.formants[45:75, 0]) < 0).all()
    assert tracks.voice[60] > 0.5
    assert tracks.voice[100:].max() < 1e-6


# --- the speech --------------------------------------------------------------------------


LEVELS = [-55.26, -37.21, -25.87, -21.21, -17.54]  # dB, percentiles of 25 ms
BANDS = [
    0.0,
    -14.87,
    -23.6,
    -26.81,
    -26.08,
    -23.95,
    -24.46,
    -32.4,
]  # dB per kHz, relative to the lowest


def test_coarse_statistics():
    """Pins the sound.  After an intended change, raise VERSION and update these numbers."""
    sound = demo.speak(20 * 16000)
    quantiles = np.percentile(levels(sound), [5, 25, 50, 75, 95])
    assert_allclose(quantiles, LEVELS, atol=0.05)
    spectra = np.abs(np.fft.rfft(sound.reshape(-1, 800) * np.hanning(800))) ** 2
    bands = 10 * np.log10(spectra.mean(axis=0)[:400].reshape(8, 50).mean(axis=1))
    assert_allclose(bands - bands[0], BANDS, atol=0.05)


def test_speech_does_not_clip(rows):
    peak = np.abs(rows.astype(np.int32)).max()
    assert 8000 < peak <= 32767 * (speech.PEAK + 0.02)


def test_pauses_hold_recording_noise_and_no_silence(rows):
    level = levels(rows)
    assert_allclose(level.min(), speech.NOISE_LEVEL, atol=2.5)
    assert 0.08 < np.mean(level < speech.NOISE_LEVEL + 3) < 0.3


@pytest.mark.parametrize("percentile", [10, 50, 75, 90])
def test_the_ends_of_the_streams_are_of_the_same_kind(rows, percentile):
    """Validation is at the ends; of this short corpus it would hold a phrase or two, and chance."""
    end = 3 * len(rows) // 4
    early, late = (np.percentile(levels(part), percentile) for part in (rows[:end], rows[end:]))
    # Phrases differ in loudness by a standard deviation of 1 dB, and these are some twenty.
    assert_allclose(early, late, atol=1.5)


def autocorrelation(frames, lags):
    """Return the correlation of each frame of 50 ms with itself, shifted by each of the lags."""
    n = frames.shape[1] - max(lags)
    here = frames[:, :n]
    shifted = np.stack([frames[:, lag : lag + n] for lag in lags], axis=1)
    power = np.sqrt(np.sum(here**2, axis=-1)[:, None] * np.sum(shifted**2, axis=-1))
    return np.sum(here[:, None] * shifted, axis=-1) / power


def test_the_voice_holds_its_note():
    """So a frame of 200 samples has two periods of the voice: 16000 / 160 Hz = 100 samples."""
    frames = demo.speak(20 * 16000).astype(np.float64).reshape(-1, 800)
    loud = np.quantile(np.mean(frames**2, axis=1), 0.6)
    voiced = autocorrelation(frames[np.mean(frames**2, axis=1) > loud], range(80, 133))
    period = 80 + voiced.argmax(axis=1)
    print(f"periods {np.percentile(period, [5, 50, 95])}, peak {np.median(voiced.max(axis=1)):.3f}")
    assert np.mean((period >= 97) & (period <= 103)) > 0.95
    assert np.median(voiced.max(axis=1)) > 0.9


# --- structure to learn --------------------------------------------------------------


def contexts(X, size):
    """Return the `size` samples before each frame in its row, and the frames."""
    windows = sliding_window_view(X, size + FRAME_SIZE, axis=1)[:, ::FRAME_SIZE]
    windows = windows.reshape(-1, size + FRAME_SIZE)
    return windows[:, :size], windows[:, size:]


def ridge(split, size=120):
    """Predict each frame linearly from earlier samples; return both parts' errors."""
    (past, frame), (past_valid, frame_valid) = (contexts(X, size) for X in split)
    gram = past.T @ past
    weights = np.linalg.solve(gram + 1e-3 * np.diag(np.diag(gram)), past.T @ frame)
    return frame - past @ weights, frame_valid - past_valid @ weights


def test_linear_regression_on_the_past_beats_independent_frames(split):
    """Compares single Gaussians, with full and (as in the models) diagonal covariance."""
    frame, frame_valid = (contexts(X, 120)[1] for X in split)
    error, error_valid = ridge(split)
    for diagonal, least in ((False, 3.0), (True, 8.0)):
        static, timed = np.cov(frame.T), np.cov(error.T)
        if diagonal:
            static, timed = np.diag(np.diag(static)), np.diag(np.diag(timed))
        margin = log_normal(error_valid, timed).mean() - log_normal(frame_valid, static).mean()
        print(f"diagonal {diagonal}: {margin:.2f} nats per frame")
        assert margin > least


def static_mixture(split, size, n_classes=16):
    """Return the mean log-likelihood of a Gaussian mixture with one part per class of loudness."""
    frame, frame_valid = (contexts(X, size)[1] for X in split)
    power = np.mean(frame**2, axis=1)
    edges = np.quantile(power, np.arange(1, n_classes) / n_classes)
    label = np.searchsorted(edges, power)
    parts = [
        log_normal(frame_valid - frame[label == k].mean(axis=0), np.cov(frame[label == k].T))
        for k in range(n_classes)
    ]
    return np.mean(np.logaddexp.reduce(parts, axis=0)) - np.log(n_classes)


def linear_prediction(X, size, order=20):
    """Return the log-density of each frame for nine scales of the residual, (frames, 9).

    This is the textbook model of speech: an autoregression, fitted to the last 30 ms.
    """
    past, frame = contexts(X, size)
    window = np.hanning(size + 2)[1:-1]
    r = np.fft.irfft(np.abs(np.fft.rfft(past * window, 1024)) ** 2)[:, : order + 1]
    r[:, 0] = 1.0001 * r[:, 0] + 1e-6
    lags = np.abs(np.subtract.outer(np.arange(order), np.arange(order)))
    a = np.linalg.solve(r[:, lags], r[:, 1:, None])[..., 0]
    variance = (r[:, 0] - np.sum(a * r[:, 1:], axis=1)) / np.sum(window**2) + 1e-4
    near = np.concatenate([past[:, -order:], frame], axis=1)
    residual = frame - sum(a[:, [k]] * near[:, order - 1 - k : -1 - k] for k in range(order))
    scaled = variance[:, None] * 4.0 ** np.arange(-1, 8)
    power = np.sum(residual**2, axis=1, keepdims=True)
    return -0.5 * power / scaled - 0.5 * FRAME_SIZE * np.log(2 * np.pi * scaled)


def test_linear_prediction_beats_the_best_static_mixture(split):
    size = 480
    train, valid = (linear_prediction(X, size) for X in split)
    weights = np.full(9, 1 / 9)
    for _ in range(20):  # expectation maximisation of the weights of the scales
        joint = train + np.log(weights)
        share = np.exp(joint - np.logaddexp.reduce(joint, axis=1, keepdims=True))
        weights = np.maximum(share.mean(axis=0), 1e-4)
        weights /= weights.sum()
    timed = np.logaddexp.reduce(valid + np.log(weights), axis=1).mean()
    static = static_mixture(split, size)
    print(f"timed {timed:.2f}, static {static:.2f}: {timed - static:.2f} nats per frame")
    assert timed - static > 10


def test_not_deterministic(split):
    """The best linear prediction leaves noise, so no density can grow without bound."""
    _, error_valid = ridge(split)
    assert error_valid.std(axis=0).min() > 0.05
    assert np.abs(error_valid).max(axis=1).min() > 0.005


# --- command -----------------------------------------------------------------------------


def test_command_writes_wav(tmp_path, capsys):
    out = tmp_path / "demo.wav"
    assert main(["blizzard", str(out), "--seconds", "1.5", "--seed", "4"]) == 0
    rate, samples = wavfile.read(out)
    assert rate == 16000
    assert_array_equal(samples, demo.speak(24000, seed=4))
    assert "1.5 s of babble" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [out]
