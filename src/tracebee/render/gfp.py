"""The names of page allocation flags (gfp_t), as the kernel's %pGg writes them.

Values: include/linux/gfp_types.h.  Order: __def_gfpflag_names in include/trace/events/mmflags.h, which
tries the names of many bits first.  Bits from 24 on move with the kernel's configuration (KASAN_HW_TAGS,
LOCKDEP, SLAB_OBJ_EXT), so they stay a number rather than get a name that may be wrong.
"""

from __future__ import annotations

_BITS = (
    "GFP_DMA",
    "__GFP_HIGHMEM",
    "GFP_DMA32",
    "__GFP_MOVABLE",
    "__GFP_RECLAIMABLE",
    "__GFP_HIGH",
    "__GFP_IO",
    "__GFP_FS",
    "__GFP_ZERO",
    "",  # ___GFP_UNUSED_BIT
    "__GFP_DIRECT_RECLAIM",
    "__GFP_KSWAPD_RECLAIM",
    "__GFP_WRITE",
    "__GFP_NOWARN",
    "__GFP_RETRY_MAYFAIL",
    "__GFP_NOFAIL",
    "__GFP_NORETRY",
    "__GFP_MEMALLOC",
    "__GFP_COMP",
    "__GFP_NOMEMALLOC",
    "__GFP_HARDWALL",
    "__GFP_THISNODE",
    "__GFP_ACCOUNT",
    "__GFP_ZEROTAGS",
)

_HIGHMEM, _MOVABLE, _HIGH, _IO, _FS = 1 << 1, 1 << 3, 1 << 5, 1 << 6, 1 << 7
_DIRECT_RECLAIM, _KSWAPD_RECLAIM = 1 << 10, 1 << 11
_NOWARN, _COMP, _NOMEMALLOC, _HARDWALL, _ACCOUNT = 1 << 13, 1 << 18, 1 << 19, 1 << 20, 1 << 22

_RECLAIM = _DIRECT_RECLAIM | _KSWAPD_RECLAIM
_KERNEL = _RECLAIM | _IO | _FS
_USER = _KERNEL | _HARDWALL
_HIGHUSER_MOVABLE = _USER | _HIGHMEM | _MOVABLE
_TRANSHUGE_LIGHT = (_HIGHUSER_MOVABLE | _COMP | _NOMEMALLOC | _NOWARN) & ~_RECLAIM

_NAMES = (
    (_TRANSHUGE_LIGHT | _DIRECT_RECLAIM, "GFP_TRANSHUGE"),
    (_TRANSHUGE_LIGHT, "GFP_TRANSHUGE_LIGHT"),
    (_HIGHUSER_MOVABLE, "GFP_HIGHUSER_MOVABLE"),
    (_USER | _HIGHMEM, "GFP_HIGHUSER"),
    (_USER, "GFP_USER"),
    (_KERNEL | _ACCOUNT, "GFP_KERNEL_ACCOUNT"),
    (_KERNEL, "GFP_KERNEL"),
    (_RECLAIM | _IO, "GFP_NOFS"),
    (_HIGH | _KSWAPD_RECLAIM, "GFP_ATOMIC"),
    (_RECLAIM, "GFP_NOIO"),
    (_KSWAPD_RECLAIM | _NOWARN, "GFP_NOWAIT"),
    *((1 << bit, name) for bit, name in enumerate(_BITS) if name),
)


def gfp_text(flags: int) -> str:
    """The names joined by ``|``, what is left over as one hexadecimal number; ``0`` without any flag."""
    parts = []
    for mask, name in _NAMES:
        if flags & mask == mask:
            parts.append(name)
            flags &= ~mask
    if flags or not parts:
        parts.append(f"{flags:#x}" if flags else "0")
    return "|".join(parts)
