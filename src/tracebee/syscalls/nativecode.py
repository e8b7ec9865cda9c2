"""Machine code in this process: how it is called, how it calls Python, and where buffers lie for it."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from tracebee.errors import InternalError, NotSupportedError

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
        self._libc: ctypes.CDLL | None = None

    def compile(self, text: str) -> Callable[[str], int]:
        """Machine code of a module in LLVM's text; what comes gives the address of a function by its name.

        Raises NotSupportedError if llvmlite is not there.
        """
        try:
            from llvmlite import binding
        except ImportError as error:
            raise NotSupportedError(
                "the native path without llvmlite", hint="pip install tracebee[jit]"
            ) from error
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        target = binding.Target.from_default_triple()
        machine = target.create_target_machine(
            cpu=binding.get_host_cpu_name(),
            features=binding.get_host_cpu_features().flatten(),
            opt=2,
            jit=True,
        )
        try:
            module = binding.parse_assembly(text)
        except RuntimeError as error:
            raise InternalError(f"LLVM does not take what was made of a program: {error}") from error
        options = binding.create_pipeline_tuning_options(speed_level=2)
        builder = binding.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
        executor = binding.create_mcjit_compiler(module, machine)
        executor.finalize_object()
        self._kept += [executor, machine]
        address_of: Callable[[str], int] = executor.get_function_address
        return address_of

    def symbol(self, name: str) -> int:
        """The address of a function of the C library."""
        if self._libc is None:
            self._libc = ctypes.CDLL(None)
        return ctypes.cast(self._libc[name], ctypes.c_void_p).value or 0

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
