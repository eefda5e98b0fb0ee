"""What a person is told about a policy file that is not even TOML."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyturn.core.errors import MalformedInput
from keyturn.flow.policy import read_file


def test_a_key_that_stands_twice_is_named_by_its_line(tmp_path: Path) -> None:
    file = tmp_path / "keyturn.toml"
    file.write_text("[sandbox]\ncpus = 1\ncpus = 2\n", encoding="utf-8")
    with pytest.raises(MalformedInput, match=r"^keyturn\.toml: a key stands there twice \(at line 3, column 9\)$"):
        read_file(file)
