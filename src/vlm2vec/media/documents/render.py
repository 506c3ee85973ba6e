"""How does a document that is no PDF become one, so that its pages can be seen?

LibreOffice and Chromium draw it, where they are installed: each time in a process group of its own, with an empty
profile, no network, no macros or scripts, and a limit of time, after which the whole group is killed.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias

from vlm2vec.errors import LimitError, MediaError
from vlm2vec.media.source import DEFAULT_LIMITS, Limits, check_file, decoding

Program: TypeAlias = Literal["LibreOffice", "Chromium"]

SLIDES = frozenset({".pptx", ".pptm", ".ppsx", ".potx", ".odp", ".otp"})
"""Endings of documents whose pages are their parts, by number; hidden slides have a page, too."""

PROGRAMS: Mapping[str, Program] = {
    **dict.fromkeys(SLIDES, "LibreOffice"),
    **dict.fromkeys((".docx", ".docm", ".dotx", ".odt", ".ott"), "LibreOffice"),
    **dict.fromkeys((".xlsx", ".xlsm", ".xltx", ".ods", ".ots"), "LibreOffice"),
    **dict.fromkeys((".html", ".htm", ".xhtml", ".mhtml", ".mht"), "Chromium"),
}
"""Which program draws the pages of a document, by the ending."""

_NAMES: Mapping[Program, Sequence[str]] = {
    "LibreOffice": ("soffice", "libreoffice"),
    "Chromium": ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
}
# Documents whose PDFs are kept.
_MOST_KEPT = 100
_PRESENTATION = 'pdf:impress_pdf_Export:{"ExportHiddenSlides":{"type":"boolean","value":"true"}}'
# Linked pictures and templates are not loaded, macros are not run, and a proxy that is not there takes all else.
_SETTINGS = (
    ("Common/Security/Scripting", "BlockUntrustedRefererLinks", "true"),
    ("Common/Security/Scripting", "DisableMacrosExecution", "true"),
    ("Common/Security/Scripting", "MacroSecurityLevel", "3"),
    ("Common/Misc", "FirstRun", "false"),
    ("Writer/Content/Update", "Link", "0"),
    ("Calc/Content/Update", "Link", "2"),
)
_PROXY = (("ooInetProxyType", "2"), ("ooInetHTTPProxyName", "127.0.0.1"), ("ooInetHTTPProxyPort", "9"))
_CHROMIUM = (
    *("--headless=new", "--disable-gpu", "--no-first-run", "--no-default-browser-check", "--disable-extensions"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=http://127.0.0.1:9", "--proxy-bypass-list=<-loopback>"),
    "--no-pdf-header-footer",
)
# Not by `--blink-settings`, with which Chromium prints nothing either.
_NO_SCRIPTS = '{"profile":{"default_content_setting_values":{"javascript":2}}}'


def program_path(program: Program) -> str | None:
    """Where a program is installed; None if it is not."""
    return next(filter(None, map(shutil.which, _NAMES[program])), None)


def is_rendered(path: Path) -> bool:
    """Whether a file is of a kind that a program draws, installed or not."""
    return path.suffix.lower() in PROGRAMS


def render_document(path: Path, limits: Limits = DEFAULT_LIMITS) -> Path:
    """Make a PDF of a document; there is one for the life of this process as long as the file does not change.

    Web pages are drawn with the folder that was saved with them, without running scripts.

    Raises:
        MediaError: missing, of a kind that has no pages, or the program is not installed or cannot read it.
        LimitError: it is too large, or drawing it takes longer than `Limits.render_s`.
    """
    program = PROGRAMS.get(path.suffix.lower())
    if program is None:
        raise MediaError(f"{path} has no pages that could be drawn; it can be found by its words")
    status = check_file(path, "a document", limits)
    return _rendered.get((path.absolute(), status.st_size, status.st_mtime_ns), path, program, limits)


_Key: TypeAlias = tuple[Path, int, int]


class _Rendered:
    """The PDFs that this process has made, and the documents of which none could be made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._number = 0
        self._done: OrderedDict[_Key, Path | MediaError] = OrderedDict()
        self._busy: dict[_Key, threading.Lock] = {}

    def get(self, key: _Key, path: Path, program: Program, limits: Limits) -> Path:
        with self._lock:
            busy = self._busy.setdefault(key, threading.Lock())
        # Others who want the same document wait; each of its pages would draw it otherwise.
        with busy:
            with self._lock:
                known = self._done.get(key)
                if known is not None:
                    self._done.move_to_end(key)
            if known is None:
                target = self._new_path()
                try:
                    _draw(path, target, program, limits)
                    known = target
                except MediaError as error:
                    known = error
                self._keep(key, known)
        if isinstance(known, MediaError):
            raise type(known)(known.message, *known.hints)
        return known

    def close(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _new_path(self) -> Path:
        with self._lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="vlm2vec-pages-"))
                atexit.register(self.close)
            self._number += 1
            return self._folder / f"{self._number}.pdf"

    def _keep(self, key: _Key, made: Path | MediaError) -> None:
        with self._lock:
            self._done[key] = made
            self._busy.pop(key, None)
            if len(self._done) > _MOST_KEPT:
                _, oldest = self._done.popitem(last=False)
                if isinstance(oldest, Path):
                    oldest.unlink(missing_ok=True)


_rendered = _Rendered()


def _draw(path: Path, target: Path, program: Program, limits: Limits) -> None:
    executable = program_path(program)
    if executable is None:
        raise MediaError(
            f"the pages of {path} cannot be seen without {program}, which is not installed; its words can be found"
        )
    with (
        tempfile.TemporaryDirectory(prefix="vlm2vec-draw-", ignore_cleanup_errors=True) as work,
        decoding(str(path), "a document"),
    ):
        made = Path(work, "out", "document.pdf")
        made.parent.mkdir()
        if program == "Chromium":
            command = _chromium(executable, path, made, Path(work, "profile"))
        else:
            command = _libreoffice(executable, path, made, Path(work, "profile"))
        said = _run(command, Path(work), limits.render_s, f"{path} cannot be drawn by {program}")
        if not made.is_file() or not made.stat().st_size:
            raise MediaError(f"{path} cannot be drawn by {program}{said and f': {said}'}; check that the file is whole")
        shutil.move(made, target)


def _libreoffice(executable: str, path: Path, made: Path, profile: Path) -> list[str]:
    # A copy: LibreOffice puts a lock beside the file that it opens, and would find what its links name.
    copy = made.parent.parent / f"document{path.suffix.lower()}"
    shutil.copyfile(path, copy)
    (profile / "user").mkdir(parents=True)
    (profile / "user" / "registrymodifications.xcu").write_text(_registry(), "utf-8")
    form = _PRESENTATION if path.suffix.lower() in SLIDES else "pdf"
    return [
        *(executable, f"-env:UserInstallation={profile.as_uri()}", "--headless", "--norestore", "--nolockcheck"),
        *("--nodefault", "--nologo", "--convert-to", form, "--outdir", str(made.parent), str(copy)),
    ]


def _registry() -> str:
    settings = [(f"/org.openoffice.Office.{path}", name, value) for path, name, value in _SETTINGS]
    settings += [("/org.openoffice.Inet/Settings", name, value) for name, value in _PROXY]
    items = "".join(
        f'<item oor:path="{path}"><prop oor:name="{name}" oor:op="fuse"><value>{value}</value></prop></item>'
        for path, name, value in settings
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><oor:items xmlns:oor="http://openoffice.org/2001/registry" '
        f'xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">{items}'
        "</oor:items>"
    )


def _chromium(executable: str, path: Path, made: Path, profile: Path) -> list[str]:
    (profile / "Default").mkdir(parents=True)
    (profile / "Default" / "Preferences").write_text(_NO_SCRIPTS, "utf-8")
    # As root its sandbox does not start.
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return [
        *(executable, *_CHROMIUM, *root, f"--user-data-dir={profile}", f"--print-to-pdf={made}"),
        path.absolute().as_uri(),
    ]


def _run(command: Sequence[str], work: Path, time_s: float, failure: str) -> str:
    """Run a program with the processes that it starts; all are gone afterwards. Returns the last line of its errors.

    Raises:
        LimitError: it takes longer than `time_s`.
    """
    # Ends the group even if this process is killed meanwhile.
    guard = shutil.which("timeout")
    guarded = [guard, "--signal=KILL", str(round(2 * time_s + 1)), *command] if guard else command
    with Path(work, "errors.txt").open("w+b") as errors:
        process = subprocess.Popen(
            guarded,
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=os.environ | {"HOME": str(work), "TMPDIR": str(work), "SAL_USE_VCLPLUGIN": "svp"},
            start_new_session=True,
        )
        try:
            process.wait(time_s)
        except subprocess.TimeoutExpired:
            raise LimitError(f"{failure}: it took longer than {time_s:g} s (Limits.render_s)") from None
        finally:
            _kill_group(process)
        errors.seek(0)
        lines = errors.read().decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.kill()
    else:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
