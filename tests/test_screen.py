"""What a monitoring step shows, and the warning when z is not used."""

import io
import json
import logging
import math
import re
import sys
from types import SimpleNamespace

import pytest

from cle_port.train import TrainLog
from cle_port.train.opt import Adam
from cle_port.train.screen import OriginalScreen, Screen
from models.running.screen import LatentWatch, ShortScreen, number, remedies
from models.settings import Settings

STATISTICS = ("phi_sig", "prior_sig", "theta_sig", "x", "theta_mu")


def channels(data, bound, kl_by_dim=(0.2, 0.001), n_statistics=5):
    """What a VRNN monitors on one data set."""
    names = [*STATISTICS, *(f"more_{i}" for i in range(n_statistics - 5))][:n_statistics]
    of_step = {"nll_upper_bound": bound, "recon_term": bound - 0.201, "kl_term": 0.201}
    for i, name in enumerate(names):
        of_step |= {f"max_{name}": i + 0.75, f"mean_{name}": i + 0.5, f"min_{name}": i + 0.25}
    of_step["kl_by_dim"] = list(kl_by_dim)
    return {f"{data}_{name}": value for name, value in of_step.items()}


class Steps:
    """Shows monitoring steps as `Monitoring` does."""

    def __init__(self, screen):
        self.screen = screen
        self.mainloop = SimpleNamespace(
            trainlog=TrainLog(), optimizer=Adam(lr=3e-7), extension=[], endloop=0
        )

    def show(self, batch_seen, entry, best=0, data_names=("train", "valid")):
        log = self.mainloop.trainlog
        log.batch_seen = log.monitored_at = batch_seen
        for name, value in entry.items():
            log.monitor[name].append(value)
        judged = {} if best is None else {"best": best}
        entry = {"elapsed_time": 1.0, "learning_rate": 3e-7, **entry, **judged}
        entry |= {"monitoring_time": 0.5, "wall_time": 1.6e9}
        log.last = entry
        self.screen.before(self.mainloop, entry)
        self.screen.after(self.mainloop, entry, data_names)


@pytest.fixture
def lines(caplog):
    """The lines shown since this was called last."""
    caplog.set_level(logging.INFO)

    def recent():
        messages = list(caplog.messages)
        caplog.clear()
        return messages

    return recent


def shown(lines, line):
    """Numbers and words of one line, without the spaces between them."""
    return re.sub(r" +", " ", lines[line]).strip()


def test_a_line_for_each_data_set_and_eight_for_the_statistics(lines):
    steps = Steps(ShortScreen("blizzard"))
    steps.show(0, channels("train", 60.0) | channels("valid", 61.0))
    assert lines()[:3] == [
        "Numbers are nats a frame; a lower bound is better.",
        "★ marks the best validation so far, brackets the change.",
        "z counts the dimensions of z that are active: KL above 0.01 nats a frame.",
    ]
    entry = {"this_batch_nll_upper_bound": 41.0, "grad_norm": 12.5}
    steps.show(60, entry | channels("train", 40.5) | channels("valid", 1234.56789), best=1)
    step = lines()
    assert step[0] == ""
    assert re.fullmatch(
        r"60 train bound 40.500 \(-19.500\) recon 40.299 KL 0.201 z 1/2 gradient 12.500 lr 3e-07 "
        r"\d\d:\d\d:\d\d",
        shown(step, 1),
    )
    assert shown(step, 2) == "valid bound 1234.568 (+1173.568) ★ recon 1234.367 KL 0.201 z 1/2"
    assert shown(step, 3) == "train max mean min valid max mean min"
    assert shown(step, 4) == "phi_sig 0.750 0.500 0.250 0.750 0.500 0.250"
    assert len(step[3:]) <= 8
    assert max(map(len, step)) <= 120


def test_statistics_beyond_eight_lines_are_counted(lines):
    steps = Steps(ShortScreen("blizzard"))
    entry = channels("train", 1.0, n_statistics=7) | channels("valid", 1.0, n_statistics=7)
    steps.show(60, entry)
    assert len(lines()[6:]) == 8
    entry = channels("train", 1.0, n_statistics=12) | channels("valid", 1.0, n_statistics=12)
    steps.show(120, entry)
    step = lines()
    assert len(step[3:]) == 8
    assert shown(step, -1) == "6 more in the log"


def test_handwriting_has_the_bound_of_the_updates_for_a_training_line(lines):
    steps = Steps(ShortScreen("iamondb"))
    coeff = {"coeff_max": 0.9, "coeff_min": 0.1, "coeff_mean_max": 0.4, "coeff_mean_min": 0.2}
    entry = channels("valid", 300.0) | {f"valid_{name}": value for name, value in coeff.items()}
    steps.show(0, entry, data_names=["valid"])
    first = lines()
    assert first[0] == "Numbers are nats a line; a lower bound is better."
    assert shown(first, 4).startswith("0 valid bound 300.000 recon")
    recent = {"this_batch_nll_upper_bound": 310.0, "grad_norm": 1.0}
    steps.show(100, recent | entry, data_names=["valid"])
    step = lines()
    assert shown(step, 1).startswith("100 train bound 310.000 gradient 1.000 lr 3e-07 ")
    assert shown(step, 2) == "valid bound 300.000 (+0.000) recon 299.799 KL 0.201 z 1/2"
    assert shown(step, -2) == "coeff 0.900 - 0.100"
    assert shown(step, -1) == "coeff_mean 0.400 - 0.200"
    assert len(step[3:]) == 8


def test_a_model_without_latent_variable(lines):
    steps = Steps(ShortScreen("blizzard"))
    steps.show(0, {"train_nll": 60.0, "valid_nll": 61.0})
    first = lines()
    assert not any("dimensions of z" in line for line in first)
    assert shown(first, 3).startswith("0 train nll 60.000 lr 3e-07 ")
    assert shown(first, 4) == "valid nll 61.000"
    assert len(first) == 5


def test_what_a_user_monitors_beside(lines):
    """A second Monitoring: without a cost, without data, on other data; nothing stops the run."""
    steps = Steps(ShortScreen("blizzard"))
    steps.show(60, channels("valid", 5.0), best=1)
    steps.screen.saving("best model", "a_best.npz")
    steps.show(60, {"valid_max_a": 3.0, "valid_mean_a": 2.0, "valid_min_a": 1.0}, best=None)
    steps.show(60, {"valid_kl_by_dim": [0.5, 0.0]}, best=None)
    steps.show(60, {}, best=None, data_names=())
    lines()
    steps.show(60, {"test_set_nll": 77.0}, best=None, data_names=("test_set",))
    assert shown(lines(), -1) == "60 test_set nll 77.000"
    steps.show(120, channels("valid", 6.0) | {"test_nll": 8.0}, data_names=("valid", "test"))
    lines()
    steps.screen.end(steps.mainloop)
    assert lines()[-1] == "Best: bound 5.000 after 60 updates, in a_best.npz"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"),
        (-0.0004, "-4.00e-04"),
        (3e-7, "3.00e-07"),
        (0.0005, "0.001"),
        (-740.6123, "-740.612"),
        (12345678.0, "1.23e+07"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
    ],
)
def test_no_number_is_lost(value, text):
    assert number(value) == text


def test_a_screen_that_has_no_star(lines, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
    steps = Steps(ShortScreen("blizzard"))
    steps.show(60, channels("valid", 1.0), best=1)
    text = "\n".join(lines())
    assert re.search(r"bound +1\.000 +\*", text)
    text.encode("cp1252")


def test_the_end_names_the_best_model(lines):
    screen = ShortScreen("blizzard")
    steps = Steps(screen)
    screen.end(steps.mainloop)
    assert lines() == []  # nothing is best yet
    steps.show(60, channels("train", 4.0) | channels("valid", 5.0), best=1)
    screen.saving("best model", "runs/a_best.npz")
    steps.show(120, channels("train", 4.0) | channels("valid", 6.0))
    screen.saving("model", "runs/a.npz")
    lines()
    screen.end(steps.mainloop)
    assert lines() == ["", "Best: bound 5.000 after 60 updates, in runs/a_best.npz"]


def test_the_original_prints_no_list(lines):
    """Its other lines are compared with those recorded, in test_ext.py."""
    steps = Steps(OriginalScreen())
    steps.show(0, channels("train", 4.0) | channels("valid", 5.0), best=1)
    step = lines()
    assert step[step.index(" initial_monitoring") :][:4] == [
        " initial_monitoring",
        " train_nll_upper_bound: 4.000000",
        " train_recon_term: 3.799000",
        " train_kl_term: 0.201000",
    ]
    assert step[-1] == " Elapsed time for monitoring: 0.500000"
    assert not [line for line in step if "kl_by_dim" in line or "best" in line or "wall" in line]


def test_a_screen_may_show_nothing(lines):
    steps = Steps(Screen())
    steps.show(0, channels("valid", 5.0))
    steps.screen.saving("model", "a.npz")
    steps.screen.end(steps.mainloop)
    assert lines() == []


# The warning


def watched(kls, watch=None, steps=3):
    """Run the extension over steps with these KLs of two dimensions."""
    watch = watch or LatentWatch(steps=steps)
    progress = Steps(Screen())
    for n, kl in enumerate(kls):
        progress.show(60 * n, channels("valid", 1.0, kl))
        watch.exe(progress.mainloop)
    return watch


UNUSED, USED = (0.001, 0.009), (0.001, 0.011)


@pytest.mark.parametrize(
    ("kls", "n_warning"),
    [
        ([UNUSED] * 3, 0),  # the step before the first update does not count
        ([UNUSED] * 4, 1),
        ([UNUSED] * 9, 1),  # once is enough
        ([UNUSED, UNUSED, UNUSED, USED, UNUSED, UNUSED], 0),
        ([UNUSED, *[UNUSED] * 3, USED, *[UNUSED] * 3], 2),
    ],
)
def test_a_latent_variable_that_is_not_used_is_warned_of(kls, n_warning, caplog):
    watched(kls)
    assert sum("z is not used: for 3 monitoring steps" in m for m in caplog.messages) == n_warning


def test_no_warning_without_a_latent_variable(caplog):
    progress = Steps(Screen())
    watch = LatentWatch(steps=1)
    for n in range(3):
        progress.show(60 * n, {"valid_nll": 1.0})
        watch.exe(progress.mainloop)
    assert not caplog.messages


def test_the_count_goes_through_a_checkpoint(caplog):
    first = watched([UNUSED] * 3)
    second = LatentWatch()
    second.resume(None, json.loads(json.dumps(first.state())))
    watched([USED, UNUSED], second)
    assert sum("z is not used" in message for message in caplog.messages) == 1
    second.resume(None, {})  # a checkpoint of an older version
    assert second.unused == 0


def test_a_kl_that_is_no_number_is_not_counted(caplog):
    watched([(math.nan, math.nan)] * 6)
    assert not caplog.messages


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "train longer; longer frames (--x_dim); --kl_anneal 1000; --free_bits 0.05"),
        ({"dataset": "iamondb", "kl_anneal": 5}, "train longer; --free_bits 0.05"),
        ({"dataset": "iamondb", "kl_anneal": 5, "free_bits": 0.1}, "train longer"),
    ],
)
def test_the_warning_advises_what_is_not_on_yet(settings, expected, caplog):
    watched([UNUSED] * 4, LatentWatch(remedies(Settings(**settings))))
    assert f"What may help: {expected} (docs/settings.md)." in caplog.text


def test_the_last_step_of_a_run_is_not_counted():
    """A resumed run looks at it again."""
    progress = Steps(Screen())
    watch = LatentWatch()
    progress.mainloop.endloop = 1
    progress.show(60, channels("valid", 1.0, UNUSED))
    watch.exe(progress.mainloop)
    assert watch.unused == 0
