"""A hub on this machine: the part of its HTTP interface that fetching a data set needs, over files in a folder.

The client reads the address when it is imported, so what is tested runs in a process of its own: `run_vlm2vec`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow
import pyarrow.parquet
import yaml

from vlm2vec.data.tables import TableName
from vlm2vec.tasks.data import TaskSpec

MMEB = "TIGER-Lab/MMEB-V2"
VIDEO_QA = "video-tasks/frames/video_qa.tar.gz"


class Request(NamedTuple):
    """What a client asked for: the file of a data set, or another address."""

    method: str
    path: str
    range: str | None


class Hub:
    """A hub over FOLDER/<owner>/<name>/<files>.

    Args:
        folder: its data sets.
        gated: data sets whose files are refused.
        stalling: at how many bytes a file's answer stops, for good.
        altered: files whose last byte becomes another one on the way.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gated: set[str] = set()
        self.stalling: dict[str, int] = {}
        self.altered: set[str] = set()
        self.stalled = threading.Event()
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self.address = ""

    def fetched(self, repo: str = "") -> list[str]:
        """Files that were asked for, each once, in the order of their names."""
        gets = [request.path for request in self.requests if request.method == "GET" and "/resolve/" in request.path]
        files = [re.sub(r"^/datasets/(.+)/resolve/[^/]+/", r"\1/", path) for path in gets]
        return sorted({file for file in files if file.startswith(repo) and not file.endswith("README.md")})

    def ranges(self, path: str) -> list[str | None]:
        """Ranges in which a file was asked for."""
        return [one.range for one in self.requests if one.method == "GET" and one.path.endswith(f"/{path}")]


@contextmanager
def serving(folder: Path) -> Iterator[Hub]:
    """A hub, for as long as it is needed."""
    hub = Hub(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def start_vlm2vec(hub_address: str, home: Path, *arguments: object) -> subprocess.Popen[str]:
    """Start `vlm2vec data` against a hub, with caches of its own."""
    code = (
        "import sys, typer\n"
        "from vlm2vec.cli.data import data\n"
        "from vlm2vec.errors import VLM2VecError\n"
        "app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)\n"
        "app.command()(data)\n"
        "try: app(standalone_mode=False) and sys.exit(1)\n"
        "except VLM2VecError as error: print('error:', error, file=sys.stderr); sys.exit(2)\n"
        "finally: print('torch', 'torch' in sys.modules, file=sys.stderr)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(hub_address, home),
    )


def environment(hub_address: str, home: Path) -> dict[str, str]:
    """Variables of a process that asks a hub, with caches of its own."""
    return os.environ | {
        "HF_ENDPOINT": hub_address,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
        "NO_PROXY": "127.0.0.1",
    }


class Done(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


def run_vlm2vec(hub_address: str, home: Path, *arguments: object) -> Done:
    """Run `vlm2vec data` against a hub to its end."""
    process = start_vlm2vec(hub_address, home, *arguments)
    out, err = process.communicate(timeout=120)
    return Done(process.returncode, out, err)


def publish(specs: Sequence[TaskSpec], full: Path, folder: Path, *, others: Mapping[str, bytes] | None = None) -> None:
    """Lay out as the hub has them the data of tasks that `write_fixture` wrote to a data root.

    Args:
        specs: the tasks.
        full: the data root.
        folder: the hub's.
        others: more members for every archive.
    """
    sources: dict[str, list[TableName]] = {}
    for source in dict.fromkeys(source for spec in specs for source in spec.parser.tables(spec.source)):
        sources.setdefault(source.dataset, []).append(source)
    for dataset, tables in sources.items():
        _publish_tables(tables, full, folder / dataset)
    frames = full / "video-tasks" / "frames"
    media = folder / MMEB / "video-tasks" / "frames"
    _archive(folder / MMEB / "image-tasks" / "mmeb_v1.tar.gz", full / "image-tasks", "MMEB/{}", others)
    _archive(media / "video_cls.tar.gz", frames / "video_cls", "./{}", others)
    _archive(media / "video_mret.tar.gz", frames / "video_mret", "video_mret/{}", others)
    _archive(media / "video_ret.tar.gz", frames / "video_ret", "data/ziyan/video_retrieval/{}", others, inner="frames")
    _archive(media / "video_qa.tar.gz", frames / "video_qa", "video_qa/{}", others)
    whole = media / "video_qa.tar.gz"
    if whole.is_file():
        data = whole.read_bytes()
        whole.unlink()
        step = -(-len(data) // 5)
        for number in range(5):
            (media / f"video_qa.tar.gz-{number:02d}").write_bytes(data[number * step : (number + 1) * step])


def write_tar(path: Path, members: Mapping[str, bytes], mode: str = "w:gz") -> None:
    """A tar of files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]  # The mode is a literal there.
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, BytesIO(data))


def _publish_tables(tables: Sequence[TableName], full: Path, repo: Path) -> None:
    places = {table: place for table in tables if (place := table.found(full))}
    # The tables of a data set are of one kind there.
    suffix = max(place.suffix for place in places.values())
    configs = {}
    for table, place in places.items():
        name = f"data/{table.config or 'default'}/{table.split}{suffix}"
        unwanted = f"data/{table.config or 'default'}/unwanted{suffix}"
        for path in (repo / name, repo / unwanted):
            path.parent.mkdir(parents=True, exist_ok=True)
            if place.suffix == suffix:
                path.write_bytes(place.read_bytes())
            else:
                rows = [json.loads(line) for line in place.read_text("utf-8").splitlines()]
                pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        configs[table.config or "default"] = [
            {"split": table.split, "path": name},
            {"split": "unwanted", "path": unwanted},
        ]
    header = {"configs": [{"config_name": name, "data_files": files} for name, files in configs.items()]}
    (repo / "README.md").write_text(f"---\n{yaml.safe_dump(header)}---\n")


def _archive(path: Path, media: Path, name: str, others: Mapping[str, bytes] | None, *, inner: str = "") -> None:
    if not media.is_dir():
        return
    members = {}
    for file in sorted(path for path in media.rglob("*") if path.is_file()):
        first, _, rest = file.relative_to(media).as_posix().partition("/")
        first = {"EgoSchema": "egoschema", "Charades_STA": "Charades-STA"}.get(first, first)
        members[name.format(f"{first}/{inner}/{rest}" if inner else f"{first}/{rest}")] = file.read_bytes()
    write_tar(path, members | {name.format(key): data for key, data in (others or {}).items()})


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(Request(self.command, path, self.headers.get("Range")))
        answers: Sequence[tuple[str, Callable[[Path, str], None]]] = (
            (r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._file),
            (r"/api/datasets/([^/]+/[^/]+)/tree/([^/]+)/?(.*)", self._tree),
            (r"/api/datasets/([^/]+/[^/]+)/paths-info/([^/]+)()", lambda repo, _: self._paths(repo, body)),
            (r"/api/datasets/([^/]+/[^/]+)(?:/revision/([^/]+))?()", self._repo),
        )
        for pattern, answer in answers:
            if match := re.fullmatch(pattern, path):
                repo = self.hub.folder / match[1]
                if not repo.is_dir():
                    self._refuse(401, "RepoNotFound", "Repository not found")
                elif match[2] not in (None, "main", _commit(repo)):
                    self._refuse(404, "RevisionNotFound", "Invalid rev id")
                else:
                    answer(repo, match[3])
                return
        self._refuse(404, "", "Not found")

    def _repo(self, repo: Path, _: str) -> None:
        siblings = [{"rfilename": path} for path in _files(repo)]
        self._json({"id": _name(repo), "sha": _commit(repo), "siblings": siblings, "private": False, "tags": []})

    def _tree(self, repo: Path, folder: str) -> None:
        if not (repo / folder).is_dir():
            self._refuse(404, "EntryNotFound", f"{folder} does not exist")
            return
        recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() in ("true", "1")
        found = sorted((repo / folder).rglob("*") if recursive else (repo / folder).iterdir())
        self._json([_entry(repo, path) for path in found])

    def _paths(self, repo: Path, body: bytes) -> None:
        if self.headers["Content-Type"].startswith("application/json"):
            paths = json.loads(body)["paths"]
        else:
            paths = parse_qs(body.decode())["paths"]
        self._json([_entry(repo, repo / path) for path in paths if (repo / path).exists()])

    def _file(self, repo: Path, name: str) -> None:
        path = repo / name
        if _name(repo) in self.hub.gated:
            self._refuse(401, "GatedRepo", f"Access to dataset {_name(repo)} is restricted.")
            return
        if not path.is_file():
            self._refuse(404, "EntryNotFound", f"{name} does not exist")
            return
        data, start = path.read_bytes(), 0
        if name in self.hub.altered:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if asked := re.fullmatch(r"bytes=([0-9]+)-", self.headers.get("Range") or ""):
            start = int(asked[1])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{_sha(path)}"')
        self.send_header("X-Repo-Commit", _commit(repo))
        self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        stop = self.hub.stalling.get(name)
        self.wfile.write(data[start:stop])
        self.wfile.flush()
        if stop is not None and stop < len(data):
            self.hub.stalled.set()
            self.hub.closing.wait()
            self.close_connection = True

    def _json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, code: str, message: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _name(repo: Path) -> str:
    return f"{repo.parent.name}/{repo.name}"


def _commit(repo: Path) -> str:
    return hashlib.sha1(_name(repo).encode()).hexdigest()


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _files(repo: Path) -> list[str]:
    return sorted(path.relative_to(repo).as_posix() for path in repo.rglob("*") if path.is_file())


def _entry(repo: Path, path: Path) -> dict[str, object]:
    name = path.relative_to(repo).as_posix()
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": hashlib.sha1(name.encode()).hexdigest()}
    data = path.read_bytes()
    large = ".tar" in name or path.suffix in (".zip", ".parquet")
    lfs = {"lfs": {"oid": _sha(path), "size": len(data), "pointerSize": 135}} if large else {}
    oid = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
    return {"type": "file", "path": name, "size": len(data), "oid": oid, **lfs}
