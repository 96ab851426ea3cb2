"""Lets timm be imported where torchvision is missing; its models do not need it.

timm imports torchvision for its data transforms and for a few optional layers.
`install` answers these imports with empty modules, and does nothing where
torchvision is there.
"""

import enum
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types

_INTERPOLATIONS = "NEAREST NEAREST_EXACT BILINEAR BICUBIC BOX HAMMING LANCZOS"


def install() -> None:
    if importlib.util.find_spec("torchvision") is None:
        sys.meta_path.append(_Finder())


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname, path=None, target=None):  # noqa: ARG002
        if fullname.split(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec):
        return _Module(spec.name)

    def exec_module(self, module):
        pass


class _Module(types.ModuleType):
    """A module in which every name is an empty class."""

    __version__ = "0.0"

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "InterpolationMode":
            return enum.Enum(name, _INTERPOLATIONS)
        return type(name, (), {})
