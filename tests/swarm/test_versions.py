"""Which versions master and workers must share, and what is said when they do not."""

from __future__ import annotations

import pytest

from loadtest.swarm.versions import deciding_versions, difference


def test_equal_versions_have_no_difference() -> None:
    assert difference(deciding_versions(), deciding_versions()) is None


@pytest.mark.parametrize("name", ["loadtest", "schema", "python", "numpy", "faker", "tiktoken"])
def test_each_of_them_decides(name: str) -> None:
    here = deciding_versions()
    text = difference(here, {**here, name: "0.0.1"})
    assert text is not None and "\n" not in text
    assert f"{name} {here[name]} on the master and 0.0.1 on the worker; install the same" in text


def test_a_version_that_one_side_does_not_know_is_a_difference() -> None:
    here = deciding_versions()
    assert "numpy none on the master" in (difference({k: v for k, v in here.items() if k != "numpy"}, here) or "")
