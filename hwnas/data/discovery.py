"""Which folders are parts of a data set, which are classes, and what is left out and why.

A part holds one folder a class; a class holds images. What could be either is asked about, never guessed. Knows
names and numbers of files, never their pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from hwnas.data.arrays import LeftOut
from hwnas.data.naming import class_name
from hwnas.data.part_names import PARTS, PartName, part_of, says_nothing
from hwnas.data.tree import Folder, Odd, read_tree
from hwnas.errors import DataError
from hwnas.foreign import shown

NO_CLASS = ""
# for messages; options and files have the short names
_WORDS = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderOptions:
    """What the user says about a folder instead of letting it be found out.

    Attributes:
        folders: part of PARTS -> its folder, as a path below the root; empty: found by their names.
        no_parts: every sub-folder is a class, whatever its name and whatever is in it.
        no_classes: images are taken wherever they lie; folders are no classes.
        skip_unreadable: leave out images that cannot be read instead of refusing the whole.
    """

    folders: Mapping[str, str] = field(default_factory=dict)
    no_parts: bool = False
    no_classes: bool = False
    skip_unreadable: bool = False


@dataclass(slots=True)
class Discovery:
    """The images of a folder, by part and class.

    Attributes:
        files: part of PARTS -> class -> its images, both sorted; without classes all of them under `NO_CLASS`.
        left_out: what is not used, and why.
        notes: what was taken for what, where it is not obvious.
        warnings: what may be a mistake.
    """

    files: dict[str, dict[str, list[Path]]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def discover(root: Path, *, source: str, options: FolderOptions) -> Discovery:
    """The images of a folder, by part and class.

    Args:
        root: the folder.
        source: the data source without options, for messages: `folder:photos`.
        options: what the user said about it.

    Raises:
        DataError: it cannot be told what are parts and what are classes (says what to write), there is no class,
            a class has no image, parts have different classes, or images are of kinds that cannot be read.
    """
    return _Discoverer(source=source, options=options).discover(read_tree(root))


class _Discoverer:
    def __init__(self, *, source: str, options: FolderOptions) -> None:
        self._source = source
        self._options = options
        self._found = Discovery()
        # by part, class and reason
        self._unused: dict[tuple[str, str, str], LeftOut] = {}
        self._unreadable: list[Odd] = []
        self._nested = 0
        self._by_content = 0

    def discover(self, root: Folder) -> Discovery:
        # what the user said comes before anything that is found out
        if self._options.folders:
            parts = self._named_parts(root)
        else:
            parts = {"train": root} if self._options.no_classes else self._parts(root)
        if self._options.no_classes:
            return self._unsorted(parts)
        classes = {part: self._classes(folder, part=part) for part, folder in parts.items()}
        # the training part decides the classes and their order, which is that of the labels
        names = tuple(classes["train"])
        for part, found in classes.items():
            if set(found) != set(names):
                raise self._different(parts, part, found, names)
            self._found.files[part] = {name: self._images(found[name], part=part, name=name) for name in names}
        # after all folders were seen, so that one message counts them all
        self._refuse_unreadable()
        self._tell_names(parts, names)
        self._found.left_out.extend(self._unused.values())
        return self._found

    def _unsorted(self, parts: Mapping[str, Folder]) -> Discovery:
        """All images of each part, whatever folder below it they lie in."""
        for part, folder in parts.items():
            if not folder.total:
                raise DataError(f"there is no image in {shown(folder.path)}; give images (PNG, JPEG, WebP, ...)")
            self._found.files[part] = {NO_CLASS: self._images(folder, part=part, name=NO_CLASS)}
        self._refuse_unreadable()
        self._nested = 0  # of no class, so nothing to tell
        self._tell_names(parts, ())
        self._found.left_out.extend(self._unused.values())
        return self._found

    # ------------------------------------------------------------ parts

    def _parts(self, node: Folder) -> dict[str, Folder]:
        """The folders of parts; the folder itself as `train` when its sub-folders are classes."""
        holding = node.holding
        if self._options.no_parts or not holding:
            return {"train": node}
        named = {folder.name: part_of(folder.name) for folder in holding}
        # a name alone is not enough: a class may be called "test"; a part has folders in it
        candidates = [folder for folder in holding if named[folder.name] and folder.holding]
        others = [folder for folder in holding if folder not in candidates]
        if any(_role(named[folder.name]) == "train" for folder in candidates):
            # beside a part of classes, what is named like a part is one too: images that nobody has labelled
            unsorted = [folder for folder in holding if _is_unsorted(folder, named[folder.name])]
            candidates = [folder for folder in candidates if folder not in unsorted]
            others = [folder for folder in others if folder not in unsorted]
            self._tell_unsorted(unsorted)
        if candidates and others:
            raise self._ask(
                node,
                f"{_list(candidates)} hold{'s' * (len(candidates) == 1)} folders, as parts of a data set do, but "
                f"{_list(others)} stand{'s' * (len(others) == 1)} beside",
                named,
            )
        if candidates:
            parts = self._roles(node, candidates, named)
            self._leave_others(node, list(parts.values()))
            return parts
        nested = [folder for folder in holding if not folder.own]
        # archives often unpack into a folder of their own
        if nested and len(holding) == 1:
            self._found.notes.append(f"the images are read from {shown(nested[0].path)}, the only folder with images")
            self._leave_others(node, nested)
            return self._parts(nested[0])
        if nested:
            raise self._ask(
                node, f"{_list(nested)} hold{'s' * (len(nested) == 1)} folders of images, not images", named
            )
        self._doubt_flat_parts(node, holding, named)
        return {"train": node}

    def _tell_unsorted(self, folders: Sequence[Folder]) -> None:
        """Tell of parts without classes, which are left out."""
        for folder in folders:
            self._found.warnings.append(
                f"the folder {shown(folder.name)!r} has no folders of classes, so its {folder.total:,} images have no "
                "labels: they are left out"
            )

    def _roles(
        self, node: Folder, candidates: Sequence[Folder], named: Mapping[str, PartName | None]
    ) -> dict[str, Folder]:
        roles: dict[str, list[Folder]] = {}
        for folder in candidates:
            found = named[folder.name]
            roles.setdefault(found.role if found else "", []).append(folder)
        # "eval" means either; where one of the two is there, it is the other
        if "eval" in roles and ("val" in roles) != ("test" in roles):
            roles["test" if "val" in roles else "val"] = roles.pop("eval")
        if "eval" in roles:
            raise self._ask(node, f"{_list(roles['eval'])} may be for validation or for the test", named)
        for part, folders in roles.items():
            if len(folders) > 1:
                raise self._ask(node, f"{_list(folders)} are both names for the {_WORDS[part]} images", named)
        if "train" not in roles:
            raise self._ask(node, f"there are {_list(candidates)}, but no folder of training images", named)
        return {part: roles[part][0] for part in PARTS if part in roles}

    def _doubt_flat_parts(self, node: Folder, holding: Sequence[Folder], named: Mapping[str, PartName | None]) -> None:
        """Ask when folders named like parts hold images themselves: they may be classes, or parts without classes."""
        like = {folder.name: found for folder in holding if (found := named[folder.name])}
        alone = {name: found.role for name, found in like.items() if found.alone}
        several = len({found.role for found in like.values()}) > 1
        # all folders named like parts, of several kinds: parts without classes, most likely
        all_like = bool(like) and len(like) == len(holding) and (several or len(alone) == len(like))
        if all_like or len(set(alone.values())) > 1:
            raise DataError(
                f"{_list(holding)} in {shown(node.path)} are named like parts of a data set, but hold images, not one "
                f"folder a class; sort their images into folders of classes. If these are the classes themselves, "
                f"write {self._source}?parts=none"
            )
        for name in alone:
            self._found.warnings.append(
                f"the folder {shown(name)!r} is taken as a class, because it holds images and not folders of them"
            )

    def _ask(self, node: Folder, doubt: str, named: Mapping[str, PartName | None]) -> DataError:
        proposed: dict[str, str] = {}
        for folder in node.holding:
            found = named.get(folder.name)
            if folder.holding and found and found.role not in proposed:
                proposed[found.role] = shown(folder.name)
        if "eval" in proposed:
            proposed.setdefault("test", proposed.pop("eval"))
        given = "&".join(
            f"{part}={proposed.get(part, 'FOLDER')}" for part in PARTS if part in proposed or part == "train"
        )
        return DataError(
            f"{shown(node.path)}: {doubt}. Say which folders are the parts, for example {self._source}?{given} "
            f"(what is not named is left out), or that all are classes: {self._source}?parts=none"
        )

    def _named_parts(self, root: Folder) -> dict[str, Folder]:
        """The folders the user named."""
        if "train" not in self._options.folders:
            raise DataError(f"name the folder of the training images too: {self._source}?train=FOLDER")
        parts = {p: folder_below(root, self._options.folders[p], option=p) for p in PARTS if p in self._options.folders}
        hold_apart(parts)
        self._leave_others(root, list(parts.values()))
        return parts

    # ------------------------------------------------------------ classes

    def _classes(self, folder: Folder, *, part: str) -> dict[str, Folder]:
        """The folders of a part's classes, by name."""
        # step into wrappers, as `_parts` does, but never into the only class
        while not self._options.no_parts and len(folder.holding) == 1 and not folder.holding[0].own:
            self._leave_others(folder, folder.holding, part=part)
            folder = folder.holding[0]
            self._found.notes.append(f"the {_WORDS[part]} images are read from {shown(folder.path)}")
        if not folder.folders:
            raise DataError(
                f"{shown(folder.path)} has no sub-folder; give one folder a class, with its images in it. For a "
                f'network of your own whose answers are the labels ([data] labels = "network"): '
                f"{self._source}?classes=none"
            )
        nested = [inner for inner in folder.holding if not inner.own and not _is_wrapper(inner)]
        if nested and not self._options.folders and not self._options.no_parts:
            raise DataError(
                f"{shown(folder.path)}: {_list(nested)} hold{'s' * (len(nested) == 1)} folders of images, not images. "
                f"If the folders beside it are the classes all the same, name the folders of the parts: "
                f"{self._source}?train=FOLDER&test=FOLDER"
            )
        classes: dict[str, Folder] = {}
        # all of them, not `holding`: an empty class is an error, not a class less
        for inner in folder.folders:
            if not inner.total:
                raise DataError(
                    f"the class {shown(inner.name)!r} has no image in {shown(inner.path)}; add images (PNG, JPEG, "
                    f"WebP, ...) or remove the folder"
                )
            try:
                name = class_name(inner.name)
            except DataError as e:
                raise DataError(f"the folder {shown(inner.path)}: {e}") from e
            if name in classes:
                raise DataError(f"two folders of {shown(folder.path)} have the same name, {name!r}; rename one")
            classes[name] = inner
        for path in folder.images:
            self._leave_out(path, "an image beside the folders of classes", part=part, image=True)
        for odd in folder.odd:
            self._leave_out(odd.path, odd.reason, part=part, count=odd.count, image=odd.image)
            if odd.link:  # it may have been a class
                self._unreadable.append(odd)
        return classes

    def _images(self, folder: Folder, *, part: str, name: str) -> list[Path]:
        images = list(folder.images)
        for inner in folder.walk():
            if inner is not folder and inner.images:
                self._nested += len(inner.images)
                images.extend(inner.images)
            self._by_content += inner.by_content
            for odd in inner.odd:
                self._leave_out(odd.path, odd.reason, part=part, name=name, count=odd.count, image=odd.image)
                if odd.image:
                    self._unreadable.append(odd)
        return sorted(images)

    # ------------------------------------------------------------ what is told

    def _leave_out(
        self, path: Path, reason: str, *, part: str, name: str = "", count: int = 1, image: bool = False
    ) -> None:
        # one line for all files of one reason: a list of thousands would hide the others
        key = (part, name, reason)
        before = self._unused.get(key)
        self._unused[key] = LeftOut(
            part=part,
            class_name=name,
            reason=reason,
            count=count + (before.count if before else 0),
            example=before.example if before else shown(path),
            image=image,
        )

    def _leave_others(self, node: Folder, used: Sequence[Folder], *, part: str = "") -> None:
        """Note everything of a folder that lies outside the folders used."""
        for odd in node.odd:
            self._leave_out(odd.path, odd.reason, part=part, count=odd.count, image=odd.image)
        for path in node.images:
            self._leave_out(path, "an image outside the folders of parts and classes", part=part, image=True)
        for inner in node.folders:
            if any(inner is folder for folder in used):
                continue
            if any(below is folder for below in inner.walk() for folder in used):
                self._leave_others(inner, used, part=part)
            elif inner.total:
                reason = f"in the folder {shown(inner.name)}, which is not used"
                self._leave_out(inner.path, reason, part=part, count=inner.total, image=True)
            else:
                self._leave_out(inner.path, "a folder without images", part=part)

    def _refuse_unreadable(self) -> None:
        if self._unreadable and not self._options.skip_unreadable:
            reasons = Counter(odd.reason for odd in self._unreadable)
            listed = ", ".join(f"{n:,} × {reason}" for reason, n in reasons.most_common(4))
            raise DataError(
                f"{len(self._unreadable):,} of the files cannot be used: {listed} (the first: "
                f"{shown(self._unreadable[0].path)}). Convert, repair or remove them, or leave them out: "
                f"{self._source}?unreadable=skip"
            )

    def _different(
        self, parts: Mapping[str, Folder], part: str, found: Mapping[str, Folder], names: Sequence[str]
    ) -> DataError:
        # in one of the two only, whichever it is
        odd = sorted(set(found) ^ set(names))
        without = "&".join(f"{other}={shown(folder.name)}" for other, folder in parts.items() if other != part)
        return DataError(
            f"{shown(parts[part].path)} and {shown(parts['train'].path)} have different classes: {', '.join(odd[:8])} "
            f"{'are' if len(odd) > 1 else 'is'} in one only. Give both the same, or leave the {_WORDS[part]} "
            f"images out: {self._source}?{without}"
        )

    def _tell_names(self, parts: Mapping[str, Folder], names: Sequence[str]) -> None:
        notes = self._found.notes
        if len(parts) > 1 or self._options.folders:
            told = ", ".join(f"{_WORDS[part]} images from {shown(folder.path)}" for part, folder in parts.items())
            notes.append(f"parts of the data set: {told}")
        if self._nested:
            notes.append(f"{self._nested:,} images lie in sub-folders of their class")
        if self._by_content:
            notes.append(f"{self._by_content:,} files without an image's ending are images, and used")
        folded: dict[str, list[str]] = {}
        for name in names:
            folded.setdefault(name.casefold(), []).append(name)
        for alike in folded.values():
            if len(alike) > 1:
                self._found.warnings.append(f"the classes {' and '.join(alike)} differ by upper and lower case only")


def _role(name: PartName | None) -> str:
    return name.role if name else ""


def _is_unsorted(folder: Folder, name: PartName | None) -> bool:
    """A part by its name whose images lie in no folder of a class: in it, or in one that says no more than it does."""
    if name is None or name.role == "train" or not (name.alone or folder.holding):
        return False
    if name.role == "unlabelled":
        return True
    while len(folder.holding) == 1 and not folder.own:
        (inner,) = folder.holding
        if _role(part_of(inner.name)) != name.role and not says_nothing(inner.name):
            return False
        folder = inner
    return not folder.holding


def _is_wrapper(folder: Folder) -> bool:
    """A folder that holds one folder of images, whose name says nothing: `n01443537/images`."""
    return len(folder.holding) == 1 and bool(folder.holding[0].own) and says_nothing(folder.holding[0].name)


def folder_below(root: Folder, path: str, *, option: str) -> Folder:
    """The folder at a path below another."""
    pure = PurePath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise DataError(f"the option {option} is {shown(path)!r}, but must be a folder below {shown(root.path)}")
    folder = root
    for name in pure.parts:
        found = next((inner for inner in folder.folders if inner.name == name), None)
        if found is None:
            held = ", ".join(shown(inner.name) for inner in folder.folders[:8]) or "no folder"
            raise DataError(f"{shown(folder.path)} has no folder {shown(name)!r} (option {option}); it holds {held}")
        folder = found
    return folder


def hold_apart(parts: Mapping[str, Folder]) -> None:
    """Hold that no part's folder lies in another's, where images would be in two parts.

    Raises:
        DataError: one does: what is measured on such images would be too good.
    """
    for part, folder in parts.items():
        for other, also in parts.items():
            if part != other and any(inner is also for inner in folder.walk()):
                raise DataError(f"the folder of the {_WORDS[other]} images lies in that of the {_WORDS[part]} images")


def _list(folders: Sequence[Folder]) -> str:
    """Up to five names, quoted."""
    names = [repr(shown(folder.name)) for folder in folders[:5]]
    if len(folders) > 5:
        return ", ".join(names) + f" and {len(folders) - 5} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
