"""Files made to harm whoever reads them: each by a short function, none kept as a file.

`HOSTILE` lists them by name: the reader that is to refuse the file, and the function
that makes it, given the path to write and an empty folder for what the file refers to.
"""

import io
import os
import pickle
import struct
import zipfile
import zlib

import h5py
import numpy as np

from tests.reliability.corpus import npz, some_lines

SECRET = b"read by a file that should not"
HUGE = 10**9
HOSTILE = {}


def hostile(*readers):
    """Enter a function into the list, for each of some readers."""

    def enter(function):
        name = function.__name__.replace("_", " ")
        HOSTILE.update({f"{reader}: {name}": (reader, function) for reader in readers})
        return function

    return enter


# ----------------------------------------------------------------------------------------
# HDF5
# ----------------------------------------------------------------------------------------


def _rows(path, name="data", **settings):
    with h5py.File(path, "w") as file:
        file.create_dataset(name, (8, 20), "i2", **settings)[:] = 1
    return path


@hostile("rows.h5")
def external_link(path, folder):
    _rows(folder / "other.h5")
    with h5py.File(path, "w") as file:
        file["data"] = h5py.ExternalLink(str(folder / "other.h5"), "data")


@hostile("rows.h5")
def soft_link_through_an_external_one(path, folder):
    _rows(folder / "other.h5")
    with h5py.File(path, "w") as file:
        file["out"] = h5py.ExternalLink(str(folder / "other.h5"), "/")
        file["data"] = h5py.SoftLink("/out/data")


@hostile("rows.h5")
def samples_of_another_file(path, folder):
    (folder / "secret").write_bytes(SECRET * 20)
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (4, 20), "i2", external=[(str(folder / "secret"), 0, 160)])


@hostile("rows.h5")
def virtual_data_set(path, folder):
    layout = h5py.VirtualLayout((8, 20), "i2")
    layout[:] = h5py.VirtualSource(_rows(folder / "other.h5"), "data", (8, 20))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("data", layout)


@hostile("rows.h5")
def link_to_itself(path, folder):
    with h5py.File(path, "w") as file:
        file["data"] = h5py.SoftLink("/data")


@hostile("rows.h5")
def group_for_data(path, folder):
    with h5py.File(path, "w") as file:
        file.create_group("data/data")


@hostile("rows.h5")
def huge_and_not_there(path, folder):
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (HUGE, 2000), "i2")


@hostile("rows.h5")
def huge_rows(path, folder):
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (1, 2**40), "i2", chunks=(1, 2**20))


@hostile("rows.h5")
def missing_chunks(path, folder):
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (HUGE, 2000), "i2", chunks=(16, 2000))[:16] = 1


def _zeros_packed(size):
    """Zeros that deflate to some two hundredths."""
    packer = zlib.compressobj(1)
    parts = [packer.compress(bytes(2**20)) for _ in range(size >> 20)]
    return b"".join([*parts, packer.compress(bytes(size % 2**20)), packer.flush()])


@hostile("rows.h5")
def chunk_bomb(path, folder):
    with h5py.File(path, "w") as file:
        shape = (128, 2**20)
        rows = file.create_dataset("data", shape, "i2", chunks=shape, compression="gzip")
        rows.id.write_direct_chunk((0, 0), _zeros_packed(2**28))


@hostile("rows.h5")
def chunk_longer_than_its_shape(path, folder):
    """Unpacks to a quarter of a gigabyte, where its shape has room for 320 bytes."""
    with h5py.File(path, "w") as file:
        rows = file.create_dataset("data", (8, 20), "i2", chunks=(8, 20), compression="gzip")
        rows.id.write_direct_chunk((0, 0), _zeros_packed(2**28))


def _packed(path, packed, skipped=0, **settings):
    with h5py.File(path, "w") as file:
        rows = file.create_dataset("data", (64, 2**14), "i2", chunks=(64, 2**14), **settings)
        rows.id.write_direct_chunk((0, 0), packed, filter_mask=skipped)


@hostile("rows.h5")
def chunk_shorter_than_its_shape(path, folder):
    """HDF5 reads beyond its end."""
    _packed(path, zlib.compress(b"short"), compression="gzip")


@hostile("rows.h5")
def chunk_that_was_not_packed(path, folder):
    _packed(path, b"short", skipped=1, compression="gzip")


@hostile("rows.h5")
def chunk_without_its_checksum(path, folder):
    _packed(path, b"abc", fletcher32=True)


@hostile("rows.h5")
def chunk_shorter_than_its_shape_by_blosc(path, folder):
    import hdf5plugin

    header = b"\2\1\1\2" + struct.pack("<III", 2, 2, 18)
    _packed(path, header + b"\0\0", **hdf5plugin.Blosc())


@hostile("rows.h5")
def filter_of_a_plug_in(path, folder):
    import hdf5plugin

    _rows(path, **hdf5plugin.BZip2())


@hostile("rows.h5")
def floats_for_samples(path, folder):
    with h5py.File(path, "w") as file:
        file["data"] = np.ones((8, 20))


@hostile("rows.h5")
def strings_for_samples(path, folder):
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (8, 20), h5py.string_dtype())


@hostile("rows.h5", "lines.h5", "recordings", "npy", "checkpoint", "statistics", "strokes.xml")
def pipe(path, folder):
    os.mkfifo(path)


@hostile("rows.h5", "lines.h5", "recordings", "npy", "checkpoint", "statistics", "strokes.xml")
def device(path, folder):
    path.symlink_to("/dev/zero")


@hostile("rows.h5", "lines.h5", "recordings", "npy", "checkpoint", "statistics", "strokes.xml")
def folder_for_a_file(path, folder):
    path.mkdir()


def _lines(path, **changes):
    """Lines of two points each; entries may be replaced by functions that make them."""
    points = np.concatenate([some_lines()[1].points] * 4).astype(np.int32)
    content = {
        "x/joined": points,
        "x/lengths": np.full(4, 2),
        "y/joined": np.full(4, 65, dtype=np.uint32),
        "y/lengths": np.ones(4, dtype=np.int64),
    }
    with h5py.File(path, "w") as file:
        for name, value in content.items():
            for split in ("train", "valid"):
                if name in changes:
                    changes[name](file, f"{split}/{name}")
                else:
                    file[f"{split}/{name}"] = value


@hostile("lines.h5")
def lengths_that_add_up_by_overflow(path, folder):
    lengths = np.array([2**62, 2**62, 2**62, 2**62 + 8])
    _lines(path, **{"x/lengths": lambda file, name: file.__setitem__(name, lengths)})


@hostile("lines.h5")
def points_not_there(path, folder):
    def make(file, name):
        file.create_dataset(name, (HUGE, 3), "i4", chunks=(2**14, 3))

    _lines(path, **{"x/joined": make})


@hostile("lines.h5")
def points_packed_a_thousandfold(path, folder):
    shape, chunk = (2**25, 3), 2**15

    def make(file, name):
        points = file.create_dataset(name, shape, "i4", chunks=(chunk, 3), compression="gzip")
        packed = zlib.compress(bytes(chunk * 12))
        for start in range(0, shape[0], chunk):
            points.id.write_direct_chunk((start, 0), packed)

    _lines(path, **{"x/joined": make})


@hostile("lines.h5")
def millions_of_empty_lines(path, folder):
    def make(file, name):
        file.create_dataset(name, data=np.zeros(5_000_000, dtype="i8"), compression="gzip")

    _lines(path, **{"x/lengths": make, "y/lengths": make})


@hostile("lines.h5")
def points_of_another_file(path, folder):
    _lines(folder / "other.h5")

    def make(file, name):
        file[name] = h5py.ExternalLink(str(folder / "other.h5"), name)

    _lines(path, **{"x/joined": make})


@hostile("lines.h5")
def group_of_another_file(path, folder):
    _lines(folder / "other.h5")
    with h5py.File(path, "w") as file:
        for split in ("train", "valid"):
            file[split] = h5py.ExternalLink(str(folder / "other.h5"), split)


@hostile("lines.h5")
def no_characters(path, folder):
    text = np.full(4, 2**32 - 1, dtype=np.uint32)
    _lines(path, **{"y/joined": lambda file, name: file.__setitem__(name, text)})


# ----------------------------------------------------------------------------------------
# npy and pickles
# ----------------------------------------------------------------------------------------


class Command:
    """Pickles to a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def _npy(shape, dtype="<i2", content=b""):
    stream = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + content


def _objects(*items):
    array = np.empty(len(items), dtype=object)
    for index, item in enumerate(items):
        array[index] = item
    return array


@hostile("recordings", "npy")
def object_array_that_executes(path, folder):
    harm = _objects(np.arange(3, dtype=np.int16), Command(os.system, f"touch {folder}/executed"))
    np.save(path, harm, allow_pickle=True)


@hostile("pickle", "cached strokes", "cached labels")
def pickle_that_executes(path, folder):
    path.write_bytes(pickle.dumps([Command(os.system, f"touch {folder}/executed")]))


@hostile("pickle", "cached strokes", "cached labels")
def pickle_that_writes(path, folder):
    path.write_bytes(pickle.dumps([Command(open, f"{folder}/executed", "w")]))


@hostile("pickle", "cached strokes", "cached labels")
def pickle_that_evaluates(path, folder):
    path.write_bytes(pickle.dumps(Command(eval, f"open('{folder}/executed', 'w')"), 0))


@hostile("recordings")
def rows_of_nothing(path, folder):
    path.write_bytes(_npy((10**12, 0)))


@hostile("recordings", "npy")
def letters_of_nothing(path, folder):
    path.write_bytes(_npy((10**7, 2), "<U0"))


@hostile("recordings", "npy")
def longer_than_the_file(path, folder):
    path.write_bytes(_npy((10**12,)))


@hostile("recordings", "npy")
def negative_shape(path, folder):
    path.write_bytes(_npy((-1, -(2**40)), content=b"1234"))


@hostile("recordings", "npy")
def shape_beyond_all_numbers(path, folder):
    path.write_bytes(_npy((2**60,) * 20))


@hostile("recordings")
def no_axis(path, folder):
    path.write_bytes(_npy((), content=b"12"))


@hostile("recordings", "npy")
def records_with_objects(path, folder):
    path.write_bytes(_npy((3,), [("a", "<i2"), ("b", "|O")], bytes(40)))


@hostile("recordings", "npy")
def header_of_brackets(path, folder):
    header = b"(" * 5000 + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)


@hostile("recordings", "npy")
def header_longer_than_the_file(path, folder):
    path.write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b"{")


@hostile("recordings")
def one_recording_many_times(path, folder):
    np.save(path, _objects(*[np.ones(5000, dtype=np.int16)] * 50_000), allow_pickle=True)


@hostile("recordings")
def recordings_within_recordings(path, folder):
    np.save(path, _objects((1, [2, 3]), {}), allow_pickle=True)


@hostile("cached strokes")
def one_line_many_times(path, folder):
    points = np.concatenate([some_lines()[0].points] * 500)
    path.write_bytes(pickle.dumps([points] * 200_000))


@hostile("cached strokes")
def pickle_of_rows_of_nothing(path, folder):
    path.write_bytes(pickle.dumps(np.zeros((10**12, 0))))


@hostile("pickle")
def product_of_a_million_digits(path, folder):
    shape = (1 << 2**19,) * 300
    path.write_bytes(
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01"
        + pickle.dumps(shape, 2)[2:-1]
        + b"cnumpy\ndtype\n(U\x02i2K\x00K\x01tR\x89U\x04abcdtb."
    )


@hostile("pickle")
def bytes_that_are_not_there(path, folder):
    path.write_bytes(b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".")


# ----------------------------------------------------------------------------------------
# npz
# ----------------------------------------------------------------------------------------

META = np.array('{"format_version": 1}')


def _bomb(path, *names):
    """Archive of a megabyte whose arrays have an eighth of a gigabyte each."""
    zeros = _npy((2**24,), "<f8"), bytes(2**20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in names:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(zeros[0])
                for _ in range(128):
                    member.write(zeros[1])


@hostile("checkpoint")
def zip_bomb(path, folder):
    _bomb(path, "W", "meta")


@hostile("statistics")
def bomb_of_statistics(path, folder):
    _bomb(path, "X_mean", "X_std")


@hostile("statistics")
def unknown_compression(path, folder):
    content = bytearray(npz(X_mean=0.5, X_std=1.0))
    for start in (content.find(b"PK\x01\x02") + 10, content.find(b"PK\x03\x04") + 8):
        content[start : start + 2] = b"\x63\x00"
    path.write_bytes(content)


@hostile("checkpoint")
def version_of_infinity(path, folder):
    path.write_bytes(npz(meta=np.array('{"format_version": 1e999}')))


@hostile("checkpoint", "statistics")
def member_shorter_than_its_shape(path, folder):
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("W", "X_mean", "X_std"):
            archive.writestr(f"{name}.npy", _npy((10**9,), "<f8"))


@hostile("checkpoint", "statistics")
def pickles_in_an_archive(path, folder):
    harm = _objects(Command(os.system, f"touch {folder}/executed"))
    path.write_bytes(npz(W=harm, meta=harm, X_mean=harm, X_std=harm))


@hostile("checkpoint", "statistics")
def array_instead_of_an_archive(path, folder):
    path.write_bytes(_npy((10**9,), "<f8"))


@hostile("checkpoint")
def deep_settings(path, folder):
    path.write_bytes(npz(meta=np.array('{"a":' * 50_000)))


@hostile("checkpoint")
def settings_that_are_a_list(path, folder):
    path.write_bytes(npz(meta=np.array("[1]")))


# ----------------------------------------------------------------------------------------
# XML and text
# ----------------------------------------------------------------------------------------

STROKES = (
    b'<S><StrokeSet><Stroke><Point x="1" y="2"/><Point x="&b;" y="2"/></Stroke></StrokeSet></S>'
)


@hostile("strokes.xml")
def billion_laughs(path, folder):
    entities = b"".join(
        b'<!ENTITY %c "%s">' % (99 + level, b"&%c;" % (98 + level) * 10) for level in range(9)
    )
    path.write_bytes(b'<!DOCTYPE a [<!ENTITY b "1">' + entities + b"]>" + STROKES)


@hostile("strokes.xml")
def file_as_entity(path, folder):
    (folder / "secret").write_bytes(SECRET)
    uri = (folder / "secret").as_uri().encode()
    path.write_bytes(b'<!DOCTYPE a [<!ENTITY b SYSTEM "%s">]>' % uri + STROKES)


@hostile("strokes.xml")
def document_type_elsewhere(path, folder):
    path.write_bytes(b'<!DOCTYPE a SYSTEM "http://localhost:1/a.dtd">' + STROKES)


@hostile("strokes.xml")
def elements_without_end(path, folder):
    path.write_bytes(b"<a>" * 10**6)


@hostile("strokes.xml")
def points_without_end(path, folder):
    point = b'<Point x="1" y="2"/>'
    path.write_bytes(b"<a><StrokeSet><Stroke>" + point * 500_000)


@hostile("strokes.xml")
def coordinate_of_a_million_digits(path, folder):
    path.write_bytes(STROKES.replace(b"&b;", b"9" * 10**6))


@hostile("strokes.xml")
def unknown_encoding(path, folder):
    path.write_bytes(b'<?xml version="1.0" encoding="../../harm"?>' + STROKES)


@hostile("strokes.xml", "transcript", "list of forms")
def longer_than_allowed(path, folder):
    with open(path, "wb") as file:
        file.truncate(2**33)  # a hole: takes no room on the disk


@hostile("sound.wav")
def a_thousand_channels_and_no_samples(path, folder):
    header = b"WAVEfmt \x10\0\0\0\x01\0\0\x04\x80\x3e\0\0\0\0\0\0\0\x08\x10\0data\xff\xff\xff\x7f"
    path.write_bytes(b"RIFF\xff\xff\xff\x7f" + header)


@hostile("config")
def settings_without_end(path, folder):
    path.symlink_to("/dev/zero")


@hostile("config")
def path_with_a_line_end_and_an_escape(path, folder):
    path.write_text("save_path a\0b\x1b[2J\n")


@hostile("config")
def key_of_a_million_letters(path, folder):
    path.write_text("x" * 10**6 + " 1")
