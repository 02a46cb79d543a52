"""torch.compile's backend by names that torch does not promise: weights packed for their convolutions, and whole packages."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.export import ExportedProgram


def freezing() -> AbstractContextManager[Any]:
    """Within this context what is compiled has its weights as constants, packed; an option that only holds globally."""
    from torch._inductor import config

    return config.patch(freezing=True)


def write_package(program: ExportedProgram, path: Path, metadata: dict[str, str]) -> Path:
    """Compile a graph for this kind of machine. Returns where the file lies."""
    from torch._inductor import aoti_compile_and_package

    options = {"aot_inductor.metadata": metadata}
    return Path(aoti_compile_and_package(program, package_path=str(path), inductor_configs=options))


def read_package(path: Path) -> tuple[Callable[[Tensor], Tensor], dict[str, str]]:
    """What `write_package` wrote, as a function, and its metadata. Runs the machine code in the file."""
    from torch._inductor import aoti_load_package

    package = aoti_load_package(str(path))
    return package, package.get_metadata()
