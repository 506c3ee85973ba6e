"""How is a video file opened so that nothing but a video gets in?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vlm2vec.errors import LimitError, MediaError
from vlm2vec.media.limits import Limits
from vlm2vec.media.source import check_file, decoding, describe, open_source

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream


FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,asf,flv,ogg"
"""The formats that FFmpeg may take a file for. Playlists and session descriptions are left out: a text file named .mp4
could make it open other files and network addresses."""


@contextmanager
def open_clip(source: Path | bytes, limits: Limits) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video file and the video stream that a player shows: the default one, of several the largest.

    An error of FFmpeg inside the block becomes a `MediaError`; PyAV keeps FFmpeg's log from the terminal.

    Raises:
        MediaError: not a video, no picture in it, or coded in an unknown way.
        LimitError: more bytes, or more pixels a frame, than `limits` allow.
    """
    import av
    from av.stream import Disposition

    name = describe(source)
    with ExitStack() as stack:
        file: object
        if isinstance(source, bytes):
            file = stack.enter_context(open_source(source, "a video", limits))
        else:
            check_file(source, "a video", limits)
            file = f"file:{source}"  # The prefix keeps FFmpeg from reading a name like "concat:a" as a protocol.
        stack.enter_context(decoding(name, "a video"))
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
        try:
            container = stack.enter_context(av.open(file, options=options, metadata_errors="replace"))
        except (av.InvalidDataError, av.ArgumentError) as error:  # The second: of a format that is not let in.
            raise MediaError(
                f"{name} cannot be read as a video: its content is damaged or of no known format; "
                "check that the file is what its name says"
            ) from error
        # A cover picture in a music file passes for a video stream.
        streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
        if not streams:
            raise MediaError(f"{name} has no video stream: it holds sound or data only")
        stream = max(streams, key=_preference)  # Of equals the first.
        if stream.codec_context is None:
            raise MediaError(f"{name} is coded in a way that this installation cannot decode; convert it to H.264")
        if stream.codec_context.width < 1 or stream.codec_context.height < 1:
            raise MediaError(f"{name} cannot be read as a video: it states no frame size that FFmpeg accepts")
        check_frame_px(stream.codec_context.width, stream.codec_context.height, limits, name)
        yield container, stream


def _preference(stream: VideoStream) -> tuple[bool, bool, int]:
    from av.stream import Disposition

    codec = stream.codec_context
    size_px = 0 if codec is None else codec.width * codec.height
    return size_px > 0, bool(stream.disposition & Disposition.default), size_px


def check_frame_px(width: int, height: int, limits: Limits, name: str) -> None:
    """Raise LimitError if a frame has more pixels than `limits.frame_px`."""
    if width * height > limits.frame_px:
        raise LimitError(
            f"{name} has frames of {width} x {height} pixels, more than the {limits.frame_px:,} pixels allowed; "
            "convert it to a smaller size"
        )


def check_frame_count(count: int, limits: Limits, name: str) -> None:
    """Raise LimitError if there are more frames than `limits.frames`."""
    if count > limits.frames:
        raise LimitError(f"{name} has more than the {limits.frames:,} frames allowed; cut it into parts")


def av_error() -> type[Exception]:
    """Name the base of FFmpeg's errors without importing PyAV before it is needed."""
    import av

    error: type[Exception] = av.FFmpegError
    return error
