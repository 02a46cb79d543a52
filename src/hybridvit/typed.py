"""Plain values, mostly from YAML, become dataclasses: strictly, and with every mistake reported at once.

Strict means: every key is known, every value has its field's type. A mistake names its nearest known spelling.
"""

import dataclasses
import difflib
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from hybridvit.errors import ConfigError

T = TypeVar("T")


class _StrictLoader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number (YAML 1.1 reads text) and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise ConfigError(f"line {node.start_mark.line + 1}: given twice: {', '.join(twice)}")
        return super().construct_mapping(node, deep)


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse_yaml(text: str, *, source: str) -> Any:
    """Parse one YAML document. Raises ConfigError naming `source` and the line."""
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not valid YAML: {' '.join(str(error).split())}") from None


def read_yaml(path: Path) -> Any:
    """Parse a file of one YAML document. Raises ConfigError naming it, and the line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8; save it as such"
        raise ConfigError(f"{path} cannot be read: {reason}.") from None
    return parse_yaml(text, source=str(path))


def from_dict(cls: type[T], values: Mapping[str, Any], *, source: str) -> T:
    """Build a dataclass, nested ones included, from plain values. Raises ConfigError with every mistake at once."""
    mistakes: list[str] = []
    result = _build(cls, values, "", mistakes)
    if mistakes:
        noun = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise ConfigError(f"{source} has {noun}:\n" + "\n".join(f"  {mistake}" for mistake in mistakes))
    assert result is not None
    return result


def known_keys(cls: Any, prefix: str = "") -> list[str]:
    """Every dotted key of a dataclass."""
    hints = get_type_hints(cls)
    keys = []
    for f in dataclasses.fields(cls):
        nested = dataclasses.is_dataclass(hints[f.name])
        keys += known_keys(hints[f.name], f"{prefix}{f.name}.") if nested else [prefix + f.name]
    return keys


def _build(cls: type[T], values: Any, prefix: str, mistakes: list[str]) -> T | None:
    if not isinstance(values, Mapping):
        mistakes.append(f"{prefix.rstrip('.') or 'the file'}: expected settings (key: value), found {values!r}")
        return None
    before = len(mistakes)
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(str(key), list(fields), n=1, cutoff=0.0)
            mistakes.append(f"{prefix}{key}: unknown; the nearest known is {prefix}{near[0]}")
    arguments = {}
    for name, f in fields.items():
        if name in values:
            arguments[name] = _convert(hints[name], values[name], prefix + name, mistakes)
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            mistakes.append(f"{prefix}{name}: missing")
    if len(mistakes) > before:
        return None
    try:
        return cls(**arguments)
    except ConfigError as error:
        mistakes.append(prefix + str(error) if prefix else str(error))
        return None


def _convert(hint: Any, value: Any, path: str, mistakes: list[str]) -> Any:
    """`value` as the type `hint`; a mismatch is appended to `mistakes`."""
    origin, args = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, path + ".", mistakes)  # type: ignore[arg-type]
    if origin in (Union, types.UnionType):
        return None if value is None else _convert(next(a for a in args if a is not type(None)), value, path, mistakes)
    if origin is tuple:
        if hint == tuple[int, int] and isinstance(value, int):
            value = (value, value)
        length = None if args[-1] is ... else len(args)
        if isinstance(value, list | tuple) and length in (None, len(value)):
            return tuple(_convert(args[0], item, f"{path}[{i}]", mistakes) for i, item in enumerate(value))
    elif origin is Literal:
        if value in args:
            return value
    elif origin is dict:
        if isinstance(value, Mapping):
            return dict(value)
    elif isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    elif hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    mistakes.append(f"{path}: expected {_describe(hint)}, found {value!r}")
    return None


def _describe(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(str, args))
    if origin is tuple:
        return f"a list of {'' if args[-1] is ... else f'{len(args)} '}{_describe(args[0]).split(' ', 1)[1]}s"
    if origin is dict:
        return "settings (key: value)"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "some text"}[hint]


def plain(value: Any) -> Any:
    """Tuples become lists at any depth, for YAML and JSON."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted keys."""
    values: dict[str, Any] = {}
    for key, value in settings.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return values
