"""Names of classes, as a JSON list or a name a line."""

import pytest

from data.class_names import read_class_names
from data.errors import InputError


def test_class_names_come_from_json_or_lines(tmp_path):
    (tmp_path / "a.json").write_text('["cat", "dog"]')
    (tmp_path / "a.txt").write_text("cat\ndog\n\n")
    for name in ("a.json", "a.txt"):
        assert read_class_names(str(tmp_path / name)) == ("cat", "dog")
    for content in ('["cat", "cat"]', '{"cat": 0}', "[]", "[1, 2]", "[", '"cat"'):
        (tmp_path / "b.json").write_text(content)
        with pytest.raises(InputError, match=r"`class_names` .*b\.json: expected"):
            read_class_names(str(tmp_path / "b.json"))
    (tmp_path / "latin.txt").write_bytes("Bär\n".encode("latin-1"))
    for name in ("latin.txt", ""):
        with pytest.raises(InputError, match="`class_names` .*expected a text file"):
            read_class_names(str(tmp_path / name))
    with pytest.raises(InputError, match="`class_names`: expected a file"):
        read_class_names(str(tmp_path / "none.txt"))
