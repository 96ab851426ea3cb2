"""The progress line says what, how far, how fast, and how long."""

import logging
import time

from noisy_student.stages.progress import Progress


def test_line_names_stage_rate_metric_and_time_left(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = Progress("student", total=100, unit="steps", items_per_unit=8)
    now[0] += 10
    progress.update(20, loss=1.25)
    assert capsys.readouterr().out == (
        "student: 20/100 steps | 16 images/s | loss 1.250 | 0:40 left\n"
    )
    now[0] += 1
    progress.update(22)  # Too soon for another line.
    assert capsys.readouterr().out == ""
    now[0] += 39
    progress.update(100)
    capsys.readouterr()
    timing = progress.finish("done well")
    assert capsys.readouterr().out == (
        "student: 100 steps in 0:50, 16 images/s, done well\n"
    )
    assert timing == {"seconds": 50.0, "images_per_second": 16.0}


def test_compiling_and_pauses_do_not_count_for_the_rate(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = Progress("student", total=100)
    now[0] += 60
    progress.update(10)
    assert "0 images/s | 9:00 left" in capsys.readouterr().out
    now[0] += 5
    with progress.paused():
        now[0] += 1000
    progress.update(20)
    assert "20/100 images | 2 images/s | 0:40 left" in capsys.readouterr().out


def test_resumed_work_counts_only_its_own_rate(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = Progress("label", total=100, start=50)
    assert "continues at 50/100" in capsys.readouterr().out
    now[0] += 10
    progress.update(60)
    assert "1 images/s" in capsys.readouterr().out


def test_quiet_above_warnings(capsys, monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    logger = logging.getLogger("noisy_student")
    logger.setLevel(logging.ERROR)
    try:
        progress = Progress("label", total=100, start=50)
        timing = progress.finish()
    finally:
        logger.setLevel(logging.NOTSET)
    assert capsys.readouterr().out == ""
    assert timing["seconds"] == 0
