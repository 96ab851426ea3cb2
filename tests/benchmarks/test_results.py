"""What benchmarks print, write and put into pages."""

import pytest

from benchmarks import results
from data import files
from data.errors import InputError
from noisy_student import tables


def test_a_table_has_its_rule_and_takes_short_rows():
    table = tables.markdown_table(["", "a, ms", "b"], [["x", "1", "2"], ["y", "not there"]])
    assert table == "| | a, ms | b |\n|---|---|---|\n| x | 1 | 2 |\n| y | not there |"


def test_one_value_has_no_spread():
    assert tables.mean_and_spread([1.0, 2.0, 3.0], 1) == "2.0 ± 1.0"
    assert tables.mean_and_spread([1.25], 2) == "1.25"


def test_only_what_is_between_the_markers_is_replaced(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- measured -->\nold\n<!-- /measured -->\nafter\n")
    for _ in range(2):
        tables.replace_marked(str(page), "new")
        expected = "before\n<!-- measured -->\nnew\n<!-- /measured -->\nafter\n"
        assert page.read_text() == expected


def test_a_page_without_its_places_is_refused_before(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- measured 6 -->\n<!-- /measured 6 -->\n")
    tables.check_marked(str(page), ["6"])
    with pytest.raises(InputError, match="<!-- measured 7 --> once in .*received it 0"):
        tables.check_marked(str(page), ["6", "7"])
    with pytest.raises(InputError, match="`page`: .*there is no"):
        tables.check_marked(f"{page}.txt", ["6"])


@pytest.mark.parametrize("given", [True, False])
def test_results_are_written_with_their_settings_where_asked_for(tmp_path, given):
    path = tmp_path / "found.json"
    results.write(str(path) if given else "", {"steps": 3}, rows=[1])
    assert path.exists() == given
    if given:
        assert files.read_json(str(path)) == {"settings": {"steps": 3}, "rows": [1]}
