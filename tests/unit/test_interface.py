# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from guest_images.interface import HEADER, PYTHON, python
from host_setup.channels import uapi

SMALL = """
#define SEALPROOF_MOST\t2
struct sealproof_pair {
\t__u32 first, second;\t/* in */
\t__s64 result;
};
struct sealproof_pairs {
\t__u64 count;
\tstruct sealproof_pair pair[SEALPROOF_MOST];
};
#define SEALPROOF_ASK\t_IOWR('S', 0x21, struct sealproof_pairs)
#define SEALPROOF_GO\t_IO('S', 0x22)
enum sealproof_word {
\tSEALPROOF_YES = 1,
\tSEALPROOF_NO = 2,
};
"""


def test_python_says_what_the_header_says() -> None:
    assert PYTHON.read_text() == python(HEADER.read_text()), "run: python -m guest_images.interface"


def test_numbers_are_those_that_the_header_names_in_its_comments() -> None:
    of_guests = (uapi.CANARY_PLANT, uapi.CANARY_STATE, uapi.HYPERCALL, uapi.SHARE_FREE, uapi.TAKE_BACK_ENDS)
    numbers = (*of_guests, uapi.ATTACK, uapi.VM, uapi.EXITS)
    text = HEADER.read_text()
    assert all(f"/* {number:#x} */" in text for number in numbers)
    assert (uapi.ATTACK_LAYOUT.size, len(uapi.Method)) == (48, 25)


def test_layouts_and_ioctls_follow_from_the_structures() -> None:
    code = python(SMALL)
    assert 'PAIR_LAYOUT = struct.Struct("<IIq")' in code
    assert 'PAIRS_LAYOUT = struct.Struct("<QIIqIIq")' in code
    assert "ASK = 0xC0285321\nGO = 0x5322\n" in code
    assert "class Word(IntEnum):" in code
    assert code.endswith("    YES = 1\n    NO = 2\n")


@pytest.mark.parametrize("field", ["int first;", "\t__u16 first;", "\tstruct other first;", "\t__u64 first : 3;"])
def test_field_of_another_kind_is_refused(field: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        python(f"struct sealproof_pair {{\n{field}\n}};\n")
