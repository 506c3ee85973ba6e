"""How is a YAML file read so that nothing written in it is lost?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from vlm2vec.errors import ConfigError

# PyYAML raises these for values that look like dates or numbers and are none, such as 2024-13-45 and "!!bool 5".
_NO_VALUE = (ValueError, ArithmeticError, LookupError, AttributeError, TypeError)


def read_yaml(path: Path) -> object:
    """The content of a file.

    Raises:
        ConfigError: it is missing or no YAML, or a mapping in it has a key twice, of which PyYAML would keep the last.
    """
    try:
        return yaml.load(path.read_text("utf-8"), _EachKeyOnce)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path} is not valid YAML: its brackets lie too deep in one another") from None
    except (yaml.YAMLError, *_NO_VALUE) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None


class _EachKeyOnce(yaml.SafeLoader):
    # Before "<<" brings in keys that may stand again beside it.
    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set[str]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return node
