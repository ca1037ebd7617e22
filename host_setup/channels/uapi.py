# SPDX-License-Identifier: GPL-2.0-or-later
"""What our modules and Python agree on; ``python -m guest_images.interface`` makes it of the header."""

from __future__ import annotations

import struct
from enum import IntEnum

PAGE_BYTES = 4096
CANARY_SLOTS = 16
APPROACH = 165
FREE_BLOCKS = 64
FREE_ORDER = 5
FREE_SHARED = 16
FREE_RUN = 8
EXITS_KEPT = 16

CANARY_LAYOUT = struct.Struct("<IIQQ")
HYPERCALL_LAYOUT = struct.Struct("<QQQq")
ATTACK_LAYOUT = struct.Struct("<IIQQQqQ")
SLOT_LAYOUT = struct.Struct("<QQQII")
PAGES_LAYOUT = struct.Struct("<QQ")
VM_LAYOUT = struct.Struct("<IIQQQQ")
EXIT_LAYOUT = struct.Struct("<IiIIQII")
STRING_LAYOUT = struct.Struct("<IIIIIIIIQQQq")

# ioctl numbers
CANARY_PLANT = 0xC0185301
CANARY_READ = 0xC0185302
CANARY_SHARE = 0xC0185303
CANARY_UNSHARE = 0xC0185304
CANARY_STATE = 0xC0185305
HYPERCALL = 0xC0205306
SHARE_FREE = 0x5307
TAKE_BACK_ENDS = 0x5308
ATTACK = 0xC0305310
VM = 0xC0285320
EXITS = 0xC2205330
STRING = 0xC0405340


class State(IntEnum):
    """``enum sealproof_state``."""

    PLAIN = 1
    PRIVATE = 2
    SHARED = 3


class Method(IntEnum):
    """``enum sealproof_method``."""

    COPY_FROM_USER = 1
    COPY_TO_USER = 2
    DIRECT_MAP_READ = 3
    DIRECT_MAP_WRITE = 4
    DIRECT_MAP_LOADS = 5
    KMAP_LOCAL_READ = 6
    KMAP_LOCAL_WRITE = 7
    MEMREMAP_READ = 8
    CPU_READ = 9
    WATCH_START = 10
    WATCH_STOP = 11
    GET_USER_PAGES = 12
    GET_USER_PAGES_FAST = 13
    PIN_USER_PAGES = 14
    ACCESS_VM_READ = 15
    ACCESS_VM_WRITE = 16
    KGDB_READ = 17
    KGDB_WRITE = 18
    VMAP_READ = 19
    VMAP_WRITE = 20
    GET_AS_KVM = 21
    DIRECT_MAP_AGAIN = 22
    WATCH_START_YIELDING = 23
    GET_USER_PAGES_WITH = 24
    DIRECT_MAP_SPLIT = 25
