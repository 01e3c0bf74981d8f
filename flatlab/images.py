"""Photographs and other images: CIFAR-10 and -100, your own folders, and how images are corrupted and augmented."""

import math
import os
import shutil
import tarfile
from collections.abc import Callable
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flatlab.data import Data, folder

PIXELS = (3, 32, 32)
PER_SEVERITY = 10_000  # corrupted photographs of one kind
SOURCE = "https://www.cs.toronto.edu/~kriz/"
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # that are opened; others may call other programs


class Layout(NamedTuple):
    """The binary layout of one CIFAR: records of `labels` label bytes (the last one counts) and 3,072 pixels."""

    classes: int
    folder: str
    archive: str
    md5: str
    labels: int
    train: dict[str, int]  # file: records
    test: dict[str, int]


LAYOUTS = {
    10: Layout(
        10, "cifar-10-batches-bin", "cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", 1,
        {f"data_batch_{k}.bin": 10_000 for k in range(1, 6)}, {"test_batch.bin": 10_000},
    ),
    100: Layout(
        100, "cifar-100-binary", "cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", 2,
        {"train.bin": 50_000}, {"test.bin": 10_000},
    ),
}  # fmt: skip


def cifar(classes: int = 10, train: int | None = None, test: int | None = None) -> Data:
    """CIFAR-10 or CIFAR-100: 50,000 training and 10,000 test photographs `(N, 3, 32, 32)`, bytes, and class numbers.

    `train`, `test`: only the first so many. CIFAR-100 comes with its 100 fine classes. An unpacked folder
    `cifar-10-batches-bin` or `cifar-100-binary` in FLATLAB_DATA (or FLATLAB_DATA itself) is used as it is; otherwise
    the archive is fetched, checked and unpacked there, or in this user's cache where FLATLAB_DATA is not set.
    Errors: ValueError for other `classes`, a count out of range, an archive or a file that is truncated or altered;
    OSError, with where to put the archive by hand, if it cannot be fetched. Source: Krizhevsky 2009, binary version.
    """
    layout = _layout(classes)
    for name, count, files in (("train", train, layout.train), ("test", test, layout.test)):
        most = sum(files.values())
        if count is not None and count not in range(1, most + 1):
            raise ValueError(f"{name} is {count!r}: choose 1 to {most:,} photographs, or None for all")
    place = _find(layout.folder) or _fetch(layout)
    return Data(*_records(place, layout, layout.train, train), *_records(place, layout, layout.test, test))


def corrupted(kind: str, severity: int, classes: int = 10) -> tuple[Tensor, Tensor]:
    """The published CIFAR-10-C or -100-C: bytes `(10000, 3, 32, 32)` and class numbers `(10000,)`.

    CIFAR's test photographs, disturbed; `corrupt` makes other corruptions, our own, of any images. kind: one of the 19,
    such as "fog" or "gaussian_noise"; severity 1 (slight) to 5. Read from `CIFAR-10-C` or `CIFAR-100-C` in
    FLATLAB_DATA: the folder of `.npy` files, or the `.tar`, which need not be unpacked.
    Errors: FileNotFoundError, with the place to put it, where there is none; ValueError for a kind that is not there
    (it lists those that are), another severity, or a file of another shape. Source: Hendrycks and Dietterich 2019.
    """
    _check_severity(severity)
    _layout(classes)
    name = f"CIFAR-{classes}-C"
    place = _find(name) or _find(f"{name}.tar")
    if place is None:
        raise FileNotFoundError(f"{name} is not here: put {name}.tar, or its folder {name}, into {_downloads()}")
    chosen = slice((severity - 1) * PER_SEVERITY, severity * PER_SEVERITY)
    pixels, labels = _array(place, kind, PIXELS[1:] + PIXELS[:1])[chosen], _array(place, "labels")[chosen]
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()), torch.from_numpy(labels.astype(np.int64))


def from_folders(path: str | Path, side: int = 32, test: float = 0.2, seed: int = 0) -> tuple[Data, list[str]]:
    """Your own images, one sub-folder per class, as `(data, names)`: bytes `(N, 3, side, side)`, class numbers, names.

    Class k is the k-th sub-folder by name. Each image is turned upright, made RGB, scaled so that it covers the square
    and cropped at its centre. A share `test` of each class, drawn by `seed`, is held out: at least one image and not
    all. Files of other kinds than PNG, JPEG, BMP, GIF, WebP, TIFF and PPM, hidden ones and deeper folders are left
    alone. Errors: ValueError for fewer than two classes or two images in one, `side` below 1, `test` outside 0 … 1, or
    an image that cannot be read or has more than 8 bits a channel (named).
    """
    from tqdm.auto import tqdm

    if int(side) != side or side < 1:
        raise ValueError(f"side is {side!r}: choose a positive whole number of pixels")
    if not 0 < test < 1:
        raise ValueError(f"test is {test!r}: choose a share between 0 and 1, e.g. 0.2")
    files = _class_files(Path(path).expanduser())
    parts = []
    for rows in _split(list(files.values()), test, seed):
        pixels = [_picture(file, int(side)) for file, _ in tqdm(rows, delay=3, leave=False, desc="images")]
        parts += [torch.from_numpy(np.stack(pixels)), torch.tensor([number for _, number in rows])]
    return Data(*parts), list(files)


def corrupt(images: Tensor, kind: str, severity: int, seed: int = 0) -> Tensor:
    """Disturb any images `(N, C, H, W)` with values in 0 … 1; `severity` 1 (slight) to 5. The result stays in 0 … 1.

    Our own tensor operations in the spirit of Hendrycks and Dietterich 2019, with strengths of ours; the photographs
    that they published are read by `corrupted`. Errors: ValueError for an unknown kind, severity or shape.
    """
    if kind not in CORRUPTIONS:
        raise ValueError(f"kind is {kind!r}: choose one of {', '.join(CORRUPTIONS)}")
    _check_severity(severity)
    if images.ndim != 4:
        raise ValueError(f"images has shape {tuple(images.shape)}: it needs (N, channels, height, width)")
    operation, strengths = CORRUPTIONS[kind]
    return operation(images, strengths[severity - 1], torch.Generator().manual_seed(seed)).clamp(0, 1)


def crop_and_flip(
    images: Tensor, generator: torch.Generator, padding: int = 4, flip: bool = True, fill: float | None = None
) -> Tensor:
    """Shift each image `(N, C, H, W)` by up to `padding` pixels and mirror half of them, all as one gather.

    The edge is filled with `fill`, by default mid-grey: 128 for bytes, 128/255 for floats in 0 … 1, as in the paper.
    """
    count, channels, height, width = images.shape
    grey = 128 / 255 if images.is_floating_point() else 128
    padded = F.pad(images, (padding,) * 4, value=grey if fill is None else fill)
    top, left = torch.randint(2 * padding + 1, (2, count, 1), generator=generator)
    rows, columns = top + torch.arange(height), left + torch.arange(width)
    if flip:
        mirrored = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    image, channel = torch.arange(count)[:, None, None, None], torch.arange(channels)[:, None, None]
    index = image, channel, rows[:, None, :, None], columns[:, None, None]
    return padded[tuple(i.to(images.device) for i in index)]


def turn_and_shift(images: Tensor, generator: torch.Generator, degrees: float = 15, pixels: float = 0.5) -> Tensor:
    """Turn each image `(N, C, H, W)` of floats by up to `degrees` and shift it by up to `pixels`, both uniform.

    In between pixels it is interpolated linearly; what comes in from outside is 0. Milder than `crop_and_flip`: the
    augmentation for digits, of which a mirrored one is none.
    """
    turn, across, down = 2 * torch.rand(3, len(images), generator=generator).to(images) - 1
    turn = turn * math.radians(degrees)
    height, width = images.shape[2:]
    across, down = across * 2 * pixels / width, down * 2 * pixels / height  # coordinates run from -1 to 1
    rows = [turn.cos(), -turn.sin() * height / width, across], [turn.sin() * width / height, turn.cos(), down]
    turns = torch.stack([torch.stack(row, -1) for row in rows], 1)
    grid = F.affine_grid(turns, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def _blur(x, sd, _):
    reach = math.ceil(2 * sd)
    kernel = torch.exp(-(torch.arange(-reach, reach + 1).to(x) ** 2) / (2 * sd**2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, -1)
    x = F.pad(x, (reach,) * 4, mode="replicate")
    x = F.conv2d(x, kernel[:, :, None], groups=x.shape[1])
    return F.conv2d(x, kernel[..., None], groups=x.shape[1])


def _contrast(x, share, _):
    mean = x.mean((-2, -1), keepdim=True)
    return mean + share * (x - mean)


def _pixelate(x, share, _):
    small = F.interpolate(x, size=[max(1, round(share * n)) for n in x.shape[-2:]], mode="area")
    return F.interpolate(small, size=x.shape[-2:], mode="area")


CORRUPTIONS: dict[str, tuple[Callable, tuple[float, ...]]] = {  # (images, strength, generator) -> images; strengths
    "gaussian noise": (lambda x, sd, g: x + sd * torch.randn(x.shape, generator=g).to(x), (0.05, 0.1, 0.15, 0.2, 0.3)),
    "shot noise": (lambda x, n, g: torch.poisson(x.clamp(0, 1).cpu() * n, generator=g).to(x) / n, (60, 25, 12, 6, 3)),
    "blur": (_blur, (0.4, 0.6, 0.8, 1.0, 1.3)),
    "contrast": (_contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "brightness": (lambda x, shift, _: x + shift, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "pixelate": (_pixelate, (0.85, 0.7, 0.55, 0.4, 0.25)),
}


def _check_severity(severity: int) -> None:
    if not isinstance(severity, int) or not 1 <= severity <= 5:
        raise ValueError(f"severity is {severity!r}: choose 1 to 5")


def _layout(classes: int) -> Layout:
    if classes not in LAYOUTS:
        raise ValueError(f"classes is {classes!r}: there are CIFAR-10 and CIFAR-100, choose 10 or 100")
    return LAYOUTS[classes]


def _downloads() -> Path:
    """Where archives go: FLATLAB_DATA, else this user's cache; never the repository or the installed package."""
    import pooch

    return folder() if "FLATLAB_DATA" in os.environ else Path(pooch.os_cache("flatlab"))


def _find(name: str) -> Path | None:
    """The file or folder of this name among the data or the downloads; the data folder itself may have the name."""
    places = (folder(), folder() / name, _downloads() / name)
    return next((place for place in places if place.name == name and place.exists()), None)


def _fetch(layout: Layout) -> Path:
    """The folder of the record files, unpacked from their archive, which is fetched if nobody has put it there.

    All is made in a hidden folder, by one process at a time, and gets its name when it is whole. Of a kill only the
    hidden folder is left, and the next call clears it.
    """
    from filelock import FileLock

    place = _downloads()
    wanted, archive = place / layout.folder, place / layout.archive
    try:
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / ".half.lock"):
            for left in place.glob(".half-*"):
                shutil.rmtree(left)
            with TemporaryDirectory(prefix=".half-", dir=place) as half:
                if not wanted.exists():  # else another process was faster
                    _unpack(archive, layout, Path(half))
    except OSError as error:  # the network's errors are OSErrors, too
        raise OSError(
            f"{SOURCE + layout.archive} could not be fetched to {archive} ({type(error).__name__}). Put the archive, "
            f"md5 {layout.md5}, there by hand, or the folder {wanted}; FLATLAB_DATA chooses another place"
        ) from error
    return wanted


def _unpack(archive: Path, layout: Layout, half: Path) -> None:
    """Fetch, check and unpack by way of `half`; an archive that was put there by hand and is broken is put aside."""
    import pooch

    if archive.exists() and (found := pooch.file_hash(archive, "md5")) != layout.md5:
        aside = archive.replace(archive.with_name(f"{archive.name}.refused"))
        expected = f"{layout.md5}. It is now {aside.name}; call again to fetch it anew"
        raise ValueError(f"{archive} is truncated or altered: its md5 is {found}, expected {expected}")
    files = pooch.Untar([f"{layout.folder}/{name}" for name in layout.train | layout.test], half)
    place, bar = archive.parent if archive.exists() else half, pooch.HTTPDownloader(progressbar=True)
    pooch.retrieve(SOURCE + archive.name, f"md5:{layout.md5}", archive.name, place, files, bar)
    (half / layout.folder).rename(archive.parent / layout.folder)
    (place / archive.name).rename(archive)


def _records(place: Path, layout: Layout, files: dict[str, int], wanted: int | None) -> tuple[Tensor, Tensor]:
    """The first `wanted` records: `labels` label bytes, then 1,024 red, green and blue pixels each."""
    parts, left = [], int(wanted or sum(files.values()))
    for name, count in files.items():
        file, size = place / name, count * (layout.labels + math.prod(PIXELS))
        found = file.stat().st_size if file.is_file() else 0
        if found != size:
            wrong = f"{found:,} bytes, expected {size:,} ({count:,} records)"
            raise ValueError(f"{file} has {wrong}: delete or move {place} to unpack it anew")
        parts.append(np.memmap(file, np.uint8, "r").reshape(count, -1)[:left])
        left = max(0, left - count)
    x = np.concatenate([rows[:, layout.labels :] for rows in parts]).reshape(-1, *PIXELS)
    y = np.concatenate([rows[:, layout.labels - 1] for rows in parts]).astype(np.int64)
    if y.max() >= layout.classes:
        raise ValueError(f"{', '.join(files)} in {place}: a label is {y.max()}, expected 0 … {layout.classes - 1}")
    return torch.from_numpy(x), torch.from_numpy(y)


def _array(place: Path, name: str, shape: tuple[int, ...] = ()) -> np.ndarray:
    """`name.npy`, bytes `(5 * PER_SEVERITY, *shape)`, of a folder or of a .tar."""
    wanted = (5 * PER_SEVERITY, *shape)
    try:
        with tarfile.open(place, "r:") if place.is_file() else nullcontext() as tar:
            paths = map(Path, tar.getnames()) if tar else place.iterdir()
            files = {path.stem: path for path in paths if path.suffix == ".npy"}
            if name not in files:
                there = ", ".join(sorted(files.keys() - {"labels"})) or "none"
                raise ValueError(f"kind is {name!r}, there are {there}")
            stream = tar.extractfile(files[name].as_posix()) if tar else None
            array = np.load(BytesIO(stream.read()) if stream else files[name], allow_pickle=False)
        if array.shape != wanted or array.dtype != np.uint8:
            raise ValueError(f"it holds {array.dtype} {array.shape}, expected uint8 {wanted}")
    except (ValueError, EOFError, OSError, tarfile.TarError) as error:
        raise ValueError(f"{name}.npy in {place} cannot be read: {error}") from error
    return array


def _class_files(path: Path) -> dict[str, list[Path]]:
    """{class name: its image files}, both in order."""
    from PIL import Image

    known = {suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS}
    files = {
        own.name: [file for file in sorted(own.glob("[!.]*")) if file.is_file() and file.suffix.lower() in known]
        for own in sorted(path.glob("[!.]*"))
        if own.is_dir()
    }
    if len(files) < 2 or min(map(len, files.values())) < 2:
        there = ", ".join(f"{name} with {len(own)}" for name, own in files.items()) or "none"
        expected = "at least two sub-folders, one per class, each with at least two images (.png, .jpg and the like)"
        raise ValueError(f"path is {path}: expected {expected}; there are: {there}")
    return files


def _split(classes: list[list[Path]], test: float, seed: int) -> list[list[tuple[Path, int]]]:
    """Two shuffled lists of `(file, class number)`: to learn from, and held out."""
    generator, learnt, held_out = np.random.default_rng(seed), list[tuple[Path, int]](), list[tuple[Path, int]]()
    for number, files in enumerate(classes):
        rows = [(files[i], number) for i in generator.permutation(len(files))]
        few = min(max(round(test * len(rows)), 1), len(rows) - 1)
        held_out += rows[:few]
        learnt += rows[few:]
    return [[rows[i] for i in generator.permutation(len(rows))] for rows in (learnt, held_out)]


def _picture(file: Path, side: int) -> np.ndarray:
    """One image as bytes `(3, side, side)`."""
    from PIL import Image, ImageOps

    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.mode[0] in "IF":
                raise ValueError(f"it has more than 8 bits a pixel (mode {image.mode}): scale it to 0 … 255, as bytes")
            square = ImageOps.fit(ImageOps.exif_transpose(image).convert("RGB"), (side, side))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file} cannot be read as an image: {error}") from error
    return np.asarray(square).transpose(2, 0, 1)
