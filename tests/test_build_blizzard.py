import builtins
import errno
import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.signal

from cle_port.errors import UserError
from datasets.blizzard import Blizzard_tbptt, row_ranges
from datasets.build import blizzard as build_blizzard
from datasets.build.__main__ import main
from datasets.build.blizzard import build, find_recordings, read_recording, resample
from datasets.hdf5.rows import HDF5Rows, RowWriter
from datasets.hdf5.statistics import load_statistics

soundfile = pytest.importorskip("soundfile")

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[1]
TBPTT = ROOT / "tests" / "reference" / "artifacts" / "blizzard" / "tbptt"
ROWS = np.load(TBPTT.parents[1] / "blizzard_h5.npz")["tbptt/rows"]
NAME = "blizzard_unseg_tbptt"


def sound(n, channels=1, seed=0):
    """Return noise at half of full scale."""
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (n, channels))


def write(path, samples, rate=16000, subtype=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def read(path):
    return np.concatenate(list(read_recording(path)))


def run(*arguments, env=None):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def source(tmp_path):
    write(tmp_path / "in" / "a2.wav", sound(3000, 2))
    write(tmp_path / "in" / "a10.flac", sound(2500, seed=1), 8000)
    write(tmp_path / "in" / "b" / "c.WAV", sound(4000, seed=2), 44100)
    return tmp_path / "in"


# The whole command


def test_streams_follow_the_recordings(source, tmp_path):
    summary = build(source, tmp_path / "out", batch_size=3, seq_len=100, quiet=True)
    files = [source / "a2.wav", source / "a10.flac", source / "b" / "c.WAV"]
    joined = np.concatenate([read(path) for path in files])
    length = len(joined) // 3
    rows = HDF5Rows(summary.hdf5_path)
    assert len(rows) == summary.n_rows == (length - 1) // 100 * 3
    for i in range(len(rows) // 3):
        for j in range(3):
            start = j * length + i * 100
            np.testing.assert_array_equal(rows[3 * i + j : 3 * i + j + 1][0], joined[start:][:100])


def test_statistics_are_those_of_all_rows(source, tmp_path):
    summary = build(source, tmp_path / "out", batch_size=3, seq_len=100, quiet=True)
    rows = HDF5Rows(summary.hdf5_path)
    every = rows[0 : len(rows)]
    stored = load_statistics(tmp_path / "out", NAME)
    assert stored == pytest.approx((every.mean(), every.std()), rel=1e-12)
    assert summary.moments.peak == np.abs(every).max()


def test_result_trains(source, tmp_path):
    build(source, tmp_path / "out", batch_size=4, seq_len=100, quiet=True)
    mean, std = load_statistics(tmp_path / "out", NAME)
    data = Blizzard_tbptt(
        path=tmp_path / "out", file_name=NAME, frame_size=20, X_mean=mean, X_std=std
    )
    assert data.batch_size_of_file == 4
    assert row_ranges(data.num_examples(), 4, 4).train_end > 0
    batch = data.slices(0, data.num_examples())[0]
    assert abs(batch.mean()) < 1e-3
    assert abs(batch.std() - 1) < 1e-3


def test_npy_gives_the_originals_rows(tmp_path):
    summary = build(TBPTT, tmp_path, batch_size=4, seq_len=20, quiet=True)
    np.testing.assert_array_equal(HDF5Rows(summary.hdf5_path)[0:400], ROWS)
    assert summary.used == 3
    assert load_statistics(tmp_path, NAME) == pytest.approx((ROWS.mean(), ROWS.std()))


def test_prints_a_summary(source, tmp_path, capsys):
    (source / "bad.wav").write_text("no audio")
    arguments = ["blizzard", str(source), str(tmp_path / "out"), "--batch_size", "3", "--seq_len"]
    assert main([*arguments, "100"]) == 0
    out, err = capsys.readouterr()
    for word in ("3 used, 1 skipped", "hours", "rows", "mean", "std", "peak", f"{NAME}.h5"):
        assert word in out
    assert "bad.wav: Format not recognised" in out
    assert "error" not in err


def test_quiet_is_quiet(source, tmp_path, capfd):
    size = ["--batch_size", 3, "--seq_len", 100]
    arguments = ["blizzard", source, tmp_path / "out", *size, "--quiet"]
    assert main(list(map(str, arguments))) == 0
    assert capfd.readouterr() == ("", "")
    (source / "bad.wav").write_text("no audio")
    assert main([*map(str, arguments), "--force"]) == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "bad.wav: Format not recognised" in err


def test_one_recording_as_source(source, tmp_path):
    assert build(source / "a2.wav", tmp_path, 2, 50, quiet=True).n_rows == 2 * (1499 // 50)


def test_same_bytes_each_time(source, tmp_path):
    for out in ("one", "two"):
        build(source, tmp_path / out, 3, 100, quiet=True)
    one, two = ((tmp_path / out / f"{NAME}.h5").read_bytes() for out in ("one", "two"))
    assert one == two


def test_runs_beside_another_package_called_datasets(source, tmp_path):
    (tmp_path / "other" / "datasets").mkdir(parents=True)
    (tmp_path / "other" / "datasets" / "__init__.py").write_text("raise RuntimeError('other')")
    done = run(
        *("-m", "datasets.build", "blizzard", source, tmp_path / "out"),
        *("--batch_size", 3, "--seq_len", 100),
        env={"PYTHONPATH": str(tmp_path / "other")},
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / f"{NAME}.h5").exists()


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["blizzard", "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for word in ("16 kHz", "data_*.npy", "example:", "--strict", "--force", "_normal.npz"):
        assert word in out


# Decoding


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 16001, 96000])
@pytest.mark.parametrize("sizes", [(20000,), (700, 1, 4000, 9, 15290), (160,) * 125])
def test_resampling_in_blocks_is_resampling_the_whole(rate, sizes):
    whole = sound(20000)[:, 0]
    blocks = np.split(whole, np.cumsum(sizes)[:-1])
    streamed = np.concatenate(list(resample(blocks, rate)))
    common = np.gcd(rate, 16000)
    expected = scipy.signal.resample_poly(whole, 16000 // common, rate // common)
    assert len(streamed) == -(-20000 * 16000 // rate)
    np.testing.assert_allclose(streamed, expected, rtol=0, atol=1e-14)


def test_resampling_yields_before_the_end():
    seen = []

    def blocks():
        for number in range(50):
            seen.append(number)
            yield np.zeros(1000)

    next(resample(blocks(), 44100))
    assert len(seen) < 5


def test_blocks_of_a_file_join_without_a_seam(tmp_path, monkeypatch):
    path = write(tmp_path / "x.wav", sound(30000, 2), 44100, "DOUBLE")
    whole = read(path)
    monkeypatch.setattr(build_blizzard, "BLOCK_SAMPLES", 3000)
    np.testing.assert_array_equal(read(path), whole)


def test_a_tone_keeps_its_pitch(tmp_path):
    time_ = np.arange(48000) / 48000
    path = write(tmp_path / "x.wav", 0.5 * np.sin(2 * np.pi * 440 * time_), 48000, "PCM_24")
    samples = read(path)
    expected = 0.5 * 32768 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert len(samples) == 16000
    assert np.abs(samples - expected)[200:-200].max() < 30


def test_int16_at_16_khz_is_left_as_it_is(tmp_path):
    samples = np.array([-32768, -1, 0, 1, 32767], dtype=np.int16)
    path = write(tmp_path / "x.wav", samples)
    np.testing.assert_array_equal(read(path), samples)


def test_channels_are_averaged(tmp_path):
    samples = np.array([[100, 300, 500], [-7, 7, 3]], dtype=np.int16)
    assert read(write(tmp_path / "x.wav", samples)).tolist() == [300, 1]


def test_loud_samples_are_clipped(tmp_path):
    samples = np.array([1.5, -1.5, 0.25])
    path = write(tmp_path / "x.wav", samples, subtype="FLOAT")
    assert read(path).tolist() == [32767, -32768, 8192]


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_formats(tmp_path, suffix):
    time_ = np.arange(32000) / 16000
    tone = 0.5 * np.sin(2 * np.pi * 440 * time_)
    samples = read(write(tmp_path / f"x.{suffix}", tone)) / 32768
    assert len(samples) == pytest.approx(32000, abs=3000)
    spectrum = np.abs(np.fft.rfft(samples))
    assert np.argmax(spectrum) * 16000 / len(samples) == pytest.approx(440, abs=1)


def test_natural_order(tmp_path):
    for name in ("b.wav", "a10.wav", "a2.WAV", "a2/x.ogg", "A1.mp3", "1.flac", "note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [str(path.relative_to(tmp_path)) for path in find_recordings(tmp_path)]
    assert names == ["1.flac", "A1.mp3", "a2/x.ogg", "a2.WAV", "a10.wav", "b.wav"]


# Bad recordings


def cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def bad_recordings(folder):
    """Write unusable files and return the expected reasons."""
    tone = 0.3 * np.sin(np.arange(32000) / 5)
    nan = tone.copy()
    nan[30000] = np.nan
    for suffix in ("wav", "flac", "mp3", "ogg"):
        cut(write(folder / f"cut.{suffix}", sound(32000)), 0.6)
    write(folder / "nan.wav", nan, subtype="FLOAT")
    write(folder / "inf.wav", np.where(np.isnan(nan), np.inf, nan), subtype="DOUBLE")
    write(folder / "empty.wav", tone[:0])
    write(folder / "rate.wav", tone, 100)
    (folder / "nothing.wav").touch()
    (folder / "text.wav").write_text("this is no audio at all, but text")
    (folder / "nothing.mp3").touch()
    (folder / "dangling.wav").symlink_to(folder / "none")
    return {
        "cut.wav": "cut off",
        "cut.flac": "lost sync|psf_fseek",  # depends on the version of libsndfile
        "cut.mp3": "cut off",
        "cut.ogg": "cut off",
        "nan.wav": "NaN",
        "inf.wav": "infinite",
        "empty.wav": "empty",
        "rate.wav": "sample rate is 100 Hz",
        "nothing.wav": "it is empty",
        "text.wav": "not recognised",
        "nothing.mp3": "it is empty",
        "dangling.wav": "No such file",
    }


def test_bad_recordings_are_skipped_with_their_reasons(source, tmp_path):
    good = build(source, tmp_path / "good", 3, 100, quiet=True)
    expected = bad_recordings(source)
    summary = build(source, tmp_path / "out", 3, 100, quiet=True)
    skipped = {path.name: reason for path, reason in summary.skipped}
    assert skipped.keys() == expected.keys()
    for name, reason in expected.items():
        assert re.search(reason, skipped[name]), name
        assert skipped[name]
        assert "\n" not in skipped[name]
    assert summary.used == 3
    assert summary.hdf5_path.read_bytes() == good.hdf5_path.read_bytes()


@pytest.mark.parametrize("name", ["cut.wav", "nan.wav", "text.wav"])
def test_strict_fails_at_the_first(source, tmp_path, name):
    bad_recordings(tmp_path / "bad")
    (tmp_path / "bad" / name).rename(source / name)
    with pytest.raises(UserError, match=f"{name}.*--strict"):
        build(source, tmp_path / "out", 3, 100, quiet=True, strict=True)
    assert list((tmp_path / "out").iterdir()) == []


def test_nothing_usable(tmp_path):
    bad_recordings(tmp_path / "in")
    with pytest.raises(UserError, match="none of the 12 recordings can be used"):
        build(tmp_path / "in", tmp_path / "out", 3, 100, quiet=True)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_damaged_files_end_in_no_other_error(tmp_path, suffix):
    content = write(tmp_path / f"x.{suffix}", sound(4000)).read_bytes()
    rng = np.random.default_rng(0)
    damaged = tmp_path / f"y.{suffix}"
    for _ in range(60):
        flipped = bytearray(content[: rng.integers(len(content) // 2, len(content) + 1)])
        for _ in range(3):
            flipped[rng.integers(min(len(flipped), 200))] ^= 1 << int(rng.integers(8))
        damaged.write_bytes(flipped)
        try:
            assert all(block.dtype == np.int16 for block in read_recording(damaged))
        except build_blizzard.BadRecording as error:
            reason = str(error)
        else:
            reason = "fine"
        assert reason
        assert "\n" not in reason


def test_header_of_an_endless_wav_is_accepted(tmp_path):
    path = write(tmp_path / "x.wav", sound(1000))
    content = bytearray(path.read_bytes())
    where = content.index(b"data") + 4
    content[where : where + 4] = struct.pack("<I", 2**32 - 1)
    path.write_bytes(content)
    assert len(read(path)) == 1000


# Other bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "none"}, "no file or folder"),
        ({"source": "."}, "check SOURCE"),
        ({"batch_size": 0}, "--batch_size must be at least 1"),
        ({"seq_len": -5}, "--seq_len must be at least 1"),
        ({"batch_size": 1000}, "cannot fill 1000 streams"),
        ({"seq_len": 10**6}, "cannot fill 3 streams"),
        ({"out": "in/a2.wav"}, "cannot create"),
        ({"out": "in/a2.wav/sub"}, "cannot create"),
    ],
)
def test_bad_input_is_one_line(source, tmp_path, capsys, change, message):
    (tmp_path / "empty").mkdir()
    if change.get("source") == ".":
        change = {"source": "empty"}
    arguments = {"source": "in", "out": "out", "batch_size": 3, "seq_len": 100, **change}
    code = main(
        [
            "blizzard",
            str(tmp_path / arguments["source"]),
            str(tmp_path / arguments["out"]),
            f"--batch_size={arguments['batch_size']}",
            f"--seq_len={arguments['seq_len']}",
            "--quiet",
        ]
    )
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert list(tmp_path.glob("out/*")) + list(tmp_path.glob("out/.*")) == []


def test_silence_is_refused(tmp_path):
    write(tmp_path / "in" / "x.wav", np.zeros(5000))
    with pytest.raises(UserError, match="silent"):
        build(tmp_path / "in", tmp_path / "out", 2, 100, quiet=True)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", [f"{NAME}.h5", f"{NAME}_normal.npz"])
def test_existing_files_are_kept_without_force(source, tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(UserError, match="use --force"):
        build(source, tmp_path, 3, 100, quiet=True)
    assert (tmp_path / name).read_text() == "precious"
    build(source, tmp_path, 3, 100, quiet=True, force=True)
    assert load_statistics(tmp_path, NAME)
    assert len(HDF5Rows(tmp_path / f"{NAME}.h5")) > 0


def test_force_keeps_the_old_files_until_the_new_ones_are_done(source, tmp_path):
    build(source, tmp_path / "out", 3, 100, quiet=True)
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(UserError, match="cannot fill"):
        build(source, tmp_path / "out", 3, 10**6, quiet=True, force=True)
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_old_statistics_never_stand_beside_new_rows(source, tmp_path, monkeypatch):
    build(source, tmp_path, 3, 100, quiet=True)
    monkeypatch.setattr(RowWriter, "commit", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        build(source, tmp_path, 3, 100, quiet=True, force=True)
    assert not (tmp_path / f"{NAME}_normal.npz").exists()


def test_missing_soundfile(source, tmp_path, monkeypatch):
    real = builtins.__import__

    def without_soundfile(name, *arguments, **kwargs):
        if name == "soundfile":
            raise ImportError(name)
        return real(name, *arguments, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_soundfile)
    with pytest.raises(UserError, match="pip install soundfile"):
        build(source, tmp_path / "out", 3, 100, quiet=True)
    assert list((tmp_path / "out").iterdir()) == []


def test_full_disk(source, tmp_path, monkeypatch):
    def full(self, rows):
        with self._errors():
            raise OSError(errno.ENOSPC, "file write failed\n, errno = 28")  # the wording of h5py

    monkeypatch.setattr(RowWriter, "append", full)
    with pytest.raises(UserError, match=r"\(No space left on device\); free space"):
        build(source, tmp_path / "out", 3, 100, quiet=True)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("where", ["find_recordings", "write_streams", "save_statistics"])
def test_interruption_is_one_line(source, tmp_path, monkeypatch, capsys, where):
    def interrupt(*arguments, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(build_blizzard, where, interrupt)
    arguments = ["blizzard", str(source), str(tmp_path / "out"), "--batch_size=3", "--seq_len=100"]
    assert main([*arguments, "--quiet"]) == 130
    assert capsys.readouterr().err.count("\n") == 1
    left = [path.name for path in (tmp_path / "out").iterdir()]
    assert left == ([f"{NAME}.h5"] if where == "save_statistics" else [])


@pytest.mark.skipif(os.name == "nt", reason="signals differ")
def test_ctrl_c_leaves_nothing(tmp_path):
    for number in range(100):
        write(tmp_path / "in" / f"{number}.wav", sound(200_000, 2, seed=number), 44100)
    # A background job of a shell inherits an ignored SIGINT, so restore the handler.
    heard = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "runpy.run_module('datasets.build', run_name='__main__', alter_sys=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", heard, "blizzard", tmp_path / "in", tmp_path / "out"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(tmp_path.glob("out/.*.tmp")):
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.2)  # until the command writes
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip().splitlines()[-1] == "interrupted; nothing was written"
    assert "Traceback" not in err
    assert list((tmp_path / "out").iterdir()) == []
