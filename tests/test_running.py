"""What stands behind a run: its folder, noise, surroundings, options of the main loop."""

import dataclasses
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
from models.running.files import RunFiles, default_folder, start_log
from models.running.program import PACKAGES, surroundings
from models.running.screen import LatentWatch, ShortScreen
from models.settings import Settings, parse
from tests.test_programs import OF_DATASET, flags, folders  # noqa: F401
from tests.uncompiled import Uncompiled


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


def test_knobs_that_are_on_are_shown(caplog):
    caplog.set_level(logging.INFO)
    Run("vrnn_gmm", Settings()).describe({})
    Run("vrnn_gmm", Settings(clip=1.0, lr_schedule="cosine:0:9:0", kl_anneal=3)).describe({})
    off, on = (text for text in caplog.messages if "learning" in text)
    assert off.endswith("10 epochs, rate 0.0003")
    assert on.endswith("rate 0.0003, lr_schedule cosine:0:9:0, clip 1.0, kl_anneal 3")


def test_a_schedule_that_would_raise_the_learning_rate():
    """Whatever --lr is, of flags, files or a checkpoint."""
    with pytest.raises(UserError, match=r"MIN_LR is 0.01; give 0 or more, less than lr, 0.001"):
        Run("vrnn_gmm", Settings(lr=0.001, lr_schedule="exponential:2:0.01"))


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

    def write(
        program="vrnn_gmm_1",
        settings=None,
        shapes=SHAPES,
        dtype="float64",
        name="from.npz",
        value=1.0,
        **meta,
    ):
        rng = np.random.default_rng(1)
        params = {
            key: (value * rng.normal(size=shape)).astype(dtype) for key, shape in shapes.items()
        }
        arrays = params | {"adam_m/W": np.ones((3, 2)), "log/time": np.ones(1)}
        saved = Settings(**MODEL, epoch=99, seed=5, lr=0.5).as_dict()
        saved = saved if settings is None else settings
        meta = {"program": program, "settings": saved, "params": list(params)} | meta
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.save(path, arrays, meta)
        return path, params

    return write


def run_of(*argv):
    return Run.from_command_line("vrnn_gmm", {"blizzard": {}, "iamondb": {}}, "", argv)


def run_from(path, *argv):
    return run_of("--init_from", str(path), "--save_path", str(path.parent / "new"), *argv)


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
    # A resumed run has the parameters of its own checkpoint.
    Run("vrnn_gmm", Settings(init_from=str(path), resume="x.npz")).init_from({"W": p})
    assert not p.get_value().any()


def test_a_run_that_is_made_in_code_starts_from_its_checkpoint(trained):
    path, params = trained()
    new = {name: sharedX(np.zeros(shape), name) for name, shape in SHAPES.items()}
    Run("vrnn_gmm", Settings(init_from=str(path))).init_from(new)
    np.testing.assert_array_equal(new["b"].get_value(), params["b"].astype(new["b"].dtype))


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
    assert str(error.value).endswith("give those that it was trained with")
    assert not any(p.get_value().any() for p in new.values())


@pytest.mark.parametrize(
    ("meta", "argv", "message"),
    [
        ({"program": "rnn_gmm_1"}, (), "is a checkpoint of rnn_gmm_1, not of vrnn_gmm"),
        ({"settings": 3}, (), "is not a whole checkpoint of this program ("),
        ({"settings": {"rnn_dim": "many"}}, (), "this program (its rnn_dim is 'many')"),
        ({"settings": {"rnn_dim": True}}, (), "this program (its rnn_dim is True)"),
        ({"settings": {"rnn_dim": 0}}, (), "this program (rnn_dim is 0; it must be at least 1)"),
        ({"params": 3}, (), "is not a whole checkpoint of this program ("),
        ({"params": ["W", "gone"]}, (), "is not a whole checkpoint of this program ('gone')"),
        ({"value": np.inf}, (), "entries in W that are no finite numbers"),
        ({"dtype": "int32"}, (), "entries in W that are no finite numbers"),
        ({}, ("--x_dim", "9"), "x_dim is 9, but 7 there; leave out x_dim"),
        ({}, ("--dataset", "iamondb"), "dataset is iamondb, but blizzard there; leave out dataset"),
        ({}, ("--rnn", "gru2"), "rnn is gru2, but gru there"),  # of the same shapes
        ({}, ("--depth", "2", "--z_dim", "9"), "leave out z_dim, depth (the checkpoint decides)"),
    ],
)
def test_init_from_refuses(trained, meta, argv, message):
    """Before anything is written."""
    path, _ = trained(**meta)
    with pytest.raises(UserError, match=re.escape(message)):
        run_from(path, *argv)
    assert list(path.parent.iterdir()) == [path]


def test_settings_of_the_model_that_may_be_given(trained, tmp_path):
    """The checkpoint's own, such as in its settings file; the sigmoid; those that it lacks."""
    path, _ = trained()
    (tmp_path / "same.txt").write_text("x_dim 7\nrnn gru\nepoch 3\n")
    args = run_from(path, str(tmp_path / "same.txt"), "--sigmoid", "plain").args
    assert (args.x_dim, args.rnn, args.epoch, args.sigmoid) == (7, "gru", 3, "plain")
    path, _ = trained(settings={"rnn": "gru"}, name="imported.npz")
    args = run_from(path, "--x_dim", "9").args
    assert (args.x_dim, args.rnn) == (9, "gru")


def resumable(trained, name, **settings):
    """Write a checkpoint that can be resumed, of a run that had another starting point."""
    saved = Settings(**MODEL | settings).as_dict()
    return trained(name=name, settings=saved, n_logged=0)[0]


def test_a_resumed_run_does_not_read_its_starting_point(trained, tmp_path):
    """The same command line with --resume; the file that it started from is gone."""
    path = resumable(trained, "new/vrnn_gmm_1.npz", init_from="gone.npz")
    for argv in (["--resume", str(path)], ["--resume", "--save_path", str(path.parent)]):
        args = run_of("--init_from", "gone.npz", *argv).args
        assert (args.resume, args.init_from) == (str(path), "gone.npz")
        assert {key: getattr(args, key) for key in MODEL} == MODEL
    with pytest.raises(UserError, match=r"init_from is b.npz, the checkpoint has gone.npz"):
        run_of("--init_from", "b.npz", "--resume", str(path))


def test_a_resumed_run_is_found_in_the_folder_of_its_model(trained, tmp_path, monkeypatch):
    """The folder has the name of the recurrence, which only the starting point says."""
    monkeypatch.chdir(tmp_path)
    trained()
    resumable(trained, "runs/blizzard_demo_gru/vrnn_gmm_1.npz", init_from="from.npz")
    args = run_of("--init_from", "from.npz", "--resume").args
    assert args.resume == str(Path("runs/blizzard_demo_gru/vrnn_gmm_1.npz"))


@pytest.mark.parametrize(
    ("name", "replaced"),
    [
        ("vrnn_gmm_1_best.npz", True),
        ("vrnn_gmm_1_40updates.npz", True),
        ("vrnn_gmm_10.npz", False),
        ("vrnn_gmm_2_best.npz", False),
        ("other/vrnn_gmm_1.npz", False),
    ],
)
def test_a_run_does_not_replace_its_starting_point(name, replaced, tmp_path):
    args = Settings(save_path=str(tmp_path), init_from=str(tmp_path / name))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    files = RunFiles.of("vrnn_gmm", args)
    if replaced:
        with pytest.raises(UserError, match="from which it starts; give another --trial"):
            start_log(files, args)
        assert [path.name for path in tmp_path.iterdir()] == [name]
        args = dataclasses.replace(args, resume="x.npz")
    start_log(files, args)


class Reached(Exception):
    pass


@pytest.mark.parametrize("dataset", OF_DATASET)
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_starts_from_the_checkpoint(name, dataset, folders, tmp_path, monkeypatch):  # noqa: F811
    """With the parameters of its model, before anything is compiled."""

    def init_from(run, params):
        raise Reached(list(params))

    run = PROGRAMS[name].run_of(flags(dataset, folders[dataset], tmp_path))
    monkeypatch.setattr(Run, "init_from", init_from)
    monkeypatch.setattr(run, "compiler", Uncompiled())
    monkeypatch.setattr(Uncompiled, "function", None)
    with pytest.raises(Reached) as reached:
        PROGRAMS[name].mainloop(run)
    assert reached.value.args[0] == list(PROGRAMS[name].make_net(run.args).params)


def test_init_from_what_is_no_checkpoint(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK")
    for name in ("a.npz", "missing.npz"):
        with pytest.raises(UserError):
            run_from(tmp_path / name)


@pytest.mark.parametrize("flag", ["--kl_anneal", "--free_bits"])
def test_a_program_without_latent_variable_refuses_its_knobs(flag, tmp_path):
    argv = ["--save_path", str(tmp_path), flag, "3"]
    with pytest.raises(UserError, match=f"rnn_gmm has no latent variable z; leave out {flag}"):
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
