"""Tables as text, and numbers as they stand in them."""


def format_table(rows: list[list[str]]) -> str:
    """Columns of equal width, for a terminal."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(lines)


def percent(share: float | None) -> str:
    """`12.3 %` of a share, 0 to 1; empty where it is not known."""
    return "" if share is None else f"{100 * share:.1f} %"


def count(number: int | None) -> str:
    """`1,234`; empty where it is not known."""
    return "" if number is None else f"{number:,}"
