"""Photographs: fetched, checked, unpacked and read; the published corrupted ones; the reader's own folders.

What is done to images: corruptions grow with severity and can be repeated; crops, mirrors, turns and shifts.

The network is a server of our own on this machine, the archives are small ones of the official layout.
"""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch
import torch.nn.functional as F
from helpers import close, normal
from PIL import Image

from flatlab import data, images
from flatlab.images import CORRUPTIONS, corrupt, crop_and_flip, turn_and_shift

REPOSITORY = Path(__file__).resolve().parent.parent
COUNTS = {10: (5 * 4, 3), 100: (20, 3)}  # training and test records of the small archives


def records(count, classes, seed=0):
    """Random records as bytes `(count, …)`, and what should be read from them."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (count, 3, 32, 32), np.uint8)
    labels = generator.integers(0, classes, count)
    coarse = generator.integers(100, 256, (count, int(classes == 100))).astype(
        np.uint8
    )  # must never be taken for the label
    return np.hstack([coarse, labels[:, None].astype(np.uint8), pixels.reshape(count, -1)]), pixels, labels


def contents(classes):
    """{file: bytes} of a small CIFAR."""
    (train, test), layout = COUNTS[classes], images.LAYOUTS[classes]
    parts = np.split(records(train, classes)[0], len(layout.train))
    files = dict(zip(layout.train, parts, strict=True)) | dict.fromkeys(layout.test, records(test, classes, seed=1)[0])
    return {name: rows.tobytes() for name, rows in files.items()}


def archive(classes, leave_out=()):
    """A small .tar.gz of the official layout, with the files beside the records that the official one has, too."""
    folder, files = images.LAYOUTS[classes].folder, contents(classes) | {"readme.html": b"read me"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in files.keys() - set(leave_out):
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(files[name])
            tar.addfile(member, io.BytesIO(files[name]))
    return buffer.getvalue()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        body = self.server.files.get(self.path)
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write((body or b"")[: self.server.stop_after])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """A web server with both archives; `stop_after` bytes it closes the connection."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        web.files = {f"/{images.LAYOUTS[k].archive}": archive(k) for k in COUNTS}
        web.asked, web.stop_after = [], None
        monkeypatch.setattr(images, "SOURCE", f"http://127.0.0.1:{web.server_port}/")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        for classes in COUNTS:
            use(monkeypatch, classes, web.files[f"/{images.LAYOUTS[classes].archive}"])
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield web
        web.shutdown()
        thread.join()


def use(monkeypatch, classes, body):
    """Expect an archive with these bytes and as many records as the small one has."""
    layout, (train, test) = images.LAYOUTS[classes], COUNTS[classes]
    monkeypatch.setitem(
        images.LAYOUTS,
        classes,
        layout._replace(
            md5=hashlib.md5(body).hexdigest(),
            train=dict.fromkeys(layout.train, train // len(layout.train)),
            test=dict.fromkeys(layout.test, test),
        ),
    )


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty FLATLAB_DATA, and no cache of this user's."""
    monkeypatch.setenv("FLATLAB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def unpacked(folder, classes=10):
    """A small CIFAR, unpacked by hand."""
    folder.mkdir(parents=True)
    for name, body in contents(classes).items():
        (folder / name).write_bytes(body)
    return folder


def overwrite(file, position, value):
    body = bytearray(file.read_bytes())
    body[position] = value
    file.write_bytes(body)


def below(folder):
    """Every file and folder in it, with the sizes of the files; but for the lock."""
    files = {str(p.relative_to(folder)): p.stat().st_size if p.is_file() else None for p in folder.rglob("*")}
    return {name: size for name, size in files.items() if not name.endswith(".lock")}


def top(folder):
    """The names of what lies in it, but for the lock."""
    return sorted(name for name in below(folder) if os.sep not in name)


def is_the_small_one(found, classes=10, train=None, test=None):
    parts, counts = (found[:2], found[2:]), (train, test)
    for seed, ((x, y), most, count) in enumerate(zip(parts, COUNTS[classes], counts, strict=True)):
        _, pixels, labels = records(most, classes, seed)
        assert (x.dtype, y.dtype) == (torch.uint8, torch.int64)
        assert np.array_equal(x, pixels[:count]) and np.array_equal(y, labels[:count])
    return True


# CIFAR: fetching -------------------------------------------------------------------------------------------------
def test_the_layouts_are_the_official_ones():
    ten, hundred = images.LAYOUTS[10], images.LAYOUTS[100]
    assert images.SOURCE == "https://www.cs.toronto.edu/~kriz/"
    assert ten[:5] == (10, "cifar-10-batches-bin", "cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", 1)
    assert hundred[:5] == (100, "cifar-100-binary", "cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", 2)
    for layout in (ten, hundred):
        assert (sum(layout.train.values()), sum(layout.test.values())) == (50_000, 10_000)


@pytest.mark.parametrize("classes", COUNTS)
def test_an_archive_is_fetched_once_checked_and_unpacked(classes, server, place, capsys):
    layout = images.LAYOUTS[classes]
    assert is_the_small_one(images.cifar(classes), classes)
    assert "100%" in capsys.readouterr().err  # a progress bar
    assert is_the_small_one(images.cifar(classes, train=5, test=1), classes, 5, 1)
    assert server.asked == [f"/{layout.archive}"]
    assert top(place) == sorted([layout.archive, layout.folder])
    assert {p.name for p in (place / layout.folder).iterdir()} == {*layout.train, *layout.test}


def test_the_archive_unpacks_again_where_its_folder_was_deleted(server, place):
    images.cifar()
    shutil.rmtree(place / "cifar-10-batches-bin")
    assert is_the_small_one(images.cifar()) and len(server.asked) == 1


def test_without_flatlab_data_a_download_lands_in_the_users_cache_and_not_in_the_repository(
    server, place, monkeypatch, tmp_path
):
    monkeypatch.delenv("FLATLAB_DATA")
    if (data.folder() / "cifar-10-batches-bin").exists():
        pytest.skip("the photographs are in the course's own data folder, and are used from there")
    before = [below(data.folder()), sorted(os.listdir(REPOSITORY)), sorted(os.listdir())]
    assert is_the_small_one(images.cifar())
    assert [below(data.folder()), sorted(os.listdir(REPOSITORY)), sorted(os.listdir())] == before
    names = {"cifar-10-batches-bin", "cifar-10-binary.tar.gz"}
    assert set(top(tmp_path / "cache" / "flatlab")) == names
    assert is_the_small_one(images.cifar()) and len(server.asked) == 1


@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_a_damaged_archive_from_the_network_is_refused_named_and_not_kept(damage, server, place):
    address = "/cifar-10-binary.tar.gz"
    whole = server.files[address]
    server.files[address] = whole[:-100] if damage == "truncated" else whole[:-1] + bytes([whole[-1] ^ 1])
    with pytest.raises(ValueError, match="cifar-10-binary.tar.gz.* does not match the known hash"):
        images.cifar()
    assert below(place) == {}
    server.files[address] = whole
    assert is_the_small_one(images.cifar())


def test_a_connection_that_breaks_leaves_nothing_and_the_next_call_fetches_it(server, place):
    server.stop_after = 5_000
    with pytest.raises(OSError, match="could not be fetched"):
        images.cifar()
    assert below(place) == {}
    server.stop_after = None
    assert is_the_small_one(images.cifar())


def test_ctrl_c_during_the_download_leaves_nothing(server, place, monkeypatch):
    def interrupted(self, url, output_file, *_):
        Path(output_file).write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pooch.HTTPDownloader, "__call__", interrupted)
        images.cifar()
    assert below(place) == {}
    assert is_the_small_one(images.cifar())


@pytest.mark.parametrize("why", ["offline", "not there"])
def test_offline_the_error_says_what_to_put_where(why, server, place, monkeypatch):
    if why == "offline":
        server.shutdown()
        server.server_close()  # nobody listens at this address any more
    server.files.clear()
    layout = images.LAYOUTS[100]
    with pytest.raises(OSError) as caught:
        images.cifar(100)
    for needed in (images.SOURCE + layout.archive, layout.md5, place / layout.archive, place / layout.folder):
        assert str(needed) in str(caught.value)
    assert below(place) == {}


def test_a_place_that_cannot_be_written_is_named(server, place, monkeypatch):
    (place / "file").write_text("no folder")
    monkeypatch.setenv("FLATLAB_DATA", str(place / "file" / "data"))
    with pytest.raises(OSError, match="could not be fetched to .*file.data"):
        images.cifar()


def test_an_archive_put_there_by_hand_is_used(server, place):
    (place / "cifar-10-binary.tar.gz").write_bytes(server.files["/cifar-10-binary.tar.gz"])
    assert is_the_small_one(images.cifar()) and server.asked == []


def test_a_damaged_archive_put_there_by_hand_is_refused_and_set_aside(server, place):
    whole = server.files["/cifar-10-binary.tar.gz"]
    (place / "cifar-10-binary.tar.gz").write_bytes(whole[:2_000])
    with pytest.raises(ValueError, match="cifar-10-binary.tar.gz is truncated or altered: its md5 is .*now .*refused"):
        images.cifar()
    assert below(place) == {"cifar-10-binary.tar.gz.refused": 2_000} and server.asked == []
    assert is_the_small_one(images.cifar())


# CIFAR: unpacking ------------------------------------------------------------------------------------------------
def test_unpacking_that_is_interrupted_leaves_no_half_folder(server, place, monkeypatch):
    unpack, calls = tarfile.TarFile.extractall, []

    def interrupted(*args, **options):
        calls.append(unpack(*args, **options))
        if len(calls) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tarfile.TarFile, "extractall", interrupted)
        images.cifar()
    assert below(place) == {}
    assert is_the_small_one(images.cifar())


STOPS = {
    "download": "pooch.HTTPDownloader.__call__ = lambda self, url, file, *_: (open(file, 'wb').write(b'half'), stop())",
    "unpacking": "tarfile.TarFile.extractall = lambda tar, path, members, **_: (tar.extract(members[0], path), stop())",
}


@pytest.mark.parametrize("when", STOPS)
def test_what_a_kill_leaves_is_hidden_never_trusted_and_cleared_by_the_next_call(when, server, place):
    if when == "unpacking":
        (place / "cifar-10-binary.tar.gz").write_bytes(server.files["/cifar-10-binary.tar.gz"])
    code = f"""
import pathlib, tarfile, time, pooch
from flatlab import images
def stop():
    pathlib.Path({str(place.parent / "stopped")!r}).touch()
    time.sleep(600)
{STOPS[when]}
images.LAYOUTS[10] = images.LAYOUTS[10]._replace(md5={images.LAYOUTS[10].md5!r})
images.cifar()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    while not (place.parent / "stopped").exists():
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.02)
    process.kill()
    process.communicate()
    left = [name for name in top(place) if not name.startswith(".")]
    assert left == (["cifar-10-binary.tar.gz"] if when == "unpacking" else []) and len(top(place)) == len(left) + 1
    assert is_the_small_one(images.cifar())
    assert top(place) == ["cifar-10-batches-bin", "cifar-10-binary.tar.gz"]


def test_two_at_once_fetch_it_once(server, place):
    """The second waits for the first, and finds its folder."""
    found = []
    readers = [threading.Thread(target=lambda: found.append(images.cifar())) for _ in range(2)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert len(found) == 2 and all(map(is_the_small_one, found)) and len(server.asked) == 1


def test_an_archive_writes_only_the_files_that_are_expected(server, place, monkeypatch):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        files = {f"cifar-10-batches-bin/{name}": body for name, body in contents(10).items()}
        for name, body in (files | {"../../outside": b"!", "/tmp/flatlab-outside": b"!"}).items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    use(monkeypatch, 10, buffer.getvalue())
    server.files["/cifar-10-binary.tar.gz"] = buffer.getvalue()
    before = below(place.parent)
    assert is_the_small_one(images.cifar())
    new = {Path(name).name for name in below(place.parent).keys() - before.keys()}
    assert new == {*contents(10), "cifar-10-batches-bin", "cifar-10-binary.tar.gz"}
    assert not Path("/tmp/flatlab-outside").exists()


# CIFAR: reading --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("classes", COUNTS)
@pytest.mark.parametrize("itself", [False, True], ids=["inside", "itself"])
def test_an_unpacked_folder_is_used_as_it_is(classes, itself, server, place, monkeypatch):
    folder = unpacked(place / images.LAYOUTS[classes].folder, classes)
    if itself:
        monkeypatch.setenv("FLATLAB_DATA", str(folder))
    before = below(place)
    assert is_the_small_one(images.cifar(classes), classes)
    assert below(place) == before and server.asked == []


@pytest.mark.parametrize("train", [1, 3, 4, 5, 8, 19, 20])
def test_only_the_first_so_many_are_read(train, server, place):
    unpacked(place / "cifar-10-batches-bin")
    assert is_the_small_one(images.cifar(10, train, test=2), 10, train, 2)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), "has 12,291 bytes, expected 12,292"),
        (lambda file: file.write_bytes(file.read_bytes()[:-3073]), "has 9,219 bytes, expected 12,292"),
        (lambda file: file.write_bytes(file.read_bytes() + bytes(4)), "has 12,296 bytes, .*4 records"),
        (lambda file: file.unlink(), "has 0 bytes"),
        (lambda file: overwrite(file, 3_073, 10), "a label is 10, expected 0 … 9"),
    ],
    ids=["a byte too few", "a record too few", "another record size", "missing", "label out of range"],
)
def test_a_damaged_file_is_named(damage, message, server, place):
    damage(unpacked(place / "cifar-10-batches-bin") / "data_batch_3.bin")
    with pytest.raises(ValueError, match=f"data_batch_3.bin.*{message}"):
        images.cifar()


def test_a_fine_label_out_of_range_is_named(server, place):
    file = unpacked(place / "cifar-100-binary", 100) / "test.bin"
    overwrite(file, 1, 100)
    with pytest.raises(ValueError, match=r"test.bin.*: a label is 100, expected 0 … 99"):
        images.cifar(100)


@pytest.mark.parametrize("name", ["train", "test"])
@pytest.mark.parametrize("count", [0, -1, 60_000, 1.5])
def test_a_count_out_of_range_is_named_before_anything_is_fetched(name, count, server, place):
    with pytest.raises(ValueError, match=f"{name} is {count}: choose 1 to"):
        images.cifar(10, **{name: count})
    assert server.asked == []


@pytest.mark.parametrize("classes", [11, "10", None])
def test_other_classes_are_named(classes):
    with pytest.raises(ValueError, match="classes is"):
        images.cifar(classes)
    with pytest.raises(ValueError, match="classes is"):
        images.corrupted("fog", 1, classes)


def test_the_real_photographs_are_all_there(monkeypatch):
    here = os.environ.get("FLATLAB_CIFAR10")
    if here:
        monkeypatch.setenv("FLATLAB_DATA", here)
    here = here or os.environ.get("FLATLAB_DATA") or pooch.os_cache("flatlab")
    if not (Path(here) / "cifar-10-batches-bin").exists():
        pytest.skip("cifar-10-batches-bin is neither in FLATLAB_CIFAR10, FLATLAB_DATA nor this user's cache")
    found = images.cifar()
    assert found.x.shape == (50_000, 3, 32, 32) and found.x_test.shape == (10_000, 3, 32, 32)
    assert torch.bincount(found.y).tolist() == [5_000] * 10
    assert torch.bincount(found.y_test).tolist() == [1_000] * 10
    for x in (found.x, found.x_test):
        red, green, blue = x[::5].float().mean((0, 2, 3)).tolist()
        assert 110 < blue < green < red < 140  # 125, 123 and 114 in the literature: planes in any other order fail
    first = images.cifar(10, train=2_000, test=2_000)
    whole = (found.x[:2_000], found.y[:2_000], found.x_test[:2_000], found.y_test[:2_000])
    assert all(torch.equal(a, b) for a, b in zip(first, whole, strict=True))


# Corrupted photographs -------------------------------------------------------------------------------------------
@pytest.fixture(params=["folder", "tar", "itself"])
def corruptions(request, place, monkeypatch):
    """CIFAR-10-C with 4 images a severity: `.arrays`, and `write(name, body)` to add or replace a file."""
    monkeypatch.setattr(images, "PER_SEVERITY", 4)
    generator = np.random.default_rng(0)
    arrays = {kind: generator.integers(0, 256, (20, 32, 32, 3), np.uint8) for kind in ("fog", "jpeg_compression")}
    arrays["labels"] = np.tile(generator.integers(0, 10, 4).astype(np.uint8), 5)
    folder = place / "CIFAR-10-C"
    folder.mkdir()
    if request.param == "itself":
        monkeypatch.setenv("FLATLAB_DATA", str(folder))

    def write(name, body):
        if isinstance(body, np.ndarray):
            np.save(folder / f"{name}.npy", body, allow_pickle=body.dtype == object)
        else:
            (folder / f"{name}.npy").write_bytes(body)
        if request.param == "tar":
            with tarfile.open(place / "CIFAR-10-C.tar", "w") as tar:
                tar.add(folder, "CIFAR-10-C")
            shutil.move(folder, place.parent / "elsewhere")

    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    write.arrays = arrays
    return write


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_corrupted_photographs_are_those_of_the_kind_and_severity(severity, corruptions, place):
    corruptions("README", b"text")
    before = below(place)
    for kind in ("fog", "jpeg_compression"):
        x, y = images.corrupted(kind, severity)
        chosen = slice(4 * severity - 4, 4 * severity)
        assert (x.dtype, y.dtype, x.is_contiguous()) == (torch.uint8, torch.int64, True)
        assert np.array_equal(x.permute(0, 2, 3, 1), corruptions.arrays[kind][chosen])
        assert np.array_equal(y, corruptions.arrays["labels"][chosen])
    assert below(place) == before  # nothing was unpacked


@pytest.mark.parametrize(
    "name, body, message",
    [
        ("fog", np.zeros((20, 3, 32, 32), np.uint8), r"fog.npy .* holds uint8 \(20, 3, 32, 32\), expected"),
        ("fog", np.zeros((16, 32, 32, 3), np.uint8), "fog.npy .* holds uint8"),
        ("fog", np.zeros((20, 32, 32, 3), np.float32), "fog.npy .* holds float32"),
        ("fog", np.array(["objects", {}], object), "fog.npy .* cannot be read"),
        ("fog", b"", "fog.npy .* cannot be read"),
        ("fog", b"\x93NUMPY broken", "fog.npy .* cannot be read"),
        ("labels", np.zeros(4, np.uint8), "labels.npy .* holds uint8"),
    ],
)
def test_a_damaged_array_is_named(name, body, message, corruptions):
    corruptions(name, body)
    with pytest.raises(ValueError, match=message):
        images.corrupted("fog", 1)


def test_an_array_that_was_cut_is_named(corruptions):
    buffer = io.BytesIO()
    np.save(buffer, corruptions.arrays["fog"])
    corruptions("fog", buffer.getvalue()[:-100])
    with pytest.raises(ValueError, match="fog.npy .* cannot be read"):
        images.corrupted("fog", 1)


def test_an_unknown_kind_lists_those_that_are_there(corruptions):
    corruptions("saturate", corruptions.arrays["fog"])
    with pytest.raises(ValueError, match="kind is 'rain', there are fog, jpeg_compression, saturate$"):
        images.corrupted("rain", 1)


@pytest.mark.parametrize("severity", [0, 6, 1.5, "1"])
def test_another_severity_is_named(severity):
    with pytest.raises(ValueError, match="severity is"):
        images.corrupted("fog", severity)


def test_corruptions_that_are_not_here_say_where_to_put_them(place):
    with pytest.raises(FileNotFoundError) as caught:
        images.corrupted("fog", 1, classes=100)
    assert "put CIFAR-100-C.tar" in str(caught.value) and str(place) in str(caught.value)


# The reader's own folders ----------------------------------------------------------------------------------------
def paint(file, colour, size=(32, 32)):
    """One flat image, whose colour says which it is."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(file)


@pytest.fixture
def pets(tmp_path):
    """Two classes with 10 and 3 images; (class, number, 7) is the colour of each."""
    for number, (name, count) in enumerate((("cats", 10), ("dogs", 3))):
        for k in range(count):
            paint(tmp_path / "pets" / name / f"{k}.png", (number, k, 7))
    return tmp_path / "pets"


@pytest.mark.parametrize("test, wanted", [(0.2, [2, 1]), (0.01, [1, 1]), (0.99, [9, 2])])
def test_each_image_of_the_folders_is_in_one_of_the_sets(pets, test, wanted):
    found, names = images.from_folders(pets, test=test)
    assert names == ["cats", "dogs"] and torch.bincount(found.y_test).tolist() == wanted
    seen = Counter()
    for x, y in (found[:2], found[2:]):
        assert (x.dtype, y.dtype, x.shape[1:]) == (torch.uint8, torch.int64, (3, 32, 32))
        assert (x == x[:, :, :1, :1]).all() and torch.equal(x[:, 0, 0, 0].long(), y)
        seen.update(map(tuple, x[:, :, 0, 0].tolist()))
    assert seen == Counter([(0, k, 7) for k in range(10)] + [(1, k, 7) for k in range(3)])


def test_a_seed_fixes_the_sets_and_their_mixed_order(pets):
    first, again, other = (images.from_folders(pets, seed=seed)[0] for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.x, other.x)
    assert any(images.from_folders(pets, seed=s)[0].y.diff().lt(0).any() for s in range(3))  # not class after class


def test_an_image_of_the_right_size_keeps_its_bytes(pets):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    for k in range(2):
        (pets / "birds").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(pets / "birds" / f"{k}.png")
    found, names = images.from_folders(str(pets))
    birds = found.x[found.y == names.index("birds")]
    assert len(birds) == 1 and np.array_equal(birds[0].permute(1, 2, 0), pixels)


def test_other_images_are_turned_upright_scaled_to_cover_and_cropped_at_their_centre(pets):
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, 40:80] = 200  # the square in the middle
    wide[:20, 40:80, 0] = 90  # its upper half has less red
    lying = Image.fromarray(np.rot90(wide))  # turned to the left; its tag says how to turn it back
    exif = Image.Exif()
    exif[0x0112] = 6
    (pets / "birds").mkdir()
    for k in range(2):
        lying.save(pets / "birds" / f"{k}.png", exif=exif)
    found, names = images.from_folders(pets, side=20)
    (bird,) = found.x[found.y == names.index("birds")].int()
    assert bird.shape == (3, 20, 20)
    bird = bird[:, :, 2:-2]  # at the edges the filter of the scaling sees what is cropped
    assert (bird[1:] == 200).all() and (bird[0, :8] == 90).all() and (bird[0, 12:] == 200).all()


def test_grey_and_transparent_images_become_rgb(pets):
    for k, mode in enumerate(("L", "RGBA", "P")):
        (pets / "birds").mkdir(exist_ok=True)
        Image.new(mode, (8, 8), {"L": 9, "RGBA": (9, 9, 9, 255), "P": 0}[mode]).save(pets / "birds" / f"{k}.png")
    found, _ = images.from_folders(pets, side=8)
    assert found.x.shape[1:] == (3, 8, 8)


def test_what_is_no_image_is_left_alone(pets):
    Image.new("RGB", (8, 8)).save(pets / "cats" / "page.pdf")
    Image.new("RGB", (8, 8)).save(pets / "cats" / "page.eps")
    (pets / "notes.txt").write_text("a note")
    (pets / "cats" / "notes.txt").write_text("a note")
    (pets / "cats" / ".hidden.png").write_text("not an image")
    (pets / ".ipynb_checkpoints").mkdir()
    found, names = images.from_folders(pets)
    assert names == ["cats", "dogs"] and len(found.y) + len(found.y_test) == 13


@pytest.mark.parametrize("damage", ["text", "cut"])
def test_an_image_that_cannot_be_read_is_named(pets, damage):
    file = pets / "dogs" / "1.png"
    file.write_bytes(b"no image" if damage == "text" else file.read_bytes()[:60])
    with pytest.raises(ValueError, match="dogs.1.png cannot be read as an image"):
        images.from_folders(pets)


def grey(file, mode):
    """A picture of 16 or 32 bits, whose brightest value is far above 255."""
    values = np.linspace(0, 1 if mode == "F" else 60_000, 64).reshape(8, 8)
    Image.fromarray(values.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode])).save(file)


@pytest.mark.parametrize("name, mode", [("0.png", "I;16"), ("0.tif", "I;16"), ("0.tiff", "I"), ("0.tif", "F")])
def test_an_image_of_more_than_8_bits_is_refused_with_its_fix(name, mode, pets):
    grey(pets / "dogs" / name, mode)
    with pytest.raises(
        ValueError, match=f"dogs.{name} .*more than 8 bits a pixel .mode {mode[0]}.*: scale it to 0 … 255"
    ):
        images.from_folders(pets)


def test_an_eps_by_another_name_is_not_opened_and_no_program_called(pets, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    Image.new("RGB", (8, 8)).save(pets / "dogs" / "0.eps")
    (pets / "dogs" / "0.eps").replace(pets / "dogs" / "0.png")
    with pytest.raises(ValueError, match="dogs.0.png cannot be read as an image"):
        images.from_folders(pets)


def test_folders_without_classes_or_images_are_named(pets, tmp_path):
    for path in (tmp_path / "nothing", pets / "cats"):
        with pytest.raises(ValueError, match=f"path is .*{path.name}: .*two sub-folders.*there are: none"):
            images.from_folders(path)
    shutil.move(pets / "dogs", tmp_path)
    with pytest.raises(ValueError, match="two sub-folders, one per class, .*there are: cats with 10"):
        images.from_folders(pets)
    (pets / "empty").mkdir()
    paint(pets / "empty" / "0.png", "red")
    with pytest.raises(ValueError, match="each with at least two images .*there are: cats with 10, empty with 1"):
        images.from_folders(pets)


@pytest.mark.parametrize("options", [{"side": 0}, {"side": 1.5}, {"test": 0}, {"test": 1}, {"test": -0.5}])
def test_a_bad_side_or_share_is_named(options, pets):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is"):
        images.from_folders(pets, **options)


# Crop and flip on bytes ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("padding, flip", [(4, True), (2, False), (0, True)])
def test_crop_and_flip_on_bytes_is_a_loop_over_the_images(padding, flip):
    x = torch.from_numpy(records(40, 10)[1])
    found = crop_and_flip(x, torch.Generator().manual_seed(3), padding, flip)
    generator = torch.Generator().manual_seed(3)
    top, left = torch.randint(2 * padding + 1, (2, 40), generator=generator).tolist()
    mirrored = torch.rand(40, generator=generator) < 0.5 if flip else [False] * 40
    x, found = x.numpy(), found.numpy()
    wanted = np.full_like(x, 128)
    for n in range(40):
        for i in range(32):
            for j in range(32):
                row, column = i + top[n] - padding, (31 - j if mirrored[n] else j) + left[n] - padding
                if 0 <= row < 32 and 0 <= column < 32:
                    wanted[n, :, i, j] = x[n, :, row, column]
    assert found.dtype == np.uint8 and np.array_equal(found, wanted)
    assert not flip or 5 < sum(mirrored) < 35


# Other augmentations and corruptions ----------------------------------------------------------------------------
def shifts(image, padding):
    """Every copy of `image (C, H, W)` that may come out: `{(rows, columns, mirrored): image}`."""
    (_, h, w), p, copies = image.shape, padding, {}
    for top in range(-p, p + 1):
        for left in range(-p, p + 1):
            out = torch.zeros_like(image)
            to, at = (slice(max(0, -s), n - max(0, s)) for s, n in ((top, h), (left, w)))
            out[:, to, at] = image[:, to.start + top : to.stop + top, at.start + left : at.stop + left]
            copies |= {(top, left, False): out, (top, left, True): out.flip(-1)}
    return copies


def test_an_augmented_image_is_a_shifted_and_perhaps_mirrored_copy():
    images = normal(300, 2, 5, 7) + 10  # no pixel is 0, so that the shift can be read off
    found = []
    for image, out in zip(
        images, crop_and_flip(images, torch.Generator().manual_seed(0), padding=2, fill=0), strict=True
    ):
        matches = [how for how, wanted in shifts(image, 2).items() if torch.equal(out, wanted)]
        assert len(matches) == 1
        found += matches
    assert len(set(found)) == 50  # every shift, 0 too, with and without the mirror
    assert 110 < sum(mirrored for *_, mirrored in found) < 190


def test_the_edge_is_mid_grey_by_default():
    far = partial(crop_and_flip, padding=9, flip=False)  # images of 4 × 4: most are shifted out altogether
    floats = far(torch.ones(40, 1, 4, 4), torch.Generator().manual_seed(0))
    numbers = far(torch.full((40, 1, 4, 4), 255, dtype=torch.uint8), torch.Generator().manual_seed(0))
    assert set(floats.unique().tolist()) == {1.0, torch.tensor(128 / 255).item()}
    assert numbers.dtype == torch.uint8 and set(numbers.unique().tolist()) == {128, 255}
    assert torch.equal(numbers.float() / 255, floats)


def test_augmentation_is_its_generator_s_and_can_be_switched_off():
    DRAWN = normal(12, 2, 5, 7)
    draw = lambda seed, **options: crop_and_flip(DRAWN, torch.Generator().manual_seed(seed), **options)  # noqa: E731
    original = DRAWN.clone()
    assert torch.equal(draw(0), draw(0)) and not torch.equal(draw(0), draw(1))
    assert torch.equal(draw(0, padding=0, flip=False), DRAWN) and torch.equal(DRAWN, original)
    mirrored = draw(0, padding=0)
    assert all(torch.equal(a, b) or torch.equal(a, b.flip(-1)) for a, b in zip(mirrored, DRAWN, strict=True))


def test_turning_and_shifting_are_drawn_by_their_generator_and_can_be_switched_off():
    images = normal(60, 1, 8, 8).abs()
    assert close(turn_and_shift(images, torch.Generator().manual_seed(0), degrees=0, pixels=0), images, 1e-12)
    drawn = [turn_and_shift(images, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def centres(images):
    """How far down and across from the middle the mass of each image lies, in pixels."""
    height, width = images.shape[2:]
    places = (torch.arange(float(height)) - (height - 1) / 2)[:, None], torch.arange(float(width)) - (width - 1) / 2
    return [(images * place).sum((1, 2, 3)) / images.sum((1, 2, 3)) for place in places]


def test_a_shift_is_uniform_up_to_its_size_in_pixels():
    dot = torch.zeros(400, 1, 9, 13, dtype=torch.float64)
    dot[:, :, 4, 6] = 1.0
    for shift in centres(turn_and_shift(dot, torch.Generator().manual_seed(0), degrees=0, pixels=1.0)):
        assert 0.97 < shift.abs().max() <= 1 and abs(shift.mean()) < 0.1 and 0.53 < shift.std() < 0.62  # 1/√3 = 0.577


@pytest.mark.parametrize("sides", [(21, 21), (15, 25)])
def test_a_turn_moves_a_far_pixel_along_its_circle(sides):
    height, width = sides
    far = torch.zeros(400, 1, height, width, dtype=torch.float64)
    far[:, :, height // 2, width // 2 + 8] = 1.0
    down, across = centres(turn_and_shift(far, torch.Generator().manual_seed(0), degrees=30, pixels=0))
    angle = torch.rad2deg(torch.atan2(down, across))
    assert close((down**2 + across**2).sqrt(), torch.full((400,), 8.0), 0.03)
    assert 28 < angle.abs().max() < 31 and abs(angle.mean()) < 3 and 15 < angle.std() < 20  # 30/√3 = 17.3


IMAGES = torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corruption_grows_with_severity_and_stays_within_the_range_of_an_image(kind):
    before = IMAGES.clone()
    disturbed = [corrupt(IMAGES, kind, severity) for severity in range(1, 6)]
    distances = [(d - IMAGES).flatten(1).norm(dim=1).mean().item() for d in disturbed]
    assert 0 < distances[0] and all(a < b for a, b in zip(distances, distances[1:], strict=False))
    assert all(d.min() >= 0 and d.max() <= 1 and d.shape == IMAGES.shape and d.dtype == IMAGES.dtype for d in disturbed)
    assert torch.equal(IMAGES, before)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corruption_is_its_seed_s_and_leaves_the_global_random_state(kind):
    state = torch.random.get_rng_state()
    first, again, other = (corrupt(IMAGES, kind, 3, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(first, again) and torch.equal(first, other) == ("noise" not in kind)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (1, 3, 8, 8), (4, 1, 5, 9), (2, 3, 1, 1)], ids=str)
@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corruption_takes_any_number_of_images_and_channels(kind, shape):
    images = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = corrupt(images, kind, 5)
    assert found.shape == shape and found.dtype == torch.float64
    if "noise" not in kind:
        alone = [[corrupt(image[None, None], kind, 5)[0, 0] for image in channels] for channels in images]
        assert close(found, torch.stack([torch.stack(row) for row in alone]), 1e-12)


def test_corruptions_have_their_closed_forms():
    grey = torch.full((2, 1, 40, 40), 0.5, dtype=torch.float64)
    assert close(corrupt(grey, "brightness", 2), grey + 0.2, 1e-12)
    assert close(corrupt(grey, "blur", 5), grey, 1e-12)
    halves = torch.cat([grey * 0.5, grey * 1.5], 2)
    assert close(corrupt(halves, "contrast", 2), torch.cat([grey * 0.75, grey * 1.25], 2), 1e-12)
    noise, shot = (corrupt(grey, kind, 1) - 0.5 for kind in ("gaussian noise", "shot noise"))
    for error, sd in ((noise, 0.05), (shot, (0.5 / 60) ** 0.5)):
        assert abs(error.mean()) < 5 * sd / 3200**0.5 and abs(error.std() / sd - 1) < 0.08
    blocks = corrupt(IMAGES[:1, :1], "pixelate", 5)  # 16 × 16 pixels become 4 × 4 blocks
    assert close(blocks, F.avg_pool2d(IMAGES[:1, :1], 4).repeat_interleave(4, 2).repeat_interleave(4, 3), 1e-6)


@pytest.mark.parametrize(
    "images, kind, severity, message",
    [
        (IMAGES, "fog", 1, "kind is 'fog'.*blur"),
        (IMAGES, "blur", 0, "severity is 0"),
        (IMAGES, "blur", 6, "severity is 6"),
        (IMAGES, "blur", 1.5, "severity is 1.5"),
        (IMAGES[0], "blur", 1, r"images has shape \(3, 16, 16\)"),
        (IMAGES.flatten(1), "blur", 1, "images has shape"),
    ],
)
def test_bad_input_names_the_argument(images, kind, severity, message):
    with pytest.raises(ValueError, match=message):
        corrupt(images, kind, severity)
