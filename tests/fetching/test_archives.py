"""Only wanted members of an archive come to their places, whole, and none leads out of the folder."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

import pytest

from support.hub_server import write_tar
from support.places import SUPPORT
from vlm2vec.errors import DataError
from vlm2vec.fetching.archives import STAGING, Unpacked, unpack


def _unpack(parts: Sequence[Path], root: Path, *wanted: str) -> Unpacked:
    return unpack(parts, root, "media", lambda inner: f"media/{inner.removeprefix('top/')}", wanted)


def _files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def _tar_of(path: Path, *infos: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as archive:
        for info in infos:
            archive.addfile(info, io.BytesIO(b"x" * info.size))
    return path


def _info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, 1 if kind == tarfile.REGTYPE else 0
    return info


def test_only_wanted_files_and_folders_are_unpacked(tmp_path: Path) -> None:
    members = {"top/a/1.png": b"a1", "top/a/b/2.png": b"ab2", "top/ab/3.png": b"no", "./top/c.png": b"c", "d.png": b"d"}
    write_tar(tmp_path / "x.tar.gz", members)
    seen: list[int] = []
    wanted = ["media/a", "media/c.png", "media/none"]
    archive = tmp_path / "x.tar.gz"
    outcome = unpack(
        [archive], tmp_path / "root", "media", lambda p: f"media/{p.removeprefix('top/')}", wanted, seen.append
    )
    assert _files(tmp_path / "root") == {"media/a/1.png": b"a1", "media/a/b/2.png": b"ab2", "media/c.png": b"c"}
    assert outcome.written == 3
    assert outcome.absent == ("media/none",)
    assert outcome.holds == ("", "top", "top/a", "top/a/b", "top/ab")
    assert sum(seen) == archive.stat().st_size


@pytest.mark.parametrize("form", ["parts", "archives joined", "no gzip", "zip"])
def test_every_form_of_archive_is_read(form: str, tmp_path: Path) -> None:
    first, second = {"a/1.png": b"1" * 700}, {"b/2.png": b"2" * 700}
    parts = [tmp_path / "x-00", tmp_path / "x-01"]
    if form == "parts":
        write_tar(tmp_path / "whole", first | second)
        data = (tmp_path / "whole").read_bytes()
        parts[0].write_bytes(data[:101])
        parts[1].write_bytes(data[101:])
    elif form == "archives joined":
        # Each with its own end mark, as one that was made by adding archives up.
        write_tar(parts[0], first)
        write_tar(parts[1], second)
    else:
        parts = parts[:1]
        if form == "zip":
            with zipfile.ZipFile(parts[0], "w") as archive:
                for name, data in (first | second).items():
                    archive.writestr(name, data)
        else:
            write_tar(parts[0], first | second, "w")
    outcome = _unpack(parts, tmp_path / "root", "media/a", "media/b/2.png")
    assert _files(tmp_path / "root") == {"media/a/1.png": b"1" * 700, "media/b/2.png": b"2" * 700}
    assert (outcome.written, outcome.absent) == (2, ())


@pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png", "/evil.png"])
def test_a_member_that_leads_out_of_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    archive = _tar_of(tmp_path / "x.tar", _info("a/1.png"), _info(name))
    with pytest.raises(DataError, match=r"x.tar holds '.*evil.png', which leads out of its folder"):
        _unpack([archive], tmp_path / "root", "media/a", "media/evil.png")
    # The whole folder did not appear, because its archive was not read to the end.
    assert [name for name in _files(tmp_path) if "evil" in name or name.startswith("root/media/a")] == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_wanted_member_that_is_no_plain_file_is_refused(kind: bytes, tmp_path: Path) -> None:
    archive = _tar_of(tmp_path / "x.tar", _info("a/1.png", kind, "/etc/passwd"))
    with pytest.raises(DataError, match=r"x.tar: a/1.png is a link or a device, not a plain file"):
        _unpack([archive], tmp_path / "root", "media/a")
    assert _files(tmp_path / "root") == {}


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("a/1.png")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="is a link or a device"):
        _unpack([tmp_path / "x.zip"], tmp_path / "root", "media/a/1.png")


def test_a_link_that_nobody_wants_is_passed_over(tmp_path: Path) -> None:
    archive = _tar_of(tmp_path / "x.tar", _info("latest", tarfile.SYMTYPE, "a"), _info("a/1.png"))
    assert _unpack([archive], tmp_path / "root", "media/a").written == 1


def test_files_that_systems_add_are_left_out(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar.gz", {"a/._1.png": b"preview", "a/1.png": b"1"})
    _unpack([tmp_path / "x.tar.gz"], tmp_path / "root", "media/a")
    assert _files(tmp_path / "root") == {"media/a/1.png": b"1"}


def test_what_is_there_already_stays_and_is_completed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "media" / "a").mkdir(parents=True)
    (root / "media" / "a" / "1.png").write_bytes(b"mine")
    (root / "media" / "c.png").write_bytes(b"mine")
    write_tar(tmp_path / "x.tar.gz", {"a/1.png": b"1", "a/2.png": b"2", "c.png": b"c"})
    assert _unpack([tmp_path / "x.tar.gz"], root, "media/a", "media/c.png").written == 1
    assert _files(root) == {"media/a/1.png": b"mine", "media/a/2.png": b"2", "media/c.png": b"mine"}


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_an_archive_that_is_cut_off_is_an_error_and_leaves_no_folder(keep: float, tmp_path: Path) -> None:
    members = {f"a/{number}.png": os.urandom(3000) for number in range(8)}
    write_tar(tmp_path / "x.tar.gz", members)
    data = (tmp_path / "x.tar.gz").read_bytes()
    (tmp_path / "x.tar.gz").write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(DataError, match=r"x.tar.gz cannot be unpacked: .*; delete it and fetch it again"):
        _unpack([tmp_path / "x.tar.gz"], tmp_path / "root", "media/a")
    assert not (tmp_path / "root" / "media" / "a").exists()


@pytest.mark.parametrize("form", ["plain", "joined", "gzip"])
def test_a_damaged_header_is_an_error_and_never_a_file_less(form: str, tmp_path: Path) -> None:
    parts = [tmp_path / "x.tar", tmp_path / "y.tar"]
    write_tar(parts[0], {"a/1.png": b"1", "a/2.png": b"2", "a/3.png": b"3"}, "w")
    write_tar(parts[1], {"a/4.png": b"4"}, "w")
    data = bytearray(parts[0].read_bytes())
    # The second member's header is behind the first one's and its data, a block each.
    data[1024 + 3] ^= 1
    parts[0].write_bytes(gzip.compress(bytes(data)) if form == "gzip" else bytes(data))
    with pytest.raises(DataError) as error:
        _unpack(parts if form == "joined" else parts[:1], tmp_path / "root", "media/a")
    names = f"{parts[0]}, {parts[1]}" if form == "joined" else str(parts[0])
    assert str(error.value) == (
        f"{names} cannot be unpacked: damaged at byte 1,024: bad checksum; delete it and fetch it again"
    )
    assert not (tmp_path / "root" / "media" / "a").exists()


def test_a_tar_that_is_cut_off_within_a_header_is_an_error(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", {"a/1.png": b"1", "a/2.png": b"2"}, "w")
    (tmp_path / "x.tar").write_bytes((tmp_path / "x.tar").read_bytes()[: 1024 + 100])
    with pytest.raises(DataError, match=r"cannot be unpacked: damaged at byte 1,024: truncated header; delete it"):
        _unpack([tmp_path / "x.tar"], tmp_path / "root", "media/a")


def _kill_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """End a run, as a kill would, before one of its changes to a folder: nothing of the code catches this."""
    done = 0

    def change(really: Callable[..., None], *arguments: object, **options: object) -> None:
        nonlocal done
        if done == step:
            raise KeyboardInterrupt
        done += 1
        really(*arguments, **options)

    for name in ("rename", "replace", "link", "rmdir", "unlink"):
        monkeypatch.setattr(os, name, partial(change, getattr(os, name)))


@pytest.mark.parametrize("links", [True, False])
def test_a_folder_that_gets_more_files_is_the_old_one_or_the_whole_one_or_none_at_every_moment(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = {"1.png": b"mine", "2.png": b"mine too"}
    whole = old | {"3.png": b"3", "b/4.png": b"4"}
    write_tar(tmp_path / "x.tar.gz", {f"a/{name}": b"theirs" for name in old} | {"a/3.png": b"3", "a/b/4.png": b"4"})
    write_tar(tmp_path / "other.tar.gz", {"c/1.png": b"c"})
    if not links:
        monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(OSError("no links here")))
    seen = []
    for step in range(100):
        root = tmp_path / f"root{step}"
        place = root / "media" / "a"
        place.mkdir(parents=True)
        for name, content in old.items():
            (place / name).write_bytes(content)
        with monkeypatch.context() as killing:
            _kill_at(killing, step)
            try:
                _unpack([tmp_path / "x.tar.gz"], root, "media/a")
                killed = False
            except KeyboardInterrupt:
                killed = True
        found = _files(place)
        assert found in (old, whole, {}), step
        assert place.exists() == bool(found)
        seen.append(found)
        if step % 2:
            # A run for something else must not take the files along that were set aside.
            _unpack([tmp_path / "other.tar.gz"], root, "media/c")
            assert _files(place) in (old, whole), step
        _unpack([tmp_path / "x.tar.gz"], root, "media/a")
        assert _files(place) == whole, step
        assert sorted(path.name for path in (root / "media").iterdir()) == ["a", "c"][: 1 + step % 2]
        if not killed:
            break
    assert seen[0] == old
    assert {} in seen
    assert seen[-1] == whole


def test_a_killed_run_leaves_no_part_of_a_folder_and_the_next_one_goes_on(tmp_path: Path) -> None:
    members = {f"{video}/{number}.png": bytes([number]) * 4096 for video in "ab" for number in range(8)}
    archive, pipe, root = tmp_path / "x.tar", tmp_path / "pipe", tmp_path / "root"
    write_tar(archive, members, "w")
    data = archive.read_bytes()
    os.mkfifo(pipe)
    child = SUPPORT / "unpack_from_pipe.py"
    command = [sys.executable, str(child), str(pipe), str(root), "media", "media/a", "media/b"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        with pipe.open("wb", buffering=0) as stream:
            # Five of the blocks in which archives are read, so that 11 files are whole.
            for piece in (data[:51200], data[51200:51300]):
                stream.write(piece)
                size = 0
                while size < len(piece):
                    size += int(process.stdout.readline())
            process.kill()
            process.wait()
    staged = sorted(_files(root))
    assert staged[:8] == [f"media/{STAGING}/a/{number}.png" for number in range(8)]
    assert 10 <= len(staged) < 16
    assert all(name.startswith(f"media/{STAGING}/") for name in staged)
    whole = len([name for name in staged if not name.endswith(".part")])
    outcome = _unpack([archive], root, "media/a", "media/b")
    assert outcome.written == 16 - whole
    assert _files(root) == {f"media/{name}": content for name, content in members.items()}


def test_a_zip_in_parts_is_refused(tmp_path: Path) -> None:
    parts: Collection[Path] = [tmp_path / "x.zip-00", tmp_path / "x.zip-01"]
    for part in parts:
        part.write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match="a zip archive in parts cannot be read"):
        _unpack(list(parts), tmp_path / "root", "media/a")
