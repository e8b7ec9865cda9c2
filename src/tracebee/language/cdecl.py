"""The C part of a script: structures, enumerations, typedefs and ``#define`` constants.

It lays structures out as the x86-64 and arm64 psABIs do, bit fields and attributes included.  Headers may be
included; what is in them beyond declarations of types (functions, variables) is passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.cpp import CError, CMacro, CToken, Evaluator, Preprocessor
from tracebee.language.source import Source, Span
from tracebee.language.typetable import C_TYPES, TypeTable, c_integer
from tracebee.spec.types import (
    INT8,
    Array,
    Enum,
    Field,
    Pointer,
    Str,
    Struct,
    Type,
    Void,
    align_up,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.language.compile import Compilation

QUALIFIERS = frozenset(
    [
        "const",
        "volatile",
        "restrict",
        "__const",
        "__volatile__",
        "__restrict",
        "extern",
        "static",
        "inline",
        "__inline",
        "__inline__",
        "register",
        "__extension__",
        "_Noreturn",
        "__signed__",
        "_Atomic",
    ]
)
INTEGER_WORDS = frozenset(["unsigned", "signed", "long", "short", "int", "char", "__signed__"])
FLOATS = {"float": 4, "double": 8, "_Float128": 16, "__float128": 16}
KERNEL_FOLDERS = (
    "linux/",
    "net/",
    "asm/",
    "uapi/",
    "trace/",
    "generated/",
    "scsi/",
    "sound/",
    "crypto/",
    "rdma/",
)
MAX_MEMBERS = 20_000
PACKED = -1
"""Alignment of a member that has the attribute itself."""

MAX_NESTING = 100
"""How deep structures and the parentheses of declarators may nest."""


class Declarations:
    """What a script declares: `types` by C spelling ("struct foo", "size_t"), enumerators, constants."""

    def __init__(self) -> None:
        self.types: dict[str, Type] = {}
        self.enumerators: dict[str, tuple[int, Type]] = {}
        self.constants: dict[str, Constant] = {}
        self.undefined: dict[str, Struct] = {}


class Constant:
    """A ``#define`` without parameters, to stand in the script."""

    def __init__(self, macro: CMacro) -> None:
        self.macro = macro

    def expression(self, place: Span) -> tree.Expression | None:
        """The expression that it stands for, at a place in the script; None if it is none."""
        from tracebee.errors import SourceError
        from tracebee.language.diagnostics import Diagnostics
        from tracebee.language.parser import Parser

        if not self.macro.body:
            return None
        first, last = self.macro.body[0], self.macro.body[-1]
        text = first.source.text[first.start : last.end].replace("\\\n", "  ")
        diagnostics = Diagnostics()
        parser = Parser(Source(f"#define {self.macro.name}", f"{text};"), diagnostics)
        try:
            found = parser.expression()
        except (SourceError, Exception) as error:
            if isinstance(error, SourceError) or type(error).__name__ == "_Recover":
                return None
            raise
        if diagnostics.has_errors or parser.peek().text != ";":
            return None
        for node in tree.walk(found):
            node.span = place
        return found


def read_declarations(compilation: Compilation) -> Declarations:
    """Read the C parts of a script and its headers.  Mistakes go to the diagnostics."""
    reader = Reader(compilation)
    preprocessor = reader.preprocessor
    diagnostics = compilation.diagnostics
    for name in compilation.options.includes:
        text = f"#include <{name}>\n"
        reader.read(Source(f"--include {name}", text), 0, len(text))
    for part in compilation.program.c_parts:
        reader.read(part.span.source, part.span.start, part.span.end)
    if preprocessor.conditions:
        diagnostics.error("#if without #endif", compilation.program.c_parts[-1].span)
    reader.settle()
    for name, macro in preprocessor.macros.items():
        if macro.parameters is None:
            reader.declarations.constants[name] = Constant(macro)
    return reader.declarations


class Reader:
    """Parses declarations out of preprocessed tokens."""

    def __init__(self, compilation: Compilation) -> None:
        self.compilation = compilation
        self.diagnostics = compilation.diagnostics
        self.declarations = Declarations()
        self.types = TypeTable(compilation.machine.btf, self.declarations)
        self.in_header = 0
        self.depth = 0
        self.preprocessor = Preprocessor(self.include, self._predefined())
        self.tokens: list[CToken] = []
        self.at = 0

    def _predefined(self) -> dict[str, str]:
        machine = self.compilation.machine
        defined = {"__BPFTRACE__": "1", "__TRACEBEE__": "1", f"__{machine.arch.name}__": "1", "__LP64__": "1"}
        if machine.btf() is not None:
            defined["BPFTRACE_HAVE_BTF"] = "1"
        return defined

    def include(self, name: str, is_system: bool) -> Source | None:
        """The source of a header.  The kernel's own are not needed where there is BTF."""
        found = self.compilation.machine.read_header(name, self.compilation.options.include_paths)
        if found is not None:
            path, text = found
            self.in_header += 1
            return Source(path, text)
        if name.startswith(KERNEL_FOLDERS) and self.types.btf is not None:
            return None
        raise CError(f"'{name}' file not found")

    def read(self, source: Source, start: int, end: int) -> None:
        """Read one part of the script."""
        try:
            tokens = list(self.preprocessor.run(source, start, end))
        except CError as error:
            self._complain(error, Span(source, start, end))
            return
        self.tokens, self.at = tokens, 0
        while self.at < len(self.tokens):
            before = self.at
            self.depth = 0
            try:
                self.declaration()
            except CError as error:
                self.tokens = tokens
                if self.tokens[before].source is source:
                    self._complain(error, Span(source, start, end))
                    return
                self._skip(before)

    def _complain(self, error: CError, span: Span) -> None:
        token = error.token
        if token is not None and token.source is span.source:
            span = Span(token.source, token.start, token.end)
        self.diagnostics.error(error.message, span)

    def _skip(self, start: int) -> None:
        """Pass over a declaration that was not understood: to its semicolon or behind its body."""
        self.at = start
        depth = 0
        while self.at < len(self.tokens):
            text = self.tokens[self.at].text
            self.at += 1
            if text in ("{", "(", "["):
                depth += 1
            elif text in ("}", ")", "]"):
                depth -= 1
                if depth <= 0 and text == "}" and self.peek() != ";":
                    following = self.peek()
                    if not following or following[0].isalpha() or following[0] == "_":
                        return
            elif text == ";" and depth <= 0:
                return

    # --- tokens

    def peek(self) -> str:
        return self.tokens[self.at].text if self.at < len(self.tokens) else ""

    def take(self) -> CToken:
        if self.at >= len(self.tokens):
            raise CError("C declaration ends too early", self.tokens[-1] if self.tokens else None)
        self.at += 1
        return self.tokens[self.at - 1]

    def nest(self) -> None:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise CError(
                "C declaration is nested too deeply", self.tokens[min(self.at, len(self.tokens) - 1)]
            )

    def expect(self, text: str) -> CToken:
        token = self.take()
        if token.text != text:
            raise CError(f"expected '{text}' in C declaration", token)
        return token

    def parenthesized(self) -> list[CToken]:
        """The tokens between a '(' and its ')'."""
        self.expect("(")
        found: list[CToken] = []
        depth = 1
        while True:
            token = self.take()
            depth += {"(": 1, ")": -1}.get(token.text, 0)
            if depth == 0:
                return found
            found.append(token)

    # --- declarations

    def declaration(self) -> None:
        if self.peek() == ";":
            self.take()
            return
        while self.peek() == "__extension__":
            self.take()
        is_typedef = self.peek() == "typedef"
        if is_typedef:
            self.take()
        base = self.specifiers()
        while self.peek() and self.peek() != ";":
            name, type_ = self.declarator(base)
            while self.peek() in ("__attribute__", "__attribute", "__asm__"):
                self.take()
                self.parenthesized()
            if is_typedef and name is not None:
                self.declarations.types.setdefault(name.text, type_)
            if self.peek() == "=" or self.peek() == "{":
                raise CError("only types and constants can be declared", self.tokens[self.at])
            if self.peek() != ",":
                break
            self.take()
        if self.at < len(self.tokens):
            if self.peek() == ";":
                self.take()
            elif not isinstance(base, Struct | Enum):
                raise CError("expected ';' in C declaration", self.tokens[self.at])

    def specifiers(self) -> Type:
        """The words in front of a declarator."""
        words: list[str] = []
        found: Type | None = None
        while True:
            text = self.peek()
            if text in QUALIFIERS:
                self.take()
            elif text in ("__attribute__", "__attribute"):
                self.take()
                self.parenthesized()
            elif text in ("struct", "union"):
                found = self.composite()
            elif text == "enum":
                found = self.enumeration()
            elif text in INTEGER_WORDS or (text in ("double",) and words == ["long"]):
                words.append(self.take().text.replace("__signed__", "signed"))
            elif text in ("typeof", "__typeof__", "__builtin_va_list", "__int128"):
                raise CError(f"{text} is not supported", self.tokens[self.at])
            elif found is None and not words and text and (text[0].isalpha() or text[0] == "_"):
                found = self.named_type(self.take())
            else:
                break
        if words:
            if "double" in words:
                return Void(16)
            integer = c_integer(" ".join(words))
            assert integer is not None
            return integer
        if found is None:
            raise CError("expected a type", self.tokens[self.at] if self.at < len(self.tokens) else None)
        return found

    def named_type(self, token: CToken) -> Type:
        if token.text == "void":
            return Void()
        if token.text in FLOATS:
            return Void(FLOATS[token.text])
        declared = self.declarations.types.get(token.text)
        found = declared or C_TYPES.get(token.text) or self.types.find(token.text)
        if found is None:
            raise CError(f"unknown type name '{token.text}'", token)
        return found

    def declarator(self, base: Type) -> tuple[CToken | None, Type]:
        """Pointers, a name, arrays, parameters; gives the name, if there is one, and the type."""
        while self.peek() == "*" or self.peek() in QUALIFIERS:
            if self.take().text == "*":
                base = Pointer(base, "")
        while self.peek() in ("__attribute__", "__attribute"):
            self.take()
            self.parenthesized()
        name: CToken | None = None
        inner: list[CToken] | None = None
        if self.peek() == "(":
            inner = self.parenthesized()
        elif self.at < len(self.tokens) and self.tokens[self.at].kind == "word":
            name = self.take()
        sizes: list[int] = []
        is_function = False
        while self.peek() in ("[", "("):
            if self.peek() == "(":
                self.parenthesized()
                is_function = True
                continue
            self.take()
            size: list[CToken] = []
            while self.peek() != "]":
                size.append(self.take())
            self.take()
            sizes.append(self.constant(size) if size else 0)
        if is_function:
            base = Void()
        for count in reversed(sizes):
            base = array_of(base, count)
        if inner is not None:
            self.nest()
            outer, at = self.tokens, self.at
            self.tokens, self.at = inner, 0
            name, base = self.declarator(base)
            self.tokens, self.at = outer, at
            self.depth -= 1
        return name, base

    def constant(self, tokens: list[CToken]) -> int:
        value = Evaluator(tokens, self.enumerator_value, self.size_of).value()
        if not 0 <= value < 1 << 31:
            raise CError("size is out of range", tokens[0])
        return value

    def enumerator_value(self, name: str) -> int | None:
        known = self.declarations.enumerators.get(name)
        if known is not None:
            return known[0]
        found = self.types.constant(name)
        return None if found is None else found[0]

    def enumerator_after(self, values: list[tuple[int, str]]) -> Callable[[str], int | None]:
        """A look-up that knows the enumerators of the enumeration being read so far, too."""

        def look_up(name: str) -> int | None:
            for value, known in values:
                if known == name:
                    return value
            return self.enumerator_value(name)

        return look_up

    def size_of(self, tokens: list[CToken]) -> int:
        outer, at = self.tokens, self.at
        self.tokens, self.at = tokens, 0
        try:
            _, type_ = self.declarator(self.specifiers())
            return type_.size
        finally:
            self.tokens, self.at = outer, at

    # --- enumerations

    def enumeration(self) -> Type:
        self.take()
        self.attributes()
        tag = self.take().text if self.peek() and self.peek() != "{" else ""
        if self.peek() != "{":
            found = self.declarations.types.get(f"enum {tag}") or self.types.find(f"enum {tag}")
            if found is None:
                raise CError(f"unknown type 'enum {tag}'", self.tokens[self.at - 1])
            return found
        self.take()
        values: list[tuple[int, str]] = []
        following = 0
        while self.peek() != "}":
            name = self.take()
            if name.kind != "word":
                raise CError("expected the name of an enumerator", name)
            self.attributes()
            if self.peek() == "=":
                self.take()
                tokens: list[CToken] = []
                depth = 0
                while depth or self.peek() not in (",", "}"):
                    token = self.take()
                    depth += {"(": 1, ")": -1}.get(token.text, 0)
                    tokens.append(token)
                following = Evaluator(tokens, self.enumerator_after(values), self.size_of).value()
            values.append((following, name.text))
            following += 1
            if self.peek() == ",":
                self.take()
        self.take()
        self.attributes()
        numbers = [value for value, _ in values]
        wide = any(not -(1 << 31) <= value < 1 << 32 for value in numbers)
        type_ = Enum(tag, 8 if wide else 4, any(value < 0 for value in numbers), tuple(values))
        if tag:
            self.declarations.types[f"enum {tag}"] = type_
        for value, name_text in values:
            self.declarations.enumerators[name_text] = (value, type_)
        return type_

    # --- structures

    def attributes(self) -> tuple[bool, int]:
        """Whether there is a packed attribute, and the largest aligned(n)."""
        packed, aligned = False, 0
        while self.peek() in ("__attribute__", "__attribute", "__packed"):
            if self.take().text == "__packed":
                packed = True
                continue
            tokens = self.parenthesized()
            for index, token in enumerate(tokens):
                if token.text in ("packed", "__packed__"):
                    packed = True
                elif token.text in ("aligned", "__aligned__"):
                    aligned = max(aligned, self.alignment(tokens[index + 1 :]))
        return packed, aligned

    def alignment(self, following: list[CToken]) -> int:
        """The bytes that ``aligned`` asks for, from the tokens behind it."""
        if not following or following[0].text != "(":
            return 16  # __BIGGEST_ALIGNMENT__ without vector extensions
        outer, at = self.tokens, self.at
        self.tokens, self.at = following, 0
        try:
            inside = self.parenthesized()
        finally:
            self.tokens, self.at = outer, at
        value = self.constant(inside) if inside else 0
        if value < 1 or value & (value - 1):
            raise CError("alignment is not a power of two", following[0])
        return value

    def composite(self) -> Struct:
        """``struct`` or ``union`` with its tag, body, or both."""
        keyword = self.take()
        kind = keyword.text
        packed, aligned = self.attributes()
        tag = ""
        if self.at < len(self.tokens) and self.tokens[self.at].kind == "word":
            tag = self.take().text
        if self.peek() != "{":
            return self.reference(kind, tag)
        self.take()
        self.nest()
        members: list[tuple[str, Type, int, int]] = []
        while self.peek() != "}":
            self.members(members)
            if len(members) > MAX_MEMBERS:
                raise CError("structure has too many members", self.tokens[self.at - 1])
        self.take()
        self.depth -= 1
        more_packed, more_aligned = self.attributes()
        fields, size, alignment = lay_out(kind, members, packed or more_packed, max(aligned, more_aligned))
        struct = self.declarations.undefined.pop(f"{kind} {tag}", None) if tag else None
        origin = ("c", keyword.source.name, keyword.start)
        if struct is None:
            struct = Struct(kind, tag, size, alignment, origin, lambda: fields)
        else:
            struct.complete(size, alignment, origin, lambda: fields)
        if tag:
            self.declarations.types[f"{kind} {tag}"] = struct
        return struct

    def reference(self, kind: str, tag: str) -> Struct:
        """A structure that is named: declared already, or to be declared, or the kernel's."""
        if not tag:
            raise CError(f"{kind} without a name or members", self.tokens[self.at - 1])
        name = f"{kind} {tag}"
        known = self.declarations.types.get(name)
        if isinstance(known, Struct):
            return known
        struct = self.declarations.undefined.get(name)
        if struct is None:
            struct = Struct(kind, tag, 0, 1, ("c", name), lambda: ())
            self.declarations.undefined[name] = struct
            found = self.types.find(name)
            if isinstance(found, Struct):
                struct.complete(found.size, found.align, found.origin, lambda: found.fields)
        return struct

    def members(self, into: list[tuple[str, Type, int, int]]) -> None:
        """One line of members: (name, type, bits, alignment); bits is -1 for one that is no bit field, and
        the alignment PACKED, 0 or what an attribute asks for."""
        if self.peek() == ";":
            self.take()
            return
        self.attributes()
        base = self.specifiers()
        if self.peek() == ";" or (self.peek() == "}" and isinstance(base, Struct)):
            if isinstance(base, Struct):
                into.append(("", base, -1, 0))
            if self.peek() == ";":
                self.take()
            return
        while True:
            if self.peek() == ":":
                name, type_ = None, base
            else:
                name, type_ = self.declarator(base)
            bits = -1
            if self.peek() == ":":
                self.take()
                width: list[CToken] = []
                while self.peek() not in (",", ";", "}", "__attribute__"):
                    width.append(self.take())
                bits = self.constant(width)
                if bits > type_.size * 8:
                    raise CError("bit field is wider than its type", width[0])
            packed, aligned = self.attributes()
            if packed and not aligned:
                aligned = PACKED
            into.append(("" if name is None else name.text, type_, bits, aligned))
            if self.peek() != ",":
                break
            self.take()
        # bpftrace's scripts leave out the last semicolon now and then.
        if self.peek() != "}":
            self.expect(";")

    def settle(self) -> None:
        """Structures that were only named stay so: pointers to them can be printed, not followed."""


def array_of(element: Type, count: int) -> Type:
    """An array; one of char is a string."""
    if element == INT8 and count:
        return Str(count)
    return Array(element, count)


def lay_out(
    kind: str, members: list[tuple[str, Type, int, int]], packed: bool, aligned: int
) -> tuple[tuple[Field, ...], int, int]:
    """Fields with their offsets, size and alignment of a structure or union (System V psABI, 3.1.2)."""
    fields: list[Field] = []
    bit = 0  # the next free bit
    largest = 0
    alignment = 1
    for name, type_, bits, member_aligned in members:
        own = 1 if packed or member_aligned == PACKED else type_.align
        if isinstance(type_, Void) and type_.size and not packed and member_aligned != PACKED:
            own = min(type_.size, 16)
        own = max(own, member_aligned)
        if kind == "union":
            bit = 0
        unit = max(1, type_.size) * 8
        if bits >= 0:
            if bits == 0:
                bit = align_up(bit, unit)
                continue
            if not packed and bit // unit != (bit + bits - 1) // unit:
                bit = align_up(bit, unit)
            start = bit // unit * (unit // 8)
            if name:
                fields.append(Field(name, type_, start, bits, bit - start * 8))
            bit += bits
        else:
            bit = align_up(bit, own * 8)
            fields.append(Field(name, type_, bit // 8))
            bit += type_.size * 8
        if bits < 0 or name:
            alignment = max(alignment, own)
        largest = max(largest, (bit + 7) // 8)
    alignment = max(alignment, aligned)
    return tuple(fields), align_up(largest, alignment), alignment
