"""Settings: where they come from, and what happens to wrong ones."""

from __future__ import annotations

import dataclasses

import pytest

from cle_port.errors import UserError
from cle_port.utils.mrg import M2
from models import settings
from models.settings import Settings, check_changes, parse, read_config

# The original's models/blizzard/config.txt and the literals in its vrnn_gmm.py.
PAPER = {
    "trial": 1,
    "monitoring_freq": 2000,
    "force_saving_freq": 10000,
    "reset_freq": 4,
    "epoch": 10,
    "batch_size": 128,
    "m_batch_size": 1280,
    "x_dim": 200,
    "z_dim": 200,
    "num_k": 20,
    "rnn_dim": 4000,
    "lr": 0.0003,
    "debug": 1,
    "x2s_dim": 500,
    "z2s_dim": 500,
    "q_z_dim": 500,
    "p_z_dim": 500,
    "p_x_dim": 500,
    "depth": 4,
}
KEYS = [item.name for item in dataclasses.fields(Settings)]
LEAST_ONE = [item.name for item in dataclasses.fields(Settings) if item.metadata.get("least") == 1]


def resolve(*argv: str, **constants) -> Settings:
    return parse(argv, "A program.", {"blizzard": constants})


@pytest.fixture
def config(tmp_path):
    """Write a settings file and return its path."""

    def write(text: str | bytes) -> str:
        path = tmp_path / "config.txt"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return write


# --- where they come from ---------------------------------------------------------------


def test_a_file_may_be_the_last_argument(config):
    """As of the original's scripts, where it is the only one."""
    path = config("batch_size 3\nlr 0.5\n")
    for argv in ((path,), ("--config", path), ("--epoch", "7", path), (path, "--epoch", "7")):
        args = resolve(*argv)
        assert (args.batch_size, args.lr) == (3, 0.5)
        assert args.epoch == (7 if "--epoch" in argv else resolve().epoch)
    assert resolve("--lr", "0.25", path).lr == 0.25
    assert "two settings files are given" in refused("--config", path, path)


def test_config_txt_of_the_current_folder_is_not_read(config, monkeypatch, tmp_path):
    """The original's scripts read it without being asked to."""
    config("batch_size 3\n")
    monkeypatch.chdir(tmp_path)
    assert resolve().batch_size != 3


def test_full_settings_are_the_paper_s():
    resolved = resolve("--data_path", "DATA").as_dict()
    assert {key: resolved[key] for key in PAPER} == PAPER


def test_demo_is_smaller_and_otherwise_the_same():
    demo, full = resolve(), resolve("--data_path", "DATA")
    assert demo.data_path is None
    for key in ("batch_size", "x_dim", "z_dim", "num_k", "rnn_dim", "x2s_dim", "p_x_dim", "epoch"):
        assert getattr(demo, key) < getattr(full, key), key
    for key in ("depth", "reset_freq", "dataset", "seed", "floatX"):
        assert getattr(demo, key) == getattr(full, key), key


def test_layers(config, monkeypatch, tmp_path):
    """Constants, then the data set's file, then --config, then flags."""
    (tmp_path / "blizzard_demo.txt").write_text("rnn_dim 2\nz_dim 2\nnum_k 2\n")
    (tmp_path / "blizzard.txt").write_text("rnn_dim 9\nz_dim 9\nnum_k 9\n")
    monkeypatch.setattr(settings, "CONFIG_FOLDER", tmp_path)
    constants = {"x_dim": 1, "rnn_dim": 1, "z_dim": 1, "num_k": 1}
    path = config("z_dim 3\nnum_k 3\n")
    args = resolve("--config", path, "--num_k", "4", **constants)
    assert [args.x_dim, args.rnn_dim, args.z_dim, args.num_k] == [1, 2, 3, 4]
    assert args.lr == Settings.lr


@pytest.mark.parametrize("source", ["flag", "file"])
def test_data_path_chooses_the_full_settings(config, source):
    argv = ("--data_path", "DATA")
    args = resolve(*(argv if source == "flag" else ("--config", config("data_path DATA\n"))))
    assert (args.rnn_dim, args.data_path) == (4000, "DATA")


def test_format_of_the_original(config):
    path = config(
        "trial 7\ndata_path /data/blizzard unseg/\nsave_path /results/\n"
        "sample_path /results/sample/\nmonitoring_freq 20\nforce_saving_freq 100\n"
        "reset_freq 3\nepoch 2\nbatch_size 12\nm_batch_size 24\nx_dim 25\nz_dim 26\n"
        "num_k 27\nrnn_dim 28\nlr 0.0005\ndebug 1\n"
    )
    args = resolve("--config", path)
    assert args == Settings(
        trial=7,
        data_path="/data/blizzard unseg/",
        save_path="/results/",
        sample_path="/results/sample/",
        monitoring_freq=20,
        force_saving_freq=100,
        reset_freq=3,
        epoch=2,
        batch_size=12,
        m_batch_size=24,
        x_dim=25,
        z_dim=26,
        num_k=27,
        rnn_dim=28,
        lr=0.0005,
        debug=1,
    )


def test_comments_blank_lines_and_foreign_line_ends(config):
    text = "\ufeff# all of it\r\n\r\ntrial\t5   # a comment\r\n   lr 1e-2\r\nsave_path runs#2\r\n"
    assert read_config(config(text)) == {"trial": 5, "lr": 0.01, "save_path": "runs#2"}


@pytest.mark.parametrize(
    ("text", "quiet"), [("1", True), ("True", True), ("0", False), ("False", False)]
)
def test_switches_in_a_file(config, text, quiet):
    assert resolve("--config", config(f"quiet {text}\n")).quiet is quiet


def test_as_text_reads_back(config):
    args = resolve(
        *("--data_path", "my data#1/", "--save_path", "out", "--lr", "1.25e-5", "--seed", "3"),
        *("--max_updates", "17", "--floatX", "float64", "--backend", "c", "--quiet"),
        *("--noise", "mrg", "--mrg_seed", "4242"),
    )
    assert resolve("--config", config(args.as_text())) == args
    assert all(line.count(" ") >= 1 for line in args.as_text().splitlines())


def test_as_text_of_the_demo_reads_back(config):
    """Without a data path: the file then still means the demo."""
    args = resolve("--rnn_dim", "8")
    assert resolve("--config", config(args.as_text())) == args


def test_help_names_every_setting(capsys):
    with pytest.raises(SystemExit) as end:
        resolve("--help")
    shown = capsys.readouterr().out
    assert end.value.code == 0
    assert shown.count("A program.") == 1
    for key in [*KEYS, "config"]:
        assert f"--{key}" in shown, key


# --- wrong ones: one line that names the fix ----------------------------------------------


def refused(*argv: str) -> str:
    with pytest.raises(UserError) as error:
        resolve(*argv)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("flag", "nearest"),
    [("--rnn-dim", "--rnn_dim"), ("--rnndim=5", "--rnn_dim"), ("--batchsize", "--batch_size")],
)
def test_unknown_flag(flag, nearest):
    message = refused(flag, "5")
    assert flag in message
    assert f"did you mean {nearest}?" in message


@pytest.mark.parametrize("argv", [("--qqqqqq", "1"), ("stray",)])
def test_unknown_flag_like_no_other(argv):
    message = refused(*argv)
    assert argv[0] in message
    assert "--help" in message
    assert "did you mean" not in message


def test_abbreviated_flag_is_unknown():
    """Else --rnn would one day mean another setting."""
    assert "--rnn" in refused("--rnn", "5")


@pytest.mark.parametrize(
    ("key", "nearest"), [("rnn_dims", "rnn_dim"), ("Batch_size", "batch_size")]
)
def test_unknown_key(config, key, nearest):
    path = config(f"trial 1\n{key} 5\n")
    message = refused("--config", path)
    assert f"{path} line 2: unknown key {key!r}; did you mean {nearest}?" in message


def test_unknown_key_like_no_other(config):
    message = refused("--config", config("qqqqqq 5\n"))
    assert "known keys: dataset, trial" in message


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("rnn_dim many", "a whole number"),
        ("rnn_dim 12.5", "a whole number"),
        ("rnn_dim 12 13", "a whole number"),
        ("lr fast", "a number"),
        ("quiet yes", "1 or 0"),
    ],
)
def test_wrong_type_in_a_file(config, line, wanted):
    key, value = line.split(" ", 1)
    message = refused("--config", config(f"\n\n{line}\n"))
    assert f"line 3: {key} is {value!r}; it must be {wanted}" in message


@pytest.mark.parametrize("value", ["many", "12.5", ""])
def test_wrong_type_of_a_flag(value):
    message = refused("--rnn_dim", value)
    assert "--rnn_dim" in message
    assert repr(value) in message


def test_flag_without_value():
    assert "--rnn_dim" in refused("--rnn_dim")


def test_repeated_key(config):
    message = refused("--config", config("trial 1\nlr 0.1\ntrial 1\n"))
    assert "line 3: trial is given twice" in message


def test_key_without_value(config):
    assert "line 1: 'lr' has no value; write: key value" in refused("--config", config("lr # 3\n"))


@pytest.mark.parametrize("value", ["0", "-1"])
@pytest.mark.parametrize("key", LEAST_ONE)
def test_below_one(key, value):
    assert f"{key} is {value}; it must be at least 1" in refused(f"--{key}", value)


def test_all_sizes_have_a_least_value():
    ours = {"devices", "processes", "max_updates", "mrg_seed"}
    assert {*PAPER, *ours} - {"trial", "lr", "debug"} == set(LEAST_ONE)


@pytest.mark.parametrize("value", ["0", "-0.1", "nan", "inf", "1e999"])
@pytest.mark.parametrize("source", ["flag", "file"])
def test_learning_rate_out_of_range(config, value, source):
    argv = ("--lr", value) if source == "flag" else ("--config", config(f"lr {value}\n"))
    assert "it must be a number above 0" in refused(*argv)


@pytest.mark.parametrize("value", ["-1", str(2**32)])
def test_seed_that_the_generator_refuses(value):
    assert f"seed is {value}; it must be at" in refused("--seed", value)


@pytest.mark.parametrize("value", ["0", str(M2)])
def test_seed_that_the_originals_generator_refuses(value):
    assert f"mrg_seed is {value}; it must be at" in refused("--noise", "mrg", "--mrg_seed", value)
    message = refused("--noise", "mrg", "--seed", value)
    assert message == f"seed is {value}, which --noise mrg cannot take; give it a --mrg_seed"
    assert resolve("--noise", "mrg", "--seed", value, "--mrg_seed", "1").mrg_seed == 1


def test_seed_of_a_generator_that_is_not_used():
    assert refused("--mrg_seed", "5") == "mrg_seed is 5; it needs --noise mrg"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dataset", "timit"),
        ("noise", "pcg64"),
        ("backend", "torch"),
        ("floatX", "float16"),
        ("debug", "2"),
    ],
)
@pytest.mark.parametrize("source", ["flag", "file"])
def test_not_one_of_the_choices(config, key, value, source):
    argv = (f"--{key}", value) if source == "flag" else ("--config", config(f"{key} {value}\n"))
    message = refused(*argv)
    assert key in message
    assert value in message
    assert "choose" in message


@pytest.mark.parametrize("key", ["data_path", "save_path", "sample_path"])
def test_empty_path(key):
    """What an unset shell variable gives: ``--data_path "$DATA"``."""
    assert f"{key} is empty" in refused(f"--{key}", "")


@pytest.mark.parametrize("name", ["missing.txt", ".", ""])
def test_file_that_is_not_there(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    message = refused("--config", name)
    assert "cannot read the settings file" in message
    assert "see --help" in message


@pytest.mark.parametrize("content", [b"\x89HDF\r\n\x1a\n\x00\xff\xfe", b"trial 1\nlr \xff\n"])
def test_file_that_is_not_text(config, content):
    assert "see --help" in refused("--config", config(content))


def test_binary_file_that_happens_to_be_text(config):
    assert "line 1" in refused("--config", config(b"PK\x03\x04 \x00\x00\n"))


def test_settings_made_in_code_are_checked_too():
    with pytest.raises(UserError, match="rnn_dim is 0"):
        Settings(rnn_dim=0)


def test_a_setting_that_is_newer_than_the_checkpoint_had_its_default():
    older = {key: value for key, value in Settings().as_dict().items() if key != "rnn"}
    assert check_changes(older, Settings()) == {}
    with pytest.raises(UserError, match="rnn is gru, the checkpoint has lstm"):
        check_changes(older, Settings(rnn="gru"))


def test_a_data_set_that_the_program_does_not_have():
    assert "invalid choice: 'digits' (choose from" in refused("--dataset", "digits")


def test_a_file_with_a_data_set_that_the_program_does_not_have(config):
    message = refused("--config", config("dataset digits\n"))
    assert message == "dataset is 'digits'; choose one that this program has: blizzard"
