"""docs/scale.md says what benchmarks/scale.py computes."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def scale() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scale", ROOT / "benchmarks" / "scale.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_on_scale_has_the_tables_of_the_calculation(scale: ModuleType) -> None:
    measured = json.loads(scale.MEASURED.read_text())
    page = (ROOT / "docs" / "scale.md").read_text()
    for table in (scale.measured_table(measured), scale.computed_table(measured), scale.memory_table()):
        assert table in page, f"Replace a table of docs/scale.md by what benchmarks/scale.py prints:\n{table}"


def test_a_step_is_what_its_parts_make_it(scale: ModuleType) -> None:
    """CvT-13 on 8 GPUs by hand: 256 pictures, 4.5 G multiply-accumulates, 20.0 M weights."""
    one = scale.step("cvt_13", 8, loading_rate=333)
    assert one.compute == pytest.approx(256 * 6 * 4.5e9 / 78e12, rel=0.02)
    assert one.all_reduce == pytest.approx(2 * 7 / 8 * 80e6 / 200e9, rel=0.01)
    assert one.seconds == one.compute
    assert one.cores == pytest.approx(256 / one.compute / 333)
    assert scale.step("cvt_13", 8, loading_rate=33).binds == "loading"
    assert scale.step("cvt_13", 512, loading_rate=333).binds == "all-reduce"
