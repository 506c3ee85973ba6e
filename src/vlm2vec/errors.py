"""What a user can do wrong, one class each.

    VLM2VecError
    ├── InputError        an item that cannot be embedded as it stands (nothing in it, markers and media disagree)
    │   └── VectorError   one of which a model makes no vector that can be compared; a ModelError too
    ├── MediaError        a file or byte string that cannot be read as the medium it claims to be
    │   └── LimitError    readable perhaps, but larger than the limits allow
    ├── ModelError        a checkpoint that is missing, incomplete or of an unknown kind
    │   ├── AdapterError  an adapter whose tensors do not fit its base
    │   └── StyleError    an unknown prompt style, or none that could be inferred
    ├── IndexFolderError  a search index that is missing, damaged or made by another model
    │   └── NotWritableError  one that cannot be written now, though perhaps read
    └── ConfigError       a training configuration or data file with a mistake in it

Every message says what happened, with which value, where, and what to do next. The command line prints it without
a traceback and exits with 2; anything that is not a `VLM2VecError` is a fault of this package.
"""


class VLM2VecError(Exception):
    """Base of every error that a user can cause and mend."""


class InputError(VLM2VecError, ValueError):
    """An item cannot be embedded as it stands."""


class MediaError(VLM2VecError, ValueError):
    """A file or byte string cannot be read as the medium it claims to be."""


class LimitError(MediaError):
    """A medium is larger than the limits allow."""


class ModelError(VLM2VecError):
    """A checkpoint is missing, incomplete or of an unknown kind."""


class VectorError(InputError, ModelError):
    """A model makes of an item a vector that is not finite, or zero."""


class AdapterError(ModelError):
    """An adapter's tensors do not fit its base model."""


class StyleError(ModelError):
    """A prompt style is unknown, or none could be inferred."""


class IndexFolderError(VLM2VecError):
    """A search index is missing, damaged or made by another model."""


class NotWritableError(IndexFolderError):
    """A search index cannot be written now, though perhaps read."""


class ConfigError(VLM2VecError):
    """A configuration or data file holds a mistake."""
