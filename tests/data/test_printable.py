"""What strangers' names can do to a terminal, a spreadsheet and a CSV reader: nothing."""

import csv
import io

from data.printable import PrintableStream, printable, write_csv

HOSTILE = ["\x1b]0;title\x07", "a\u202egnp.exe", "\udcff", "\x9b2J", "bell\x07"]


def test_nothing_that_a_terminal_obeys_is_left():
    shown = printable("".join(HOSTILE))
    assert shown == r"\x1b]0;title\x07a\u202egnp.exe\udcff\x9b2Jbell\x07"
    assert shown.isascii()


def test_text_progress_and_emoji_stay():
    text = "\rstudent: 3/4 steps\n\tcafé 😀 – 日本語"
    assert printable(text) == text


def test_stream_prints_printably_and_is_the_stream_otherwise():
    stream = io.StringIO()
    print("\x1b[2J", file=PrintableStream(stream), flush=True)
    assert stream.getvalue() == "\\x1b[2J\n"
    assert not PrintableStream(stream).isatty()


def test_cells_read_back_and_are_no_formulas():
    names = ["=cmd()|'x'!A1", "+1", "-rf", "@SUM(A1)", "\tx", "\rx", "'quoted'", "", "a\rb"]
    names += ["a\nb", 'a,"b";c', "e\u0301", " space ", "1e5", *HOSTILE]
    file = io.StringIO(newline="")
    write_csv(file, [("file", "confidence"), *((name, 0.5) for name in names)])
    rows = list(csv.reader(io.StringIO(file.getvalue(), newline="")))
    assert rows[0] == ["file", "confidence"]
    assert [row[0][1:] if row[0][:1] == "'" else row[0] for row in rows[1:]] == names
    assert not [row for row in rows if row[0].startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert {row[1] for row in rows[1:]} == {"0.5"}
