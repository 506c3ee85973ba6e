"""From a path, bytes or a PIL image to RGB pictures: images, videos, PDF pages."""

from vlm2vec.media.document import page_count, read_pages, render_page
from vlm2vec.media.frames import Frames, decoded_bytes, load_frames
from vlm2vec.media.image import open_image, resolve
from vlm2vec.media.readers import read_words
from vlm2vec.media.source import DEFAULT_LIMITS, Limits
from vlm2vec.media.timeline import VideoInfo, frame_indices, split_spans
from vlm2vec.media.video import probe, read_frames
from vlm2vec.media.words import FileWords, PartWords

__all__ = [
    "load_frames", "decoded_bytes", "Frames", "resolve", "open_image", "read_frames", "frame_indices",
    "probe", "VideoInfo", "split_spans", "read_pages", "page_count", "render_page",
    "read_words", "FileWords", "PartWords", "Limits", "DEFAULT_LIMITS",
]  # fmt: skip
