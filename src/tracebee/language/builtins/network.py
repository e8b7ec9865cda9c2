"""Built-ins about network addresses and packets."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.builtins.base import Builtin, address_argument, integer_argument, literal_text
from tracebee.language.rules import is_integer
from tracebee.spec.types import (
    INT64,
    UINT8,
    UINT64,
    Array,
    Inet,
    Int,
    MacAddr,
    Pointer,
    Str,
    Type,
    Void,
)

if TYPE_CHECKING:
    from tracebee.language.ir import Address, Operand
    from tracebee.language.lower.lowering import Lowering
    from tracebee.language.passes.infer import Inference


class Ntop(Builtin):
    name = "ntop"
    forms = ("ntop(address)", "ntop(family, address)")
    description = "an internet address as text"
    minimum = 1
    maximum = 2

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        if len(call.arguments) == 2:
            integer_argument(infer, call, 0)
        type_ = infer.number(call.arguments[-1])
        if isinstance(type_, Array | Str):
            if type_.size not in (4, 16):
                infer.error("ntop() argument must be 4 or 16 bytes in size", call.span)
        elif not is_integer(type_) and not isinstance(type_, Void):
            infer.error(f"ntop() expects an integer or array argument, got {infer.noun(type_)}", call.span)
        return Inet()

    def store(self, low: Lowering, call: tree.Call, to: Address) -> None:
        from tracebee.language.lower import expressions, memory, places

        subject = call.arguments[-1]
        size = subject.type.size if isinstance(subject.type, Array | Str) else 4
        family: Operand = int(socket.AF_INET if size == 4 else socket.AF_INET6)
        if len(call.arguments) == 2:
            family = expressions.number(low, call.arguments[0])
        memory.zero(low, to, Inet().size)
        low.store(to, family, 4)
        if isinstance(subject.type, Array | Str):
            place = places.any_place(low, subject)
            if place.is_direct:
                memory.copy(low, to.plus(4), place.address, size)
            else:
                memory.read(low, to.plus(4), place.space, place.address, size)
        else:
            low.store(to.plus(4), expressions.number(low, subject), 4)


class Pton(Builtin):
    name = "pton"
    forms = ('pton("address")',)
    description = "the bytes of an internet address"
    minimum = maximum = 1

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        text = literal_text(infer, call, 0)
        data = self._bytes(text or "")
        if data is None:
            if text is not None:
                infer.error(
                    f"pton() expects a string argument of an IPv4/IPv6 address, got {text}", call.span
                )
            return Array(UINT8, 4)
        return Array(UINT8, len(data))

    @staticmethod
    def _bytes(text: str) -> bytes | None:
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                return socket.inet_pton(family, text)
            except OSError:
                continue
        return None

    def store(self, low: Lowering, call: tree.Call, to: Address) -> None:
        from tracebee.language.lower import memory

        assert isinstance(call.arguments[0], tree.Text)
        memory.store_bytes(low, to, self._bytes(call.arguments[0].text) or b"")


class Macaddr(Builtin):
    name = "macaddr"
    forms = ("macaddr(array)",)
    description = "a hardware address as text"
    minimum = maximum = 1

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        argument = call.arguments[0]
        type_ = infer.visit(argument)
        if isinstance(argument, tree.Text):
            infer.error("macaddr() does not support literal string arguments", call.span)
        elif not isinstance(type_, Array | Str | Void) or (not isinstance(type_, Void) and type_.size != 6):
            infer.error("macaddr() argument must be 6 bytes in size", call.span)
        return MacAddr()

    def store(self, low: Lowering, call: tree.Call, to: Address) -> None:
        from tracebee.language.lower import memory, places

        place = places.any_place(low, call.arguments[0])
        if place.is_direct:
            memory.copy(low, to, place.address, 6)
        else:
            memory.read(low, to, place.space, place.address, 6)


class Bswap(Builtin):
    name = "bswap"
    forms = ("bswap(n)",)
    description = "the bytes of a number in reverse order"
    minimum = maximum = 1

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        argument = call.arguments[0]
        type_ = integer_argument(infer, call, 0)
        width = type_.size if is_integer(type_) else 8
        if isinstance(argument, tree.Number) and not isinstance(type_, Void):
            width = type_.size
        return Int(width, False)

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        from tracebee.language.lower import expressions

        found = expressions.number(low, call.arguments[0])
        width = call.type.size
        return found if width == 1 else low.convert("swap", found, width * 8)


class SocketCookie(Builtin):
    name = "socket_cookie"
    forms = ("socket_cookie(sock)",)
    description = "a number that names a socket for its life"
    minimum = maximum = 1

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        type_ = infer.number(call.arguments[0])
        unit = infer.unit
        assert unit is not None
        if unit.kind.name not in ("fentry", "fexit", "rawtracepoint"):
            infer.error(f'socket_cookie can not be used with "{unit.kind.name}" probes', call.span)
        elif not isinstance(type_, Pointer) or str(type_.target) != "struct sock":
            infer.error("socket_cookie() only supports 'struct sock *' as the argument", call.span)
        return UINT64

    def value(self, low: Lowering, call: tree.Call) -> Operand:
        from tracebee.language.lower import expressions

        return low.call("get_socket_cookie", expressions.number(low, call.arguments[0]))


class Skboutput(Builtin):
    name = "skboutput"
    forms = ("skboutput(file, skb, length, offset)",)
    description = "write a packet to a pcap file; not available yet"
    minimum = maximum = 4
    has_effect = True

    def infer(self, infer: Inference, call: tree.Call) -> Type:
        literal_text(infer, call, 0)
        address_argument(infer, call, 1)
        integer_argument(infer, call, 2)
        integer_argument(infer, call, 3)
        infer.error("skboutput() is not available yet", call.span)
        return INT64

    def run(self, low: Lowering, call: tree.Call) -> None:
        raise AssertionError("skboutput() was refused")
