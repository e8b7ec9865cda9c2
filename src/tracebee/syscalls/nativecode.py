"""Machine code in this process: how it is called, how it calls Python, and where buffers lie for it."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class _Buffer(ctypes.Structure):
    """Py_buffer (CPython's Include/pybuffer.h)."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_PYBUF_SIMPLE = 0
_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = (ctypes.py_object, ctypes.POINTER(_Buffer), ctypes.c_int)
_get_buffer.restype = ctypes.c_int
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = (ctypes.POINTER(_Buffer),)
_release_buffer.restype = None


class Pin:
    """A buffer that stays where it is, at `address`, until `release`; a bytearray cannot grow meanwhile."""

    __slots__ = ("_buffer", "address")

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._buffer: _Buffer | None = _Buffer()
        _get_buffer(data, ctypes.byref(self._buffer), _PYBUF_SIMPLE)
        # An empty buffer may have no address; nobody reads there.
        self.address: int = self._buffer.buf or 0

    def release(self) -> None:
        if self._buffer is not None:
            _release_buffer(ctypes.byref(self._buffer))
            self._buffer = None

    def __del__(self) -> None:
        self.release()


class Door:
    """The door to machine code that tracebee.engine.native asks for.  Numbers are 64 bits, unsigned."""

    def __init__(self) -> None:
        self._kept: list[object] = []

    def pin(self, data: bytes | bytearray | memoryview) -> Pin:
        return Pin(data)

    def function(self, address: int, arguments: int) -> Callable[..., int]:
        """The function at an address, with so many arguments."""
        made: Callable[..., int] = ctypes.PYFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * arguments)(address)
        return made

    def callback(self, function: Callable[..., int], arguments: int) -> int:
        """An address at which machine code can call `function`, which must not raise."""
        made = ctypes.PYFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * arguments)(function)
        self._kept.append(made)
        return ctypes.cast(made, ctypes.c_void_p).value or 0
