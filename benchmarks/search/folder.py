"""Which folder is searched? Builds it once under work/: manuals, photographs, films, web pages, texts, slides.

    python benchmarks/search/folder.py       prints how many files it has, and their digest

All but the made files (`made.py`) and samples/ come from pinned packages of Debian and PyPI, 17 MB besides the
photographs of recipes/default. The files are the same, byte by byte, wherever they are built.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent / "speed"), str(ROOT / "recipes" / "default")]

from made import made_files  # noqa: E402
from size import TOY  # noqa: E402

WORK = HERE / "work"
FOLDER = WORK / "corpus"
QUESTIONS = HERE / "questions"
TOY_DRAWINGS = 4


class Photograph(NamedTuple):
    """A photograph with its caption: the file it is copied from, and its path in the folder."""

    source: Path
    path: str
    caption: str


def build() -> Path:
    """The whole folder; it is built if there is none."""
    if not FOLDER.exists():
        from fetch import PHOTOGRAPHS, UNPACKED, bring
        from packages import fetch, read_packages

        bring(*yaml.safe_load(PHOTOGRAPHS.read_text("utf-8")))
        fetch(read_packages(HERE / "packages.yaml"), UNPACKED)
        partial = FOLDER.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        write(partial, _all_files())
        partial.rename(FOLDER)
    return FOLDER


def build_toy(folder: Path) -> Path:
    """A folder of a few made files and drawings, without any package."""
    drawings = sorted((ROOT / "samples" / "drawings").iterdir())[:TOY_DRAWINGS]
    made = dict(list(made_files().items())[::12])
    write(folder, made | {f"Drawings/{path.name}": path.read_bytes() for path in drawings})
    return folder


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put files into a folder, each at its path."""
    for path, content in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


def digest(folder: Path) -> str:
    """SHA-256 of the paths and contents of all files but those of an index."""
    total = hashlib.sha256()
    for path in files_of(folder):
        total.update(f"{path}\0".encode() + hashlib.sha256((folder / path).read_bytes()).digest())
    return total.hexdigest()


def files_of(folder: Path) -> list[str]:
    """Paths of all files but those of an index, sorted."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if path.parts[0] != ".vlm2vec")


def photographs() -> list[Photograph]:
    """All of recipes/default/photographs.yaml and questions/photographs.yaml, in their order.

    Half of them, by md5, are called as a camera would: their names do not tell what they show.
    """
    from fetch import RECIPE, UNPACKED

    found = []
    for catalogue in (RECIPE / "photographs.yaml", QUESTIONS / "photographs.yaml"):
        for package, entry in yaml.safe_load(catalogue.read_text("utf-8")).items():
            for file, caption in entry["captions"].items():
                source = UNPACKED / package / entry["folder"] / file
                # A wallpaper's name is that of its folder: its file is called by its size.
                name = file.partition("/contents/")[0] + source.suffix if "/contents/" in file else source.name
                found.append(Photograph(source, _photograph_path(f"{package}/{name}", name), caption))
    return found


def _photograph_path(key: str, name: str) -> str:
    number = int(hashlib.md5(key.encode()).hexdigest(), 16)
    is_named = number % 2 == 0
    return f"Pictures/{name}" if is_named else f"Pictures/{2019 + number % 6}/IMG_{number % 9000 + 1000}{name[-4:]}"


def _all_files() -> dict[str, bytes]:
    pairs = [*_manuals(), *_web_pages(), *_texts(), *_samples(), *made_files().items()]
    pairs += [(one.path, one.source.read_bytes()) for one in photographs()]
    files = dict(sorted(pairs))
    if len(files) != len(pairs):
        raise SystemExit("two files of the corpus have the same path")
    return files


def _manuals() -> Iterator[tuple[str, bytes]]:
    """PDFs: 266 pages on a game, Debian, physics experiments, another game."""
    for name, package, file in (
        ("Angband manual", "angband", "angband/manual.pdf.gz"),
        ("Debian FAQ", "debian-faq", "debian/FAQ/debian-faq.en.pdf.gz"),
        ("ExpEYES17 experiments", "eyes17-manuals-en", "eyes17/en/eyes17.pdf.gz"),
        ("StarTrek_game", "bsdgames", "bsdgames/trek.pdf"),
    ):
        yield f"Manuals/{name}.pdf", _unzipped(_doc(package) / file)


def _web_pages() -> Iterator[tuple[str, bytes]]:
    """HTML on ear training, Go by computer and power supplies, named by file or title."""
    for path in sorted((_doc("solfege-doc") / "solfege/help/C").glob("*.html")):
        if path.stem not in ("gpl", "index", "ch04s02"):
            yield f"Web/Solfege/{path.name}", path.read_bytes()
    for path in sorted((_doc("gnugo") / "gnugo/html").glob("gnugo_[0-9]*.html")):
        page = path.read_bytes()
        title = re.search(rb"<title>GNU Go Documentation: (?:\d+|[A-Z])\. (.*?)</title>", page)
        if title:
            yield f"Web/Go/{re.sub('[^A-Za-z0-9]+', '_', title[1].decode()).strip('_')}.html", page
    yield "Web/apcupsd_user_manual.html", (_doc("apcupsd-doc") / "apcupsd/manual/manual.html").read_bytes()


def _texts() -> Iterator[tuple[str, bytes]]:
    """Plain text and Markdown: guides, papers of 1776, sayings, and a note on each of many places, skills and gods."""
    from fetch import UNPACKED

    crawl, sayings = UNPACKED / "crawl-common/usr/share/crawl", UNPACKED / "fortunes/usr/share/games/fortunes"
    for name in ("crawl_manual", "macros_guide", "ssh_guide", "fight_simulator", "arena", "tiles_help"):
        yield f"Guides/{name}.txt", (crawl / "docs" / f"{name}.txt").read_bytes()
    yield "Guides/quickstart.md", (crawl / "docs/quickstart.md").read_bytes()
    yield "Guides/NetHack Guidebook.txt", _unzipped(_doc("nethack-common") / "nethack-common/Guidebook.txt.gz")
    for name in ("declaration", "constitution"):
        yield f"History/us-{name}.txt", _unzipped(UNPACKED / f"miscfiles/usr/share/state/us-{name}.gz")
    for topic in ("art", "education", "food", "law", "medicine", "news", "pets", "science", "sports"):
        yield f"Sayings/SayingsAbout{topic.title()}.txt", (sayings / topic).read_bytes()
    for topic in ("branches", "skills", "gods"):
        text = (crawl / "dat/descript" / f"{topic}.txt").read_text("utf-8")
        for entry in re.split(r"^%{4,}$", text, flags=re.MULTILINE):
            title, _, body = entry.strip().partition("\n")
            if len(body.split()) >= 25 and re.fullmatch(r"(?!.*(powers|wrath)$)[\w ]+", title):
                yield f"Notes/{topic}/{title}.txt", f"{title}\n\n{body.strip()}\n".encode()


def _samples() -> Iterator[tuple[str, bytes]]:
    """All samples but the photographs, which are among those of scikit-image."""
    for name, title in (("drawings", "Drawings"), ("objects", "Objects"), ("clips", "Films"), ("documents", "Samples")):
        for path in sorted((ROOT / "samples" / name).iterdir()):
            yield f"{title}/{path.name}", path.read_bytes()


def _doc(package: str) -> Path:
    from fetch import UNPACKED

    return UNPACKED / package / "usr/share/doc"


def _unzipped(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = build_toy(Path(scratch)) if TOY else build()
        print(len(files_of(folder)), "files", digest(folder))


if __name__ == "__main__":
    main()
