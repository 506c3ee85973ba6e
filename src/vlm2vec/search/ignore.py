"""Which files and folders does nobody want to find, though they lie in the folder?

Patterns are those of .gitignore files, and mean the same (`tests/search/test_ignore.py` compares them with git's own).
A later pattern goes before an earlier one, and those of a nearer folder before those of a farther one; those that were
given for the whole index go before all files, and the folders that are left out by default come last. What lies in a
folder that is left out is left out with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

from vlm2vec.errors import IndexFolderError, InputError
from vlm2vec.files import reason, write_atomically, writing

IGNORE_FILE = ".vlm2vecignore"
"""Holds patterns for the folder it lies in, and for those inside."""

REMEMBERED = "exclude"
"""The file in an index that holds the patterns which were given for all of it, as .git/info/exclude does."""
_HEAD = "# What is left out of this index; written as in .gitignore files. You may change it.\n"

# Their pictures are made by programs, from files that are elsewhere or from nothing that a person has made. In lower
# case; hidden folders are left out anyway.
_FOLDERS = frozenset({
    # Packages and what is made of program text.
    "node_modules", "bower_components", "site-packages", "dist-packages", "__pycache__",
    # Caches of programs: browsers, editors, phones.
    "cache", "caches", "gpucache", "code cache", "cacheddata", "cachestorage", "shadercache",
    # Small copies of pictures: of desktops, of network drives, of programs for photographs, of phones.
    "thumbnails", "thumbs", "@eadir", "ipod photo cache", "_thumbs",
    # What was deleted, and what systems and archives keep beside the files.
    "$recycle.bin", "#recycle", "system volume information", "lost+found", "__macosx",
})  # fmt: skip
_FOLDER_ENDINGS = (".lrdata", ".photoslibrary/resources/derivatives", ".photoslibrary/resources/caches")
# Programs put a file of this name and this beginning into their caches: https://bford.info/cachedir
_TAG, _SIGNATURE = "CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55"

_CLASSES = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "blank": " \t", "cntrl": r"\x00-\x1f\x7f", "digit": "0-9",
    "graph": "!-~", "lower": "a-z", "print": " -~", "punct": r"!-/:-@\[-`{-~", "space": r"\s", "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pattern:
    """A line of an ignore file.

    Args:
        regex: of the path from the folder of the file, or of the name alone.
        of_name: whether it is for names, in whatever folder.
        of_folders: whether it is for folders alone.
        excludes: False: it brings back what an earlier one leaves out.
    """

    regex: re.Pattern[str]
    of_name: bool
    of_folders: bool
    excludes: bool

    @classmethod
    def parse(cls, line: str) -> Self | None:
        """The pattern of a line; None of an empty one and of a comment.

        Raises:
            InputError: it can match nothing.
        """
        # An escaped space at the end stays.
        text = re.sub(r"(?<!\\)((?:\\\\)*) +$", r"\1", line.removesuffix("\n").removesuffix("\r"))
        if not text or text.startswith("#"):
            return None
        body = text.removeprefix("!")
        of_folders = body.endswith("/")
        body = body.removesuffix("/")
        of_name = "/" not in body
        try:
            regex = re.compile(_regex_of(body.removeprefix("/"), of_name=of_name), re.DOTALL)
        except (ValueError, re.error):
            raise InputError(
                f"{text!r} is no pattern of files: write it as for git, such as '*.tmp', 'drafts/' or '!kept.png'"
            ) from None
        return cls(regex, of_name, of_folders, not text.startswith("!"))


class _Rules(NamedTuple):
    """The patterns of one place, for all that lies in a folder; `base` is its path with a "/" at its end, or ""."""

    base: str
    patterns: tuple[Pattern, ...]

    def excludes(self, path: str, *, is_folder: bool) -> bool | None:
        """None if no pattern is of this path."""
        inside, name = path[len(self.base) :], path[path.rfind("/") + 1 :]
        for pattern in reversed(self.patterns):
            of_this_kind = is_folder or not pattern.of_folders
            if of_this_kind and pattern.regex.fullmatch(name if pattern.of_name else inside):
                return pattern.excludes
        return None


@dataclass(frozen=True, slots=True)
class Exclusion:
    """What is left out at one place of a folder.

    Args:
        folder: that is searched.
        given: patterns that go before all files.
        files: those of the ignore files on the way to the place.
    """

    folder: Path
    given: _Rules
    files: tuple[_Rules, ...] = ()
    problems: list[tuple[str, str]] = field(default_factory=list)
    """Path and reason of each ignore file with a line that can match nothing; of all places."""
    _known: dict[str, Exclusion] = field(default_factory=dict)
    """Those of folders that were asked for before, by their paths."""

    @classmethod
    def of(cls, folder: Path, patterns: Iterable[str] = ()) -> Self:
        """That of the whole folder.

        Raises:
            InputError: one of the patterns can match nothing.
        """
        return cls(folder, _Rules("", tuple(one for line in patterns if (one := Pattern.parse(line)))))

    def inside(self, prefix: str) -> Exclusion:
        """That of a folder one step further; `prefix` is its path with a "/" at its end, or "" for the first step.

        Raises:
            OSError: it has an ignore file that cannot be read. Nobody knows then what shall be left out.
        """
        try:
            # A file name need not be text.
            text = (self.folder / prefix / IGNORE_FILE).read_text("utf-8-sig", "surrogateescape")
        except (FileNotFoundError, NotADirectoryError):
            return self
        except OSError as error:
            raise type(error)(error.errno, f"{IGNORE_FILE}: {error.strerror}", error.filename) from error
        patterns = []
        for number, line in enumerate(text.split("\n"), start=1):
            try:
                patterns.append(Pattern.parse(line))
            except InputError as error:
                self.problems.append((prefix + IGNORE_FILE, f"line {number}: {error.message}"))
        rules = _Rules(prefix, tuple(filter(None, patterns)))
        return Exclusion(self.folder, self.given, (*self.files, rules), self.problems, self._known)

    def below(self, path: str) -> Exclusion | None:
        """That of the folder in which a path lies; None if the path lies in a folder that is left out.

        Raises:
            OSError: as `inside`.
        """
        here = self._inside_once("")
        for prefix in _folders_of(path):
            if here.excludes(prefix.removesuffix("/"), is_folder=True):
                return None
            here = here._inside_once(prefix)
        return here

    def excludes(self, path: str, *, is_folder: bool) -> bool:
        """Whether a file or folder of this place is left out.

        Args:
            path: from the folder that is searched, with "/" between its parts.
        """
        for rules in (self.given, *reversed(self.files)):
            if rules.patterns and (verdict := rules.excludes(path, is_folder=is_folder)) is not None:
                return verdict
        if not is_folder:
            return False
        lower = path.lower()
        return lower[lower.rfind("/") + 1 :] in _FOLDERS or lower.endswith(_FOLDER_ENDINGS) or self._is_cache(path)

    def _inside_once(self, prefix: str) -> Exclusion:
        """As `inside`, but for many files of one folder its ignore file is read once."""
        if prefix not in self._known:
            self._known[prefix] = self.inside(prefix)
        return self._known[prefix]

    def _is_cache(self, path: str) -> bool:
        try:
            with (self.folder / path / _TAG).open("rb") as stream:
                return stream.read(len(_SIGNATURE)) == _SIGNATURE
        except OSError:
            return False


def check_patterns(patterns: Iterable[str]) -> tuple[str, ...]:
    """The patterns as they are.

    Raises:
        InputError: one of them is none.
    """
    if isinstance(patterns, str):
        raise InputError(f"one pattern {patterns!r} is given where several are expected: put it into a list")
    patterns = tuple(patterns)
    for pattern in patterns:
        if "\n" in pattern or Pattern.parse(pattern) is None:
            raise InputError(f"{pattern!r} is no pattern of files, but an empty line, a comment, or several lines")
    return patterns


def read_patterns(place: Path) -> list[str]:
    """The lines that the index in a folder remembers; none if it remembers nothing.

    Raises:
        IndexFolderError: they cannot be read.
        InputError: one of them is no pattern.
    """
    path = place / REMEMBERED
    try:
        lines = path.read_text("utf-8-sig", "surrogateescape").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise IndexFolderError(f"cannot read {path}: {reason(error)}", "other_index") from error
    for number, line in enumerate(lines, start=1):
        try:
            Pattern.parse(line)
        except InputError as error:
            raise error.of(f"{path}, line {number}") from None
    return lines


def with_patterns(lines: Sequence[str], given: Sequence[str]) -> list[str]:
    """The remembered lines, and after them what is given now, which goes before all of them."""
    return [line for line in lines if line not in given] + list(dict.fromkeys(given))


def write_patterns(place: Path, lines: Sequence[str]) -> None:
    """Let the index in a folder remember these lines.

    Raises:
        StorageError: they cannot be written.
    """
    path = place / REMEMBERED
    text = "".join(f"{line}\n" for line in lines)
    with writing(path, "other_index"):
        write_atomically(path, (text if text.startswith("#") else _HEAD + text).encode("utf-8", "surrogateescape"))


def _folders_of(path: str) -> Iterator[str]:
    """The folders on the way to a path: "a/", "a/b/" of "a/b/c.png"."""
    at = path.find("/")
    while at >= 0:
        yield path[: at + 1]
        at = path.find("/", at + 1)


def _regex_of(body: str, *, of_name: bool) -> str:
    """A regular expression for all of a path, or of a name. Raises ValueError if the pattern can match nothing."""
    if not body:
        raise ValueError("the pattern is empty")
    regex, at = "", 0
    while at < len(body):
        letter = body[at]
        if letter == "*":
            stars_regex, at = _regex_of_stars(body, at, of_name=of_name)
            # What comes after one star must not be tried from more places than there are letters.
            regex += "" if regex.endswith(stars_regex) else stars_regex
        elif letter == "[":
            class_regex, at = _regex_of_class(body, at + 1)
            regex += f"(?!/){class_regex}"
        elif letter == "?":
            regex, at = regex + "[^/]", at + 1
        else:
            letter, at = _member(body, at)
            regex += re.escape(letter)
    return regex


def _regex_of_stars(body: str, at: int, *, of_name: bool) -> tuple[str, int]:
    """A regular expression for one star or for several, of which the first stands at `at`, and the place after them."""
    end = at
    while body[end : end + 1] == "*":
        end += 1
    is_whole_part = body[at - 1 : at] in ("", "/") and body[end : end + 1] in ("", "/")
    if end == at + 1 or not is_whole_part or of_name:
        return "[^/]*", end
    # At the end all that is inside, before that any number of folders.
    return (".+", end) if end == len(body) else ("(?:.+/)?", end + 1)


def _regex_of_class(part: str, at: int) -> tuple[str, int]:
    """A regular expression for "[...]", whose first letter stands at `at`, and the place after it."""
    negated = part[at : at + 1] in ("!", "^")
    at = begin = at + negated
    members = ""
    while (letter := part[at : at + 1] or _nothing()) != "]" or at == begin:
        if letter == "[" and part[at + 1 : at + 2] == ":" and (end := part.find(":]", at + 2)) >= 0:
            members += _CLASSES.get(part[at + 2 : end]) or _nothing()
            at = end + 2
            continue
        first, at = _member(part, at)
        if part[at : at + 1] == "-" and part[at + 1 : at + 2] not in ("", "]"):
            last, at = _member(part, at + 1)
            # From a later letter to an earlier one, git has the first alone.
            members += f"{re.escape(first)}-{re.escape(last)}" if first <= last else re.escape(first)
        else:
            members += re.escape(first)
    return f"[{'^' if negated else ''}{members}]", at + 1


def _member(part: str, at: int) -> tuple[str, int]:
    """A letter, perhaps after a backslash, and the place after it."""
    at += part[at] == "\\"
    return part[at : at + 1] or _nothing(), at + 1


def _nothing() -> str:
    raise ValueError("the pattern is not complete")
