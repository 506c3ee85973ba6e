"""What an index promises when its files are damaged: right results or one clear error, and a way out."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support.cli_runs import Result
from support.index_folders import paths_of
from vlm2vec.errors import IndexFolderError
from vlm2vec.model.embedder import Embedder
from vlm2vec.search.index import Hit, Index
from vlm2vec.search.rows import Row
from vlm2vec.search.seal import write_sealed

QUERY = np.full(64, 0.125, np.float32)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, own: Embedder) -> Path:
    """A folder whose index has seen rows come, go and change, so that it has files of every kind."""
    folder = tmp_path_factory.mktemp("sound")
    index = Index.create(folder, embedder=own)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [
        Row(f"{n}.png", "image", None, None, 1, f"h{n}", 1, 1, vector, ctime_ns=1, inode=n)
        for n, vector in enumerate(vectors)
    ]
    index.table.replace([], rows[:4])
    index.table.replace(["1.png"], rows[4:])
    index.table.mark_outdated(["2.png"])
    write_sealed(index.path / "units.lance" / "failures.json", {"decoding": 2, "failures": {}})
    return folder


@pytest.fixture
def copy(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "copy"))


def _hits(folder: Path) -> list[Hit]:
    return Index.open(folder).search(QUERY, 10)


def _files(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in (folder / ".vlm2vec").rglob("*") if path.is_file())


def _flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)


def _cut(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(max(1, path.stat().st_size)))


def _empty(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def _blank(path: Path, rng: random.Random) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _delete(path: Path, rng: random.Random) -> None:
    path.unlink()


def _become_a_folder(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = [_flip, _cut, _empty, _blank, _delete, _become_a_folder]


def _outcome(folder: Path, expected: list[Hit]) -> str:
    try:
        return "right" if _hits(folder) == expected else "other results"
    except IndexFolderError as error:
        ways_out = ("'vlm2vec index FOLDER --rebuild' makes it anew", "'vlm2vec index FOLDER' makes one")
        return "told" if str(error).endswith(ways_out) else f"no way out: {error}"


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__.strip("_"))
def test_any_file_of_an_index_may_be_damaged_in_any_way_and_the_index_is_made_anew(
    sound: Path, tmp_path: Path, own: Embedder, damage: Callable[[Path, random.Random], None]
) -> None:
    expected = _hits(sound)
    rng = random.Random(damage.__name__)
    for number, name in enumerate(_files(sound)):
        folder = Path(shutil.copytree(sound, tmp_path / str(number)))
        damage(folder / name, rng)
        assert (name, _outcome(folder, expected)) in [(name, "right"), (name, "told")]
        Index.create(folder, embedder=own)
        assert _hits(folder) == []


def test_a_byte_that_changes_in_silence_never_gives_other_results(copy: Path) -> None:
    _damage_bytes(copy, 100)


@pytest.mark.torture
def test_of_five_hundred_bytes_that_change_in_silence_none_gives_other_results(copy: Path) -> None:
    _damage_bytes(copy, 500)


def _damage_bytes(folder: Path, times: int) -> None:
    expected = _hits(folder)
    rng = random.Random(times)
    files = [folder / name for name in _files(folder) if "units.lance" in name.parts]
    outcomes: Counter[str] = Counter()
    for _ in range(times):
        path = rng.choice(files)
        content = path.read_bytes()
        at = rng.randrange(len(content))
        with path.open("r+b") as stream:
            stream.seek(at)
            stream.write(bytes([content[at] ^ rng.randrange(1, 256)]))
        outcomes[_outcome(folder, expected)] += 1
        path.write_bytes(content)
    assert outcomes.keys() == {"right", "told"}
    assert _hits(folder) == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("format", value) for value in (None, 0, -1, 1.5, "1", [], 99)),
        *(("model", value) for value in (None, 3, "", "other", [])),
        *(("fingerprint", value) for value in (None, 3, "", "0" * 32)),
        *(("dim", value) for value in (None, "64", -1, 0, 63, True, 64.0, 10**30, [64])),
        *(("dtype", value) for value in (3, "", "float8", [])),
        *(("folder", value) for value in (None, 3, "\0", "a" * 5000, "/nowhere")),
        *(("decoding", value) for value in (None, 0, -1, "2", True, [])),
        *(("checksum", value) for value in (None, "", 3)),
    ],
)
def test_an_index_json_of_absurd_values_is_told_and_made_anew(
    copy: Path, own: Embedder, key: str, value: object
) -> None:
    path = copy / ".vlm2vec" / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(IndexFolderError, match=r"'vlm2vec index FOLDER --rebuild' makes it anew$"):
        _hits(copy)
    assert paths_of(Index.create(copy, embedder=own)) == []


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe{", b"[" * 100_000, b"9" * 5000, b"{}" + b" " * (1 << 20), b"null", b'"text"', b"\xef\xbb\xbf", b"NaN"],
    ids=lambda content: f"{content[:4]!r}",
)
def test_an_index_json_that_is_none_is_told_and_made_anew(copy: Path, own: Embedder, content: bytes) -> None:
    (copy / ".vlm2vec" / "index.json").write_bytes(content)
    with pytest.raises(IndexFolderError, match=r"'vlm2vec index FOLDER --rebuild' makes it anew$"):
        _hits(copy)
    assert paths_of(Index.create(copy, embedder=own)) == []


@pytest.mark.parametrize("name", ["units.lance", "units.lance/data", "units.lance/_versions"])
def test_a_file_where_a_folder_should_be_is_told_and_the_index_is_made_anew(
    copy: Path, own: Embedder, name: str
) -> None:
    path = copy / ".vlm2vec" / name
    shutil.rmtree(path)
    path.write_bytes(b"x")
    with pytest.raises(IndexFolderError, match=r"'vlm2vec index FOLDER --rebuild' makes it anew$"):
        _hits(copy)
    assert paths_of(Index.create(copy, embedder=own)) == []


@pytest.mark.parametrize("content", [b"", b"{{", b"\0" * 200, b'{"format": 1, "model": "bun'])
def test_an_index_of_which_a_damaged_index_json_alone_is_left_is_made_anew(
    copy: Path, own: Embedder, content: bytes
) -> None:
    shutil.rmtree(copy / ".vlm2vec")
    (copy / ".vlm2vec").mkdir()
    (copy / ".vlm2vec" / "index.json").write_bytes(content)
    with pytest.raises(IndexFolderError, match=r"'vlm2vec index FOLDER --rebuild' makes it anew$"):
        Index.open(copy)
    assert paths_of(Index.create(copy, embedder=own)) == []
    other = copy / "other"
    other.mkdir()
    (other / "index.json").write_bytes(content)
    with pytest.raises(IndexFolderError, match="holds other things than an index"):
        Index.create(copy, embedder=own, path=other)


@pytest.mark.parametrize("target", ["nowhere/lock", "lock"])
def test_a_lock_that_is_a_link_to_nowhere_does_not_keep_an_index_from_being_made_anew(
    copy: Path, own: Embedder, target: str
) -> None:
    lock = copy / ".vlm2vec" / "lock"
    lock.unlink(missing_ok=True)
    lock.symlink_to(target)
    assert paths_of(Index.create(copy, embedder=own)) == []


def test_a_file_in_the_place_of_the_index_is_kept_unless_it_is_empty(tmp_path: Path, own: Embedder) -> None:
    place = tmp_path / ".vlm2vec"
    place.write_text("settings of mine")
    with pytest.raises(IndexFolderError, match="it is a file; move it away, or give a folder with --index"):
        Index.create(tmp_path, embedder=own)
    assert place.read_text() == "settings of mine"
    place.write_bytes(b"")
    assert paths_of(Index.create(tmp_path, embedder=own)) == []


def test_damage_that_lance_dies_of_is_one_error(copy: Path) -> None:
    class PanicException(BaseException):
        """As the libraries written in Rust raise it."""

    from vlm2vec.search.explaining import explained

    with (
        pytest.raises(IndexFolderError, match="cannot write the index x: a bug; if it is damaged"),
        explained(Path("x"), "write"),
    ):
        raise PanicException("a bug")
    with pytest.raises(KeyboardInterrupt), explained(Path("x"), "write"):
        raise KeyboardInterrupt


def test_an_older_version_does_not_take_the_place_of_a_lost_one(copy: Path) -> None:
    newest = min((copy / ".vlm2vec" / "units.lance" / "_versions").glob("*.manifest"))
    newest.unlink()
    with pytest.raises(IndexFolderError, match=f"its file _versions/{newest.name} is missing"):
        _hits(copy)


def test_a_writer_that_was_killed_before_it_wrote_its_checksums_leaves_a_sound_index(copy: Path) -> None:
    checksums = copy / ".vlm2vec" / "units.lance" / "checksums.json"
    before = checksums.read_bytes()
    index = Index.open(copy)
    index.table.replace(["0.png"], [])
    after = _hits(copy)
    checksums.write_bytes(before)
    assert _hits(copy) == after
    (Index.open(copy).table).tidy()
    data = next((copy / ".vlm2vec" / "units.lance" / "data").iterdir())
    data.write_bytes(data.read_bytes()[:-1] + b"x")
    with pytest.raises(IndexFolderError, match="is not as it was written"):
        _hits(copy)


def test_files_are_read_once_after_a_copy(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vlm2vec.search import seal

    for path in (copy / ".vlm2vec").rglob("*"):
        os.utime(path)
    hashed: list[str] = []
    hash_file = seal._hash

    def counted(path: Path) -> str:
        hashed.append(path.suffix)
        return hash_file(path)

    monkeypatch.setattr(seal, "_hash", counted)
    monkeypatch.setattr(seal, "_TICK_NS", 0)
    Index.open(copy)
    assert ".lance" in hashed
    hashed.clear()
    Index.open(copy)
    assert hashed == []


# vlm2vec doctor FOLDER


def test_doctor_reads_all_of_a_sound_index(copy: Path) -> None:
    result = Result("doctor", copy, "--json")
    report = json.loads(result.out)
    values = {finding["name"]: finding["value"] for finding in report["findings"]}
    assert (result.code, report["ok"]) == (0, True)
    assert values.pop("model").endswith("golden/model")
    assert values == {
        "index": str(copy / ".vlm2vec"),
        "vectors": "5 of 5 files",
        "checksums": f"{len(json.loads((copy / '.vlm2vec/units.lance/checksums.json').read_text())['files'])} hold",
        "files not read": "0",
    }


def test_doctor_names_every_damaged_file_even_one_that_looks_as_it_was(copy: Path) -> None:
    # All files were read after the copy, and their looks written down.
    _hits(copy)
    checksums = copy / ".vlm2vec" / "units.lance" / "checksums.json"
    value = json.loads(checksums.read_text())
    del value["checksum"]
    names = sorted(name for name in value["files"] if name.startswith("data/"))
    for name in names:
        path = checksums.parent / name
        path.write_bytes(bytes(path.stat().st_size))
        status = path.stat()
        value["files"][name][1:] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    # As if the disk had changed the bytes and no program.
    value["written_ns"] = 2**62
    write_sealed(checksums, value)
    result = Result("doctor", copy)
    assert result.code == 1
    lines = [line for line in result.out.splitlines() if line.startswith("x damage")]
    assert [line.split(maxsplit=2)[2] for line in lines] == [
        f"its file {name} is not as it was written" for name in value["files"] if name in names
    ]
    assert result.out.endswith("damage: 'vlm2vec index FOLDER --rebuild' makes the index anew\n")


def test_doctor_says_how_to_make_an_index_where_none_is(tmp_path: Path) -> None:
    result = Result("doctor", tmp_path)
    assert (result.code, result.err) == (1, "")
    message = f"there is no index at {tmp_path / '.vlm2vec'}; 'vlm2vec index FOLDER' makes one"
    assert result.out.splitlines()[-1] == f"state: {message}"
    missing = Result("doctor", tmp_path / "missing")
    assert (missing.code, missing.err[:21]) == (2, "error: there is no fo")
