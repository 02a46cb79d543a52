"""An original recipe, imported and written as ours."""

from collections.abc import Sequence
from pathlib import Path

from hybridvit.files import replacing
from hybridvit.training.yacs import import_yacs


def import_to(path: Path, out: Path, overrides: Sequence[str] = (), *, gpus: int = 8) -> dict[str, list[str]]:
    """Read a file as import_yacs does and write it as a recipe of ours. Gives what was lost, by reason, which `out` says, too."""
    imported = import_yacs(path, overrides, gpus=gpus)
    lost = {
        "Without effect in the original code": list(imported.without_effect),
        "No equivalent here": list(imported.no_equivalent),
    }
    header = [f"# Imported from {imported.origin}, {path.name}, as a run on {gpus} devices."]
    for title, keys in lost.items():
        header += [f"# {title}:", *(f"#   {key}" for key in keys)] if keys else []
    with replacing(out) as temporary:
        temporary.write_text("\n".join(header) + "\n" + imported.recipe.to_yaml(), encoding="utf-8")
    return lost
