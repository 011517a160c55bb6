"""What stands behind a run: its folder, noise, surroundings, options of the main loop."""

import logging
import re
from pathlib import Path

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from cle_port.data import DesignMatrix, Iterator
from cle_port.data.noise import MRGNoise, NormalNoise
from cle_port.errors import UserError
from cle_port.train import checkpoint
from cle_port.train.ext import LrLinearDecay, Patience, UpdateCount
from cle_port.train.screen import OriginalScreen
from cle_port.utils import sharedX
from models.programs import PROGRAMS
from models.running import Run
from models.running.data import data_id
from models.running.files import default_folder
from models.running.program import PACKAGES, surroundings
from models.running.screen import LatentWatch, ShortScreen
from models.settings import Settings, parse


@pytest.mark.parametrize(
    ("settings", "folder"),
    [
        ({}, "runs/blizzard_demo"),
        ({"dataset": "iamondb"}, "runs/iamondb_demo"),
        ({"data_path": "x"}, "runs/blizzard"),
        ({"prior": "independent"}, "runs/blizzard_demo_independent"),
        ({"rnn": "gru", "dataset": "iamondb", "data_path": "d"}, "runs/iamondb_gru"),
        ({"dataset": "digits"}, "runs/digits"),
        ({"dataset": "digits", "output": "gauss"}, "runs/digits_gauss"),
    ],
)
def test_default_folder(settings, folder):
    assert default_folder(Settings(**settings)) == Path(folder)


def test_files_are_named_once():
    files = Run("vrnn_gmm", Settings(trial=3, save_path="here")).files
    assert files.folder == Path("here")
    assert {path.parent for path in files[1:]} == {Path("here")}
    assert files.checkpoint.name == "vrnn_gmm_3.npz"
    assert files.log.name == "vrnn_gmm_3.jsonl"


@pytest.mark.parametrize("error", [None, UserError("wrong")])
def test_surroundings_are_put_back(error, capsys):
    """Precision, the levels of the loggers, and where they write."""

    def state():
        levels = [logging.getLogger(package).level for package in PACKAGES]
        return pytensor.config.floatX, levels, list(logging.getLogger().handlers)

    logging.getLogger().handlers, kept = [], logging.getLogger().handlers
    try:
        before = state()
        try:
            with surroundings(Settings(floatX="float64")):
                assert pytensor.config.floatX == "float64"
                logging.getLogger("models.x").info("seen")
                if error:
                    raise error
        except UserError:
            pass
        assert state() == before
        with surroundings(Settings(quiet=True)):
            logging.getLogger("models.x").info("not seen")
        assert state() == before
    finally:
        logging.getLogger().handlers = kept
    assert capsys.readouterr().out == "seen\n"


@pytest.mark.parametrize(("noise", "kind"), [("numpy", NormalNoise), ("mrg", MRGNoise)])
def test_noise_streams_are_independent_and_repeatable(noise, kind):
    with pytensor.config.change_flags(floatX="float64"):
        first, again = (
            Run("vrnn_gmm", Settings(noise=noise, seed=5)).noise_streams(4, 2) for _ in range(2)
        )
        assert all(isinstance(stream, kind) for stream in first)
        draws, same = ([stream.draw(3, 2) for stream in streams] for streams in (first, again))
    np.testing.assert_array_equal(draws, same)
    assert draws[0].shape == (3, 2, 4)
    assert not np.any(draws[0] == draws[1])


def test_settings_that_are_extensions():
    (watch,) = Run("vrnn_gmm", Settings()).extensions("valid_nll_upper_bound")
    assert isinstance(watch, LatentWatch)
    args = Settings(max_updates=7, patience=3, lr_schedule="linear:2:7:0.5")
    own = UpdateCount(9)
    extensions = Run("vrnn_gmm", args, extensions=[own]).extensions("valid_nll_upper_bound")
    _, schedule, patience, count, last = extensions
    assert isinstance(schedule, LrLinearDecay)
    assert (schedule.start, schedule.end, schedule.decay_factor) == (2, 7, 0.5)
    assert isinstance(patience, Patience)
    assert (patience.channel, patience.patience) == ("valid_nll_upper_bound", 3)
    assert isinstance(count, UpdateCount)
    assert count.num_update == 7
    assert last is own


@pytest.mark.parametrize(("screen", "shown"), [("short", "3e-07"), ("original", "0.000000")])
def test_a_small_learning_rate_is_shown(screen, shown, caplog):
    caplog.set_level(logging.INFO)
    run = Run("vrnn_gmm", Settings(lr=3e-7, screen=screen))
    run.announce()
    assert f"learning rate {shown}" in caplog.messages
    kind = ShortScreen if screen == "short" else OriginalScreen
    assert isinstance(run._screen(), kind)


# --init_from


SHAPES = {"W": (3, 2), "b": (2,)}
MODEL = {"dataset": "blizzard", "x_dim": 7, "z_dim": 3, "rnn_dim": 5, "depth": 1, "rnn": "gru"}


@pytest.fixture
def trained(tmp_path):
    """Write a checkpoint; return its path and its parameters."""

    def write(program="vrnn_gmm_1", settings=None, shapes=SHAPES, dtype="float64", **meta):
        rng = np.random.default_rng(1)
        params = {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
        arrays = params | {"adam_m/W": np.ones((3, 2)), "log/time": np.ones(1)}
        saved = Settings(**MODEL, epoch=99, seed=5, lr=0.5).as_dict()
        saved = saved if settings is None else settings
        meta = {"program": program, "settings": saved, "params": list(params)} | meta
        checkpoint.save(tmp_path / "from.npz", arrays, meta)
        return tmp_path / "from.npz", params

    return write


def run_from(path, *argv, program="vrnn_gmm"):
    argv = ["--init_from", str(path), "--save_path", str(path.parent / "new"), *argv]
    return Run.from_command_line(program, {"blizzard": {}, "iamondb": {}}, "", argv)


@pytest.mark.parametrize("floatX", ["float32", "float64"])
def test_init_from_sets_parameters_and_the_settings_of_the_model(trained, floatX, caplog):
    caplog.set_level(logging.INFO)
    path, params = trained()
    run = run_from(path, "--data_path", "DATA", "--floatX", floatX)
    assert {key: getattr(run.args, key) for key in MODEL} == MODEL
    full = parse(["--data_path", "DATA"], "", {"blizzard": {}})
    for key in ("epoch", "seed", "lr", "batch_size"):  # not those of the checkpoint
        assert getattr(run.args, key) == getattr(full, key)
    with pytensor.config.change_flags(floatX=floatX):
        new = {name: sharedX(np.zeros(shape), name) for name, shape in SHAPES.items()}
    run.init_from(new)
    for name, value in params.items():
        np.testing.assert_array_equal(new[name].get_value(), value.astype(floatX))
        assert new[name].dtype == floatX
    assert f"Starting from 2 arrays of {path}" in caplog.messages


def test_without_init_from_parameters_stay(trained):
    path, _ = trained()
    p = sharedX(np.zeros((3, 2)), "W")
    Run("vrnn_gmm", Settings()).init_from({"W": p})
    # A resumed run has the parameters of its own checkpoint, and the file may be gone.
    Run("vrnn_gmm", Settings(init_from=str(path), resume="x.npz"), loaded=({}, {})).init_from({})
    assert not p.get_value().any()


@pytest.mark.parametrize(
    ("shapes", "problem"),
    [
        (SHAPES | {"W": (3, 4)}, "1 arrays differ, W is (3, 4) where the model has (3, 2)"),
        ({"W": (3, 2)}, "1 arrays differ, b is not there where the model has (2,)"),
        (SHAPES | {"c": (1,)}, "1 arrays differ, c is (1,) where the model has nothing"),
    ],
)
def test_init_from_another_model(trained, shapes, problem):
    path, _ = trained(shapes=shapes)
    new = {name: sharedX(np.zeros(shape), name) for name, shape in SHAPES.items()}
    with pytest.raises(UserError) as error:
        run_from(path).init_from(new)
    assert problem in str(error.value)
    assert str(error.value).endswith("which are then those of the checkpoint")
    assert not any(p.get_value().any() for p in new.values())


@pytest.mark.parametrize(
    ("meta", "argv", "message"),
    [
        ({"program": "rnn_gmm_1"}, (), "is a checkpoint of rnn_gmm_1, not of vrnn_gmm"),
        ({"settings": 3}, (), "it has no settings"),
        ({"settings": {"rnn_dim": "many"}}, (), "the checkpoint has rnn_dim 'many'"),
        ({}, ("--resume",), "--resume goes on with its own parameters; leave --init_from"),
    ],
)
def test_init_from_refuses(trained, meta, argv, message):
    path, _ = trained(**meta)
    with pytest.raises(UserError, match=re.escape(message)):
        run_from(path, *argv)


def test_init_from_what_is_no_checkpoint(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK")
    for name in ("a.npz", "missing.npz"):
        with pytest.raises(UserError):
            run_from(tmp_path / name)


@pytest.mark.parametrize("flag", ["--kl_anneal", "--free_bits"])
def test_a_program_without_latent_variable_refuses_its_knobs(flag, tmp_path):
    argv = ["--save_path", str(tmp_path), flag, "3"]
    with pytest.raises(UserError, match=f"rnn_gmm has no latent variable z; leave {flag}"):
        PROGRAMS["rnn_gmm"].run_of(argv)
    assert getattr(PROGRAMS["vrnn_gmm"].run_of(argv).args, flag[2:]) == 3


def test_one_device_takes_the_whole_batch():
    run, x = Run("vrnn_gmm", Settings()), pt.tensor3("x")
    assert run.part(x) is x
    assert run.whole(x, axis=0) is x


class Rows(DesignMatrix):
    """Five rows that begin with a number."""

    def __init__(self, first):
        self.first = first
        super().__init__("train")

    def load(self, path):
        return [np.arange(self.first, self.first + 10.0).reshape(5, 2)]


def test_data_id_tells_data_apart():
    def of(first, batch_size=2):
        return data_id(Iterator(Rows(first), batch_size), Iterator(Rows(0.0), batch_size))

    assert of(0.0) == of(0.0)
    assert len({of(0.0), of(1.0), of(0.0, batch_size=4)}) == 3
