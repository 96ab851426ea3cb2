"""What lies where in the `work_dir` of a run: `iterate` writes it, others look for it.

config.json, summary.json, report/
data/                       shards of every set; duplicates/ among the unlabeled
generation_0/teacher/
generation_1/control/       trained on labels alone
generation_g/predictions/   of the teacher before
             balanced/
             student/
export/saved_model/
"""

import re

CONFIG, SUMMARY = "config.json", "summary.json"
DATA, DUPLICATES = "data", "data/duplicates"
TEACHER, CONTROL = "generation_0/teacher", "generation_1/control"
EXPORT, SAVED_MODEL = "export", "saved_model"
# Of rows of the paper's tables, which have a place of their own (`places.Shared`).
FINE_TUNED, FIXRES = "fine_tuned", "fixres"
GENERATIONS = "generation_*"  # A glob.


def _generation(number: int) -> str:
    return f"generation_{number}"


def predictions(number: int) -> str:
    return f"{_generation(number)}/predictions"


def balanced(number: int) -> str:
    return f"{_generation(number)}/balanced"


def student(number: int) -> str:
    return f"{_generation(number)}/student"


def role_of(name: str) -> tuple[str, int] | None:
    """Role and generation of a training by its name; None: it has none of these.

    Args:
        name: Such as `generation_1/student`.
    """
    match = re.fullmatch(r"generation_(\d+)/(teacher|student|control)", name)
    return (match[2], int(match[1])) if match else None
