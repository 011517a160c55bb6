"""Demo corpus of handwriting, in the layout of the IAM-OnDB data.

IAM-OnDB requires a registration.  This corpus consists of a few hundred short lines
of joined-up English words from a model of a moving pen (`datasets.demo.handwriting`).
It serves to try the programs, not to get results.

No counterpart in the original.
"""

from __future__ import annotations

from pathlib import Path

from numpy.random import PCG64, Generator

from cle_port.console.command_line import check_ending
from cle_port.console.progress import progress_bar
from cle_port.errors import UserError
from datasets.demo import handwriting
from datasets.demo.corpus import check_seed, ensure_corpus, fingerprint, prepare_folder
from datasets.demo.handwriting import draw_writer, write_line
from datasets.hdf5.lines import FILE_NAME, SPLITS, Line, LineWriter, read_lines
from datasets.iamondb_utils import write_svg

STAND_IN_NOTICE = (
    "Data: synthetic pen strokes, a stand-in for IAM-OnDB that shows the program at work, "
    "no results.\n"
    "Real handwriting: python -m datasets.build iamondb IAMONDB OUT, then add --data_path OUT."
)
VERSION = 2
N_LINES = {"train": 800, "valid": 100}
SEED = 0
MOST_LINES = 1000  # per drawing
N_POINTS = range(50, 241)  # per line; the longest line determines the cost of a batch

COMMON = (
    "a above after again all along also an and any are around as ask at away back be because been "
    "before began below better between big book both boy bring but by call came can city close "
    "cold come could country cross cut day deep did do does done down draw dry each early earth "
    "eat end enough even every eye face family far farm father feel few field find fire first five "
    "fly follow food for form found four from full game gave get girl give go gold good got great "
    "green grow had half hand hard has have he head hear help her here high him his hold home "
    "horse hour house how hundred if in inch into is it jump just keep kind king knew know land "
    "large last late laugh lead learn leave left less let letter life light like line list little "
    "live long look love low made make man many map mark may me mean men might mile mind money "
    "moon more most mother move much music must my name near need never new next night no north "
    "note nothing now of off often old on once one only open or order other our out over own page "
    "paper part pass people picture piece place plan plant play point power press quick quiet rain "
    "ran reach read ready real red rest right river road rock room round rule run said same saw "
    "say school sea second see seem self sentence set several ship short should show side simple "
    "since sing six size sleep slow small snow so some song soon sound south space spell stand "
    "star start state stay step still stop story street strong such sun sure table take talk tell "
    "ten than that the their them then there these they thing think this those thought three "
    "through time to together told too took top town travel tree true try turn two under until up "
    "upon us use very voice walk want war warm was watch water way we week well went were west "
    "what wheel when where which while white who why will wind with wonder wood word work world "
    "would write year yes yet you young zero"
)
WORDS = COMMON.split()
STARTS = ("A", "And", "He", "How", "I", "In", "Is", "It", "Many", "More", "My", "No", "Not", "Now",
          "She", "So", "Some", "That", "The", "Then", "This", "To", "We", "When")  # fmt: skip


def make_text(rng: Generator) -> str:
    """Invent a line of about ten letters."""
    n_letters = rng.integers(3, 12)
    words = [str(rng.choice(STARTS if rng.random() < 0.25 else WORDS))]
    while len(" ".join(words)) < n_letters:
        words.append(str(rng.choice(WORDS)))
        if rng.random() < 0.08:
            words[-1] += ","
    if rng.random() < 0.15:
        words[-1] = words[-1].rstrip(",") + "."
    return " ".join(words)


def write_lines(n_lines: int, seed: int = SEED, quiet: bool = True) -> list[Line]:
    """Write lines, each in its own handwriting style.

    Parameters
    ----------
    n_lines : int
        Number of lines.
    seed : int
        Seed, not negative.  With the same seed, a longer list begins with the
        shorter one.
    quiet : bool
        Show no progress bar.

    Returns
    -------
    list of Line

    Notes
    -----
    All random numbers come from ``Generator(PCG64(seed))``.  Machines may differ
    in the last bit of sin, cos and log.  After rounding to integer coordinates
    very few points differ.
    """
    rng = Generator(PCG64(seed))
    lines: list[Line] = []
    with progress_bar(n_lines, "Writing the demo corpus", unit="line", quiet=quiet) as bar:
        while len(lines) < n_lines:
            line = write_line(make_text(rng), draw_writer(rng), rng)
            if len(line.points) in N_POINTS:
                lines.append(line)
                bar.update()
    return lines


def build(folder: str | Path, *, seed: int = SEED, quiet: bool = False) -> Path:
    """Write ``iamondb.h5`` with 800 lines for training and 100 for validation.

    Parameters
    ----------
    folder : str or Path
        Folder for the file.  The function creates it if necessary and replaces
        an existing file.
    seed : int
        See `write_lines`.
    quiet : bool
        Show no progress bar.

    Returns
    -------
    Path
        `folder`.

    Raises
    ------
    UserError
        If the folder cannot be written.
    """
    folder = Path(folder)
    prepare_folder(folder)
    with LineWriter(folder / FILE_NAME) as file:
        lines = iter(write_lines(sum(N_LINES.values()), seed, quiet))
        for split in SPLITS:
            for _ in range(N_LINES[split]):
                file.append(split, next(lines))
        file.finish()
        file.commit()
    return folder


def ensure(*, quiet: bool = False) -> Path:
    """Return the folder of the corpus in the cache; build it on first use.

    `datasets.demo.corpus.ensure_corpus` describes the result and the errors;
    `quiet` hides the progress bar.
    """
    return ensure_corpus(
        "demo_iamondb",
        f"v{VERSION}-{fingerprint(__file__, handwriting.__file__)}",
        lambda folder: build(folder, quiet=quiet),
        _is_intact,
    )


def _is_intact(folder: Path) -> bool:
    try:
        return all(len(read_lines(folder / FILE_NAME, name)) == N_LINES[name] for name in SPLITS)
    except UserError:
        return False


def draw_lines(out: Path, lines: int, seed: int) -> None:
    """Draw lines into an SVG file and print a line about it.

    Parameters
    ----------
    out : Path
        File with the ending ``.svg``; an existing file is replaced.
    lines : int
        Number of lines.
    seed : int
        See `write_lines`.

    Raises
    ------
    UserError
        If an argument is out of range or the file cannot be written.
    """
    if not 1 <= lines <= MOST_LINES:
        raise UserError(f"--lines must be 1 to {MOST_LINES}, not {lines}")
    check_seed(seed)
    check_ending("OUT", out, ".svg")
    written = write_lines(lines, seed)
    write_svg(out, [line.points for line in written], [line.text for line in written])
    print(f"{out}: {lines} lines of synthetic handwriting, seed {seed}")
