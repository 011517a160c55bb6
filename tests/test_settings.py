"""Settings: where they come from, and what happens to wrong ones."""

from __future__ import annotations

import dataclasses
import re

import pytest

from cle_port.errors import UserError
from cle_port.train.ext import LrCosine, LrExponentialDecay, LrLinearDecay
from cle_port.utils.mrg import M2
from models import settings
from models.settings import Settings, check_changes, parse, read_config, schedule_of
from tests.recordings import PROJECT

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
    for key in ("batch_size", "z_dim", "num_k", "rnn_dim", "x2s_dim", "p_x_dim", "depth"):
        assert getattr(demo, key) < getattr(full, key), key
    for key in ("x_dim", "reset_freq", "dataset", "seed", "floatX"):
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
        *("--noise", "mrg", "--mrg_seed", "4242", "--screen", "original", "--clip", "1.5"),
        *("--lr_schedule", "exponential:1.001:1e-9", "--kl_anneal", "7", "--free_bits", "2e-3"),
        *("--patience", "3", "--init_from", "runs/a b.npz"),
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
    """Else --batch would one day mean another setting."""
    message = refused("--batch", "5")
    assert message.startswith("unrecognized arguments: --batch; did you mean --batch_size?")


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
    ours = {"devices", "processes", "max_updates", "mrg_seed", "kl_anneal", "patience"}
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


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("rnn", "lstn", "; did you mean lstm?"),
        ("rnn", "GRU", "; did you mean gru?"),
        ("floatX", "flaot32", "; did you mean float32?"),
        ("on_nan", "ignore", "stop, skip, original"),  # none is near
    ],
)
@pytest.mark.parametrize("source", ["flag", "file"])
def test_the_nearest_choice_is_suggested(config, key, value, hint, source):
    argv = (f"--{key}", value) if source == "flag" else ("--config", config(f"{key} {value}\n"))
    assert refused(*argv).endswith(hint)


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
    message = refused("--dataset", "digits")
    assert message == "dataset is 'digits'; choose one that this program has: blizzard"


def test_a_file_with_a_data_set_that_the_program_does_not_have(config):
    message = refused("--config", config("dataset digits\n"))
    assert message == "dataset is 'digits'; choose one that this program has: blizzard"


# --- the page -------------------------------------------------------------------------------

EXAMPLE = re.compile(r"<!-- file: (\S+) -->\n```\w*\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"^python (models/\w+\.py) (.*)$", re.MULTILINE)
PAGE = (PROJECT / "docs" / "settings.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "text"), EXAMPLE.findall(PAGE))
def test_files_of_the_page(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    args = resolve(str(tmp_path / name))
    assert (args.data_path, args.rnn, args.rnn_dim, args.lr) == ("speech", "gru", 1000, 3e-4)


@pytest.mark.parametrize(("script", "flags"), COMMAND.findall(PAGE))
def test_commands_of_the_page(script, flags):
    assert (PROJECT / script).is_file()
    if flags != "--help":
        assert parse(flags.split(), "", {"blizzard": {}, "iamondb": {}}).trial >= 1


# --- learning rates -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "values"),
    [
        ("linear:100:5000:0.1", LrLinearDecay, {"start": 100, "end": 5000, "decay_factor": 0.1}),
        ("exponential:1.001:1e-6", LrExponentialDecay, {"decay_factor": 1.001, "min_lr": 1e-6}),
        ("cosine:0:5000:0", LrCosine, {"warmup": 0, "end": 5000, "decay_factor": 0.0}),
    ],
)
@pytest.mark.parametrize("source", ["flag", "file"])
def test_schedules(text, kind, values, source, config):
    argv = ("--lr_schedule", text) if source == "flag" else (config(f"lr_schedule {text}\n"),)
    extension = schedule_of(resolve(*argv).lr_schedule)
    assert isinstance(extension, kind)
    assert {key: getattr(extension, key) for key in values} == values


def test_no_schedule():
    assert schedule_of(resolve().lr_schedule) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("linear", "it has 0 arguments, not 3"),
        ("linear:1:2:3:4", "it has 4 arguments, not 3"),
        ("linear:1.5:2:0.1", "START is '1.5'; it must be a whole number"),
        ("exponential:a:0", "FACTOR is 'a'; it must be a number"),
        (f"linear:1:{400 * '9'}:0.1", f"END is {40 * '9'}; it must be at most 1000000000"),
        ("exponential:nan:0", "FACTOR is nan; it must be finite"),
        ("linear:0:2:0.1", "start is 0 and end 2; give 0 < start < end"),
        ("cosine:9:2:0.1", "warmup is 9 and end 2; give 0 <= warmup < end"),
        ("linear:1:2:10", "FACTOR is 10; the rate ends at FACTOR times lr, give 0 to 1"),
        ("cosine:1:2:10", "FACTOR is 10; the rate ends at FACTOR times lr, give 0 to 1"),
        ("exponential:0.999:0", "FACTOR is 0.999; the rate is divided by it, give one above 1"),
        ("exponential:2:-1", "MIN_LR is -1; give 0 or more, less than lr"),
    ],
)
def test_what_is_no_schedule(text, message):
    """The message has the form, and an example that is right."""
    shown = refused("--lr_schedule", text)
    assert shown.startswith(f"lr_schedule is {text!r}: {message}")
    form, example = re.fullmatch(r".* \(write (\S+), such as (\S+)\)", shown).groups()
    assert form.partition(":")[0] == text.partition(":")[0]
    assert schedule_of(example, Settings.lr)


def test_no_such_schedule():
    message = refused("--lr_schedule", "cosin:1:2:3")
    assert message.startswith("lr_schedule is 'cosin:1:2:3'; write linear:START:END:FACTOR (such ")
    examples = re.findall(r"such as (\S+)\)", message)
    assert [type(schedule_of(example)) for example in examples] == [
        LrLinearDecay,
        LrExponentialDecay,
        LrCosine,
    ]


def test_a_schedule_does_not_end_above_the_learning_rate():
    with pytest.raises(UserError, match=r"MIN_LR is 0.01; give 0 or more, less than lr, 0.001"):
        schedule_of("exponential:2:0.01", 0.001)


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--kl_anneal", "0", "kl_anneal is 0; it must be at least 1"),
        ("--free_bits", "-0.1", "free_bits is -0.1; it must be at least 0"),
        ("--free_bits", "nan", "free_bits is nan; it must be a number below inf"),
        ("--free_bits", "inf", "free_bits is inf; it must be a number below inf"),
        ("--clip", "0", "clip is 0.0; it must be a number above 0"),
        ("--patience", "0", "patience is 0; it must be at least 1"),
        ("--screen", "long", "screen is 'long'; choose one of: short, original"),
    ],
)
def test_knobs_out_of_range(flag, value, message):
    assert message in refused(flag, value)


# --- TOML -----------------------------------------------------------------------------------


@pytest.fixture
def toml(tmp_path):
    """Write a TOML file and return its path."""

    def write(text: str) -> str:
        path = tmp_path / "run.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return write


def test_toml(toml):
    """Tables only group; flags win; a whole number will do for a number."""
    path = toml(
        'trial = 3\nquiet = true\n[model]\nrnn_dim = 7 # small\nrnn = "gru"\n'
        "[training]\nlr = 1\nepoch = 5\n[training.kl]\nfree_bits = 0.05\n"
    )
    for argv in ((path,), ("--config", path)):
        args = resolve(*argv, "--epoch", "6")
        assert (args.trial, args.quiet, args.rnn_dim, args.rnn) == (3, True, 7, "gru")
        assert (args.lr, args.epoch, args.free_bits) == (1.0, 6, 0.05)
        assert type(args.lr) is float


def test_toml_by_an_ending_in_capitals(tmp_path):
    (tmp_path / "RUN.TOML").write_text("lr = 2")
    assert resolve(str(tmp_path / "RUN.TOML")).lr == 2.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr = ", "run.toml is no TOML ("),
        ("rnn_dim = 2.5", "run.toml: rnn_dim is 2.5; it must be a whole number"),
        ("rnn_dim = true", "run.toml: rnn_dim is True; it must be a whole number"),
        ('lr = "0.1"', "run.toml: lr is '0.1'; it must be a number"),
        ("quiet = 1", "run.toml: quiet is 1; it must be true or false"),
        ("rnn = 3", "run.toml: rnn is 3; it must be text in quotes"),
        ("lr = 2026-01-01", "run.toml: lr is datetime.date(2026, 1, 1); it must be a number"),
        ("epoch = [1, 2]", "run.toml: epoch is [1, 2]; it must be a whole number"),
        ("rnn_dm = 3", "run.toml: unknown key 'rnn_dm'; did you mean rnn_dim?"),
        ("zzzz = 3", "run.toml: unknown key 'zzzz'; known keys: dataset, trial"),
        ("lr = 0.1\n[training]\nlr = 0.2", "run.toml: lr is given twice; remove one"),
        ("lr = 1" + 400 * "0", "run.toml: lr is 1000"),
        ("epoch = " + 5000 * "1", "run.toml is no TOML ("),
        (".".join(3000 * ["a"]) + " = 1", "run.toml is no TOML ("),
        ("lr = nan", "lr is nan; it must be a number above 0"),
        ("lr = 0.1\n" + "[a" * 3, "run.toml is no TOML ("),
    ],
)
def test_toml_that_is_wrong(toml, text, message):
    assert message in refused("--config", toml(text))


def test_toml_that_is_no_text(toml):
    assert "cannot read the settings file" in refused("--config", toml(b"\xff\xfe\x00"))


# --- help and suggestions -------------------------------------------------------------------


def test_every_setting_is_in_one_group_of_the_help():
    grouped = [key for keys in settings.GROUPS.values() for key in keys]
    assert sorted(grouped) == sorted(KEYS)


def test_help_shows_the_defaults(capsys):
    with pytest.raises(SystemExit):
        resolve("--help", rnn_dim=11)
    text = " ".join(capsys.readouterr().out.split())
    for flag, default in (
        ("--clip N", "scaled down [5]"),
        ("--rnn_dim N", "hidden state h_t [blizzard 4000 (demo 256)]"),
        ("--x_dim N", "(Blizzard: samples) [200]"),
        ("--seed N", "noise [1]"),
        ("--dataset {blizzard}", "train on [blizzard]"),
        ("--screen {short,original}", "block [short]"),
    ):
        assert default in text.split(flag)[-1].split(" --")[0]
    assert "Values in brackets are the defaults; those that depend on the data set" in text


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("--epochs", "--epoch"),
        ("--epcoh", "--epoch"),
        ("--batchsize", "--batch_size"),
        ("--batch-size", "--batch_size"),
        ("--bach_size", "--batch_size"),
        ("--rnndim", "--rnn_dim"),
        ("--Batch-Size", "--batch_size"),
        ("--FLOAT_X", "--floatX"),
        ("--zdim", "--z_dim"),
        ("--lrr", "--lr"),
        ("--sed", "--seed"),
        ("--data", "--dataset"),
        ("--save", "--save_path"),
        ("--resum", "--resume"),
        ("--max_update", "--max_updates"),
        ("--kl_aneal", "--kl_anneal"),
        ("--freebits", "--free_bits"),
        ("--patince", "--patience"),
        ("--lr_shedule", "--lr_schedule"),
        ("--monitor", "--monitoring_freq"),
        ("--floatx", "--floatX"),
    ],
)
def test_a_slip_of_the_pen_is_corrected(given, meant):
    assert f"did you mean {meant}?" in refused(given, "3")


@pytest.mark.parametrize(
    "given",
    [
        "--foo",
        "--gpu",
        "--verbose",
        "--workers",
        "--dropout",
        "--hidden",
        "--optimizer",
        "-x",
        "--momentum",
        "--cuda",
        "--log",
        "--layers",
        "--name",
        "--learning_rate",
        "--version",
        "--units",
        "--num_workers",
        "--train",
        "--alpha",
        "--port",
        "--samples",
        "--width",
        "--embed",
        "--out",
    ],
)
def test_nothing_is_suggested_for_another_word(given):
    message = refused(given, "3")
    assert "did you mean" not in message
    assert "--help shows all options" in message
