"""What reads files here, and files for it to be damaged: one class a kind of file.

A reader makes inputs (`make`: the same bytes for the same generator) and reads them
(`read`), as the project's own code does. `read` returns, or raises `InputError`; anything
else is a finding. It also raises `AssertionError` where a damage cost more than it must.
"""

from benchmarks.torture.readers import images, json_files, records, tables, weights
from benchmarks.torture.readers.base import Reader

READERS: dict[str, type[Reader]] = {
    reader.name: reader
    for module in (records, json_files, tables, images, weights)
    for reader in module.READERS
}
__all__ = ["READERS", "Reader"]
