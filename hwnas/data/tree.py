"""What lies in a folder of images: which files are images, which are not and why. Knows endings and first bytes.

Links to folders are followed, but never round in a circle. No image is decoded here.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hwnas.data.decoding import readable_suffixes
from hwnas.errors import DataError
from hwnas.foreign import shown

# Made by systems and programs beside people's images, never by people.
_TOOLS = frozenset(
    {"__macosx", "@eadir", "@recycle", "#recycle", "#snapshot", "lost+found", "$recycle.bin", "__pycache__"}
    | {"system volume information", "icon\r", "thumbs.db", "desktop.ini"}
)
# Images, but of kinds that Pillow alone does not read, or that programs would have to be started for.
_UNREADABLE = {
    ending: kind
    for kind, endings in {
        "HEIC": ".heic .heif .hif",
        "JPEG XL": ".jxl",
        "a camera's raw format": ".cr2 .cr3 .nef .arw .dng .orf .rw2 .raf .pef .srw",
        "SVG": ".svg .svgz",
        "PostScript": ".eps .ps .ai",
        "DICOM": ".dcm .dicom",
        "OpenEXR": ".exr",
        "a Windows metafile": ".wmf .emf",
        "GIMP": ".xcf",
    }.items()
    for ending in endings.split()
}
_UNFINISHED = frozenset({".bak", ".old", ".orig", ".tmp", ".part", ".crdownload", ".download", ".swp"})
# PNG, JPEG, two of GIF, TIFF in both byte orders
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
# links may make a small disk look endless
_MOST_FOLDERS = 200_000
_DEEPEST = 32


@dataclass(frozen=True, slots=True)
class Odd:
    """A file or folder that is not used.

    Attributes:
        path: of it.
        reason: in a few words.
        count: of files, for a folder.
        image: it is an image all the same, so that leaving it out loses something.
        link: it is a link that cannot be followed.
    """

    path: Path
    reason: str
    count: int = 1
    image: bool = False
    link: bool = False


@dataclass(slots=True)
class Folder:
    """A folder with what is in it.

    Attributes:
        path: of it.
        images: files that can be read, sorted.
        by_content: how many of them have no ending and were recognised by their first bytes.
        odd: files and folders that are not used.
        folders: sub-folders, sorted.
    """

    path: Path
    images: list[Path] = field(default_factory=list)
    by_content: int = 0
    odd: list[Odd] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its own name."""
        return self.path.name

    @property
    def own(self) -> int:
        """Images directly in it, those that cannot be read included."""
        return len(self.images) + sum(odd.image for odd in self.odd)

    @property
    def total(self) -> int:
        """Images in it and below it, those that cannot be read included."""
        return sum(folder.own for folder in self.walk())

    @property
    def holding(self) -> list[Folder]:
        """Sub-folders with images in or below them."""
        return [folder for folder in self.folders if folder.total]

    def walk(self) -> Iterator[Folder]:
        """Itself and every folder below it."""
        yield self
        for folder in self.folders:
            yield from folder.walk()


def read_tree(root: Path) -> Folder:
    """What lies in a folder and below it.

    Raises:
        DataError: a folder cannot be read, or there are far too many.
    """
    return _Reader().read(root, ancestors=())


class _Reader:
    def __init__(self) -> None:
        self._readable = readable_suffixes()
        self._folders = 0

    def read(self, path: Path, *, ancestors: tuple[tuple[int, int], ...]) -> Folder:
        # counted over the whole walk, not by level: width is as endless as depth
        self._folders += 1
        if self._folders > _MOST_FOLDERS or len(ancestors) > _DEEPEST:
            raise DataError(
                f"{shown(path)} is too deep, or one of too many folders ({_MOST_FOLDERS:,} at most); do links lead "
                "from folder to folder? Name the folder with the images itself"
            )
        found = Folder(path)
        try:
            here = path.stat()
            # sorted: the order of files decides the split, and a disk's own order is chance
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
            for entry in entries:
                self._add(entry, found, ancestors=(*ancestors, (here.st_dev, here.st_ino)))
        except OSError as e:
            raise DataError(f"{shown(e.filename or path)} cannot be read: {e.strerror or e}") from e
        return found

    def _add(self, entry: os.DirEntry[str], found: Folder, *, ancestors: tuple[tuple[int, int], ...]) -> None:
        path = found.path / entry.name
        try:
            # follows links: what a link leads to is what counts
            status = entry.stat()
        except OSError as e:
            if not entry.is_symlink():
                raise
            what = "leads in a circle" if e.errno == errno.ELOOP else "leads nowhere"
            visible = not entry.name.startswith(".")
            found.odd.append(Odd(path, f"a link that {what}", image=visible, link=visible))
            return
        is_folder = stat.S_ISDIR(status.st_mode)
        hidden = entry.name.startswith(".")
        if hidden or entry.name.casefold() in _TOOLS:
            reason = "hidden (the name begins with a dot)" if hidden else "made by a system or program, not by people"
            # empty tool folders are nothing to tell of
            count = sum(len(files) for _, _, files in os.walk(path)) if is_folder else 1
            if count:
                found.odd.append(Odd(path, reason, count=count))
        # by device and inode: one folder has many paths
        elif is_folder and (status.st_dev, status.st_ino) in ancestors:
            found.odd.append(Odd(path, "a link that leads back to a folder above it"))
        elif is_folder:
            found.folders.append(self.read(path, ancestors=ancestors))
        elif not stat.S_ISREG(status.st_mode):
            found.odd.append(Odd(path, "a pipe, socket or device, not a file"))
        else:
            self._add_file(path, found)

    def _add_file(self, path: Path, found: Folder) -> None:
        ending = path.suffix.lower()
        if ending in self._readable:
            found.images.append(path)
            return
        if ending in _UNREADABLE:
            kind: str | None = _UNREADABLE[ending]
        else:
            # by content: images from the web often have no ending, or a wrong one
            kind = _kind(path)
        if kind == "":  # one that can be read
            if ending in _UNFINISHED or path.name.endswith("~"):
                found.odd.append(Odd(path, "an image, but a copy or an unfinished download by its name"))
            else:
                found.images.append(path)
                found.by_content += 1
        elif kind is not None:
            found.odd.append(Odd(path, f"an image of a kind that cannot be read here ({kind})", image=True))
        else:
            found.odd.append(Odd(path, "not an image"))


def _kind(path: Path) -> str | None:
    """What the first bytes say: "" an image that can be read, a name for one that cannot, None for anything else."""
    with path.open("rb") as file:
        # all marks below lie within these bytes
        head = file.read(32)
    if head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return ""
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand in (b"avif", b"avis"):
            return "" if ".avif" in readable_suffixes() else "AVIF"
        return "HEIC" if brand in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1") else None
    return "JPEG XL" if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")) else None
