"""Which files does a data set on the hub have, and how do they get here, from where the last try was cut off?"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from vlm2vec.data.tables import TableName
from vlm2vec.errors import HubError
from vlm2vec.extras import require
from vlm2vec.files import writing

_TRIES = 5
"""How often in a row a transfer may break off without a byte more."""

_SILENCE_S = 60.0
"""A server that sends nothing for so long has broken off."""


class RefusedError(HubError):
    """The hub does not give one data set or file; it may give others."""


class _BrokenOffError(Exception):
    """A transfer ended before its end; trying again may help."""


class HubFile(NamedTuple):
    """A file of a data set on the hub: its bytes are those of `etag`, whatever is uploaded later.

    `etag` is the SHA-256 of a large file, and the hash that git has of a small one.
    """

    repo: str
    revision: str
    path: str
    size: int
    etag: str

    def place(self, folder: Path) -> Path:
        """Where `fetch` puts it.

        Raises:
            RefusedError: its name would lead out of the folder, on whatever system.
        """
        for name in (self.repo, self.path):
            parts = re.split(r"[/\\]", name)
            if "\0" in name or any(part in ("", ".", "..") or re.match("[A-Za-z]:", part) for part in parts):
                raise RefusedError(
                    f"{self.repo!r} on the hub names a file {self.path!r}, which leads out of its folder: it is not "
                    "fetched"
                )
        return folder / self.repo.replace("/", "__") / self.path

    def bytes_left(self, folder: Path) -> int:
        """How much of it `fetch` will ask for."""
        path = self.place(folder)
        return 0 if self._is_whole(path) else self.size - min(_size(self._part(path)), self.size)

    def fetch(self, folder: Path, on_bytes: Callable[[int], None]) -> Path:
        """Bring it here, from where an earlier try was cut off.

        The hub's own client starts over after a killed run, which is no way to get archives of many GB.

        Args:
            folder: where files of the hub are kept while they are needed.
            on_bytes: told of every piece that arrives.

        Raises:
            HubError: the hub cannot be reached, or other bytes came than the hub says.
            RefusedError: the hub does not give the file.
            StorageError: the disk is full, or the folder may not be written.
        """
        path = self.place(folder)
        if self._is_whole(path):
            return path
        part, digest = self._part(path), self._digest()
        with writing(path.parent, "other_data"):
            path.parent.mkdir(parents=True, exist_ok=True)
            for stale in sorted(path.parent.glob(f"{path.name}.*.part")):
                if stale != part:
                    stale.unlink()
        tries = 0
        while not self._is_whole(part):
            have = _size(part)
            try:
                self._append(part, have, on_bytes)
            except _BrokenOffError as error:
                tries = 1 if _size(part) > have else tries + 1
                if tries == _TRIES:
                    raise HubError(
                        f"{self.repo}: {self.path} broke off at {_size(part):,} of {self.size:,} bytes, {_TRIES} "
                        f"times: {error}; the next try continues from there"
                    ) from None
                time.sleep(tries)
        with part.open("rb") as stream:
            hashlib.file_digest(stream, lambda: digest)
        if digest.hexdigest() != self.etag:
            part.unlink()
            raise HubError(
                f"{self.repo}: {self.path} came with other bytes than the hub says (hash {digest.hexdigest()}, not "
                f"{self.etag}), so it was deleted; fetch it again"
            )
        os.replace(part, path)
        return path

    def _append(self, part: Path, have: int, on_bytes: Callable[[int], None]) -> None:
        from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # It is documented.

        if have > self.size:
            part.unlink()
            have = 0
        url = hf_hub_url(self.repo, self.path, repo_type="dataset", revision=self.revision)
        # Compressed in transit the bytes would not be those of the file, and not be counted right.
        headers = build_hf_headers() | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        try:
            with get_session().stream(
                "GET", url, headers=headers, follow_redirects=True, timeout=_SILENCE_S
            ) as response:
                if response.status_code >= 500:
                    raise _BrokenOffError(f"the server answers {response.status_code}")
                if response.status_code >= 400:
                    response.read()
                    with _hub_errors(self.repo):
                        hf_raise_for_status(response)
                # A server that does not know ranges sends everything.
                ranged = response.status_code == 206
                if not ranged:
                    on_bytes(-have)
                with writing(part), part.open("ab" if ranged else "wb") as stream:
                    # As they come in: a killed run would lose what is still collected here.
                    for block in response.iter_bytes():
                        stream.write(block)
                        stream.flush()
                        on_bytes(len(block))
        except _transport_error() as error:
            raise _BrokenOffError(str(error) or type(error).__name__) from None

    def _digest(self) -> hashlib._Hash:
        """The hash that becomes `etag` when the file's bytes are put in."""
        if re.fullmatch("[0-9a-f]{64}", self.etag):
            return hashlib.sha256()
        if re.fullmatch("[0-9a-f]{40}", self.etag):
            return hashlib.sha1(f"blob {self.size}\0".encode(), usedforsecurity=False)
        has = f"{self.repo}: {self.path} has the hash {self.etag!r} on the hub"
        raise HubError(f"{has}, of a kind that is not known here")

    def _is_whole(self, path: Path) -> bool:
        return path.is_file() and path.stat().st_size == self.size

    def _part(self, path: Path) -> Path:
        return path.with_name(f"{path.name}.{self.etag[:16]}.part")


def list_files(repo: str, *, revision: str | None = None, paths: Sequence[str] | None = None) -> list[HubFile]:
    """The files of a data set, or those of `paths`; `revision` None is the newest.

    Raises:
        HubError: the hub cannot be reached; RefusedError: it does not give them.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile, RepoFolder

    with _hub_errors(repo):
        api = HfApi()
        commit = revision or str(api.dataset_info(repo).sha)
        entries: Iterable[RepoFile | RepoFolder]
        if paths is None:
            entries = api.list_repo_tree(repo, recursive=True, repo_type="dataset", revision=commit)
        else:
            entries = api.get_paths_info(repo, list(paths), repo_type="dataset", revision=commit)
        return [
            HubFile(repo, commit, entry.path, entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id)
            for entry in entries
            if isinstance(entry, RepoFile)
        ]


def dataset_builder(table: TableName) -> Any:
    """What reads a table of the hub and knows its files, of the library `datasets`. Nothing is fetched yet.

    Raises:
        HubError: the hub cannot be reached; RefusedError: it has no such data set or configuration.
    """
    require("evaluate", "datasets")
    from datasets import load_dataset_builder
    from datasets.exceptions import DatasetNotFoundError, DatasetsError
    from huggingface_hub import HfApi

    # The library leaves lock files in its cache.
    with _hub_errors(table.dataset), tempfile.TemporaryDirectory() as cache:
        # It would try for half a minute to reach a hub that is not there.
        revision = HfApi().dataset_info(table.dataset).sha
        try:
            return load_dataset_builder(table.dataset, table.config, revision=revision, cache_dir=cache)
        except DatasetNotFoundError as error:
            # It keeps the hub's reason in its words alone.
            raise (_gated if "gated" in str(error) else _absent)(table.dataset) from None
        except (ValueError, RuntimeError, FileNotFoundError, DatasetsError) as error:
            # Among them: no such configuration, and a data set that is a script, which is never run.
            raise RefusedError(f"{table} cannot be read from the hub: {_first_line(error)}") from None


@contextmanager
def _hub_errors(repo: str) -> Iterator[None]:
    """Say what a refusal of the hub means, and what to do, in place of the errors of its client."""
    from huggingface_hub import constants, errors

    where = _address(repo)
    if constants.HF_HUB_OFFLINE:
        raise HubError(f"{where} may not be asked: unset HF_HUB_OFFLINE, or put the data in place by hand")
    try:
        yield
    except errors.GatedRepoError:
        # It counts as not found too, so the order matters.
        raise _gated(repo) from None
    except errors.RepositoryNotFoundError:
        raise _absent(repo) from None
    except (errors.EntryNotFoundError, errors.RevisionNotFoundError) as error:
        raise RefusedError(f"{where} lacks a file that it should have: {_first_line(error)}") from None
    except errors.HfHubHTTPError as error:
        raise HubError(f"{where} refuses: {_first_line(error)}; try again later") from None
    except (_transport_error(), ConnectionError) as error:
        raise HubError(
            f"{where} cannot be reached: {error or type(error).__name__}; check the network, or put the data in place "
            "by hand"
        ) from None


def _gated(repo: str) -> RefusedError:
    remedy = "accept its terms there, and set HF_TOKEN to a token of your account"
    return RefusedError(f"{_address(repo)} is gated: {remedy}")


def _absent(repo: str) -> RefusedError:
    return RefusedError(f"{_address(repo)} is not there, or private: for a private one set HF_TOKEN")


def _address(repo: str) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/datasets/{repo}"


def _size(path: Path) -> int:
    """How many bytes of a file are here."""
    return path.stat().st_size if path.is_file() else 0


def _transport_error() -> type[Exception]:
    """The error of the HTTP library below the hub's client; which library that is depends on the client's version."""
    from huggingface_hub.errors import HfHubHTTPError

    return next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
