# SPDX-License-Identifier: GPL-2.0-or-later
"""Configuration layers: which fragment counts, and which options are reported lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import UserInputError
from host_setup.kernel import layers, series
from host_setup.kernel.layers import Layer


def fragment(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_each_lost_option_is_named_with_wanted_got_and_fragment(tmp_path: Path) -> None:
    first_fragment = fragment(
        tmp_path, "one.config", "# why\nCONFIG_A=y\nCONFIG_B=n\nCONFIG_C=64\n\n# CONFIG_D is not set\n"
    )
    two = fragment(tmp_path, "two.config", 'CONFIG_E="text"\nCONFIG_F=y\nCONFIG_G=n\n')
    config = 'CONFIG_B=y\nCONFIG_C=32\nCONFIG_D=m\nCONFIG_E="text"\nCONFIG_F=m\n# CONFIG_G is not set\n'
    assert layers.lost_options(layers.wishes([first_fragment, two], "6.12.117"), config) == [
        "CONFIG_A: wanted y, got n (one.config)",
        "CONFIG_B: wanted n, got y (one.config)",
        "CONFIG_C: wanted 64, got 32 (one.config)",
        "CONFIG_D: wanted n, got m (one.config)",
        "CONFIG_F: wanted y, got m (two.config)",
    ]


def test_the_last_fragment_has_the_last_word(tmp_path: Path) -> None:
    first_fragment = fragment(tmp_path, "one.config", "CONFIG_A=n\n")
    two = fragment(tmp_path, "two.config", "CONFIG_A=y\n")
    assert layers.lost_options(layers.wishes([first_fragment, two], "6.12.117"), "CONFIG_A=y\n") == []
    assert layers.lost_options(layers.wishes([two, first_fragment], "6.12.117"), "CONFIG_A=y\n") == [
        "CONFIG_A: wanted n, got y (one.config)"
    ]


def test_a_line_that_is_no_option_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="not an option: CONFIG-A=y"):
        layers.wishes([fragment(tmp_path, "one.config", "CONFIG-A=y\n")], "6.12.117")


WRITTEN = """\
\ufeff# a comment
  # an indented one
CONFIG_A=y # why
CONFIG_B=64\t# bytes
  CONFIG_C="a # b" # no comment in there
CONFIG_D="say \\"hi\\" # x"
# CONFIG_E is not set # since it does not work
#CONFIG_F=y
CONFIG_G=0x10\r
CONFIG_H=""
"""
READ = {"A": "y", "B": "64", "C": '"a # b"', "D": '"say \\"hi\\" # x"', "E": "n", "G": "0x10", "H": '""'}


def test_a_fragment_is_read_as_people_write_it(tmp_path: Path) -> None:
    """With comments behind an option, or indented, with a byte order mark, and with line ends of Windows."""
    file = tmp_path / "one.config"
    file.write_bytes(WRITTEN.encode() + b"# caf\xe9\n")
    assert {wish.option.removeprefix("CONFIG_"): wish.value for wish in layers.wishes([file], "6.12.117")} == READ


RANGED = """\
CONFIG_A=y  # Linux <6.12
CONFIG_A=1\t# Linux >=6.12
CONFIG_B=y # Linux >=6.2,<7
# CONFIG_C is not set # Linux <6.7
CONFIG_D=y # Linux has it since 2.6
"""


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("6.1.192", {"A": "y", "C": "n", "D": "y"}),
        ("6.12.117", {"A": "1", "B": "y", "D": "y"}),
        ("7.3.4", {"A": "1", "D": "y"}),
    ],
)
def test_an_option_can_be_for_some_releases(tmp_path: Path, release: str, expected: dict[str, str]) -> None:
    file = fragment(tmp_path, "one.config", RANGED)
    assert {wish.option.removeprefix("CONFIG_"): wish.value for wish in layers.wishes([file], release)} == expected
    assert "Linux" not in layers._plain([file], release, tmp_path / "plain")[0].read_text()


def test_a_range_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match=r"not an option: CONFIG_A=y # Linux >=six"):
        layers.wishes([fragment(tmp_path, "one.config", "CONFIG_A=y # Linux >=six\n")], "6.12.117")


@pytest.mark.parametrize("line", ["CONFIG_A = y", "CONFIG_A=y z", 'CONFIG_A="a" b', "A=y", "CONFIG_A=", 'CONFIG_A="a'])
def test_what_kconfig_would_read_otherwise_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(UserInputError, match="not an option"):
        layers.wishes([fragment(tmp_path, "one.config", f"{line}\n")], "6.12.117")


def test_what_kconfig_gets_are_the_options_alone_from_a_path_that_its_script_can_read(tmp_path: Path) -> None:
    (tmp_path / "my series").mkdir()
    own = tmp_path / "my series/series.config"
    own.write_text(WRITTEN)
    (plain,) = layers._plain([own], "6.12.117", tmp_path / "fragments")
    assert " " not in str(plain.relative_to(tmp_path))
    assert plain.read_text() == (
        'CONFIG_A=y\nCONFIG_B=64\nCONFIG_C="a # b"\nCONFIG_D="say \\"hi\\" # x"\n'
        '# CONFIG_E is not set\nCONFIG_G=0x10\nCONFIG_H=""\n'
    )


def test_text_that_is_to_be_empty_may_as_well_not_be_there(tmp_path: Path) -> None:
    fragment = tmp_path / "one.config"
    fragment.write_text('CONFIG_KEYS=""\n')
    assert layers.lost_options(layers.wishes([fragment], "6.12.117"), "CONFIG_A=y\n") == []
    assert layers.lost_options(layers.wishes([fragment], "6.12.117"), 'CONFIG_KEYS=""\n') == []
    assert layers.lost_options(layers.wishes([fragment], "6.12.117"), 'CONFIG_KEYS="a.pem"\n') == [
        'CONFIG_KEYS: wanted "", got "a.pem" (one.config)'
    ]


def test_layers_on_demand_follow_the_base_and_the_series_comes_last(tmp_path: Path) -> None:
    own = fragment(tmp_path, "series.config", "CONFIG_A=y\n")
    stock = series.load("stock")
    base = layers.fragments([], stock)
    assert [file.stem for file in base] == list(layers.BASE)
    full = layers.fragments([Layer.DEBUG, Layer.INTEL], replace(stock, config=own))
    assert full == (*base, layers.FOLDER / "intel.config", layers.FOLDER / "debug.config", own)


def test_every_fragment_of_the_project_can_be_read_and_is_used() -> None:
    stems = {*layers.BASE, *layers.ON_OWN, *(layer.value for layer in Layer)}
    assert {file.stem for file in layers.FOLDER.glob("*.config")} == stems
    assert layers.wishes(sorted(layers.FOLDER.glob("*.config")), "6.12.117")
