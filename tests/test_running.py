"""What stands behind a run: its folder, noise, surroundings, options of the main loop."""

import logging
from pathlib import Path

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from cle_port.data import DesignMatrix, Iterator
from cle_port.data.noise import MRGNoise, NormalNoise
from cle_port.errors import UserError
from cle_port.train.ext import UpdateCount
from models.running import Run
from models.running.data import data_id
from models.running.files import default_folder
from models.running.program import PACKAGES, surroundings
from models.settings import Settings


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


def test_max_updates_is_an_extension():
    assert Run("vrnn_gmm", Settings()).extensions() == []
    (extension,) = Run("vrnn_gmm", Settings(max_updates=7)).extensions()
    assert isinstance(extension, UpdateCount)
    assert extension.num_update == 7


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
