"""Slurm's hostlist expressions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distckpt.errors import ConfigurationError
from distckpt.launch.hostlist import HOSTS_MAX, expand


@pytest.mark.parametrize(
    ("expression", "hosts"),
    [
        ("login", ["login"]),
        ("a,b.example.com", ["a", "b.example.com"]),
        ("node[001-003,7]", ["node001", "node002", "node003", "node7"]),
        ("node[8-11]", ["node8", "node9", "node10", "node11"]),
        ("node[098-101]", ["node098", "node099", "node100", "node101"]),
        ("node[5]", ["node5"]),
        ("node[3,1]", ["node3", "node1"]),
        ("node[1-2]-ib,gpu[09-10]", ["node1-ib", "node2-ib", "gpu09", "gpu10"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
        ("[1-2]", ["1", "2"]),
        ("a,a,b", ["a", "a", "b"]),
    ],
)
def test_names_come_in_order_with_the_zeros_of_the_first(expression: str, hosts: list[str]) -> None:
    assert list(expand(expression)) == hosts


@pytest.mark.parametrize(
    "expression",
    [
        "",
        ",",
        "a,",
        ",a",
        "a,,b",
        "a b",
        "a[",
        "a]",
        "a[]",
        "a[1",
        "a[1-]",
        "a[-1]",
        "a[x]",
        "a[3-1]",
        "a[1]]",
        "a[[1]]",
    ],
)
def test_what_is_no_hostlist_is_refused_with_the_text(expression: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        expand(expression)
    assert repr(expression) in str(refused.value)


@pytest.mark.parametrize("expression", ["a[0-999999999]", "a[1-300][1-300]", "a[1-60000],b[1-60000]"])
def test_no_expression_fills_the_memory(expression: str) -> None:
    with pytest.raises(ConfigurationError, match=f"more than {HOSTS_MAX:,} hosts"):
        expand(expression)


@given(first=st.integers(0, 10_000), count=st.integers(1, 50), width=st.integers(1, 8))
def test_a_range_is_its_numbers_one_by_one(first: int, count: int, width: int) -> None:
    numbers = [str(first + each).zfill(len(str(first).zfill(width))) for each in range(count)]
    assert expand(f"n[{numbers[0]}-{first + count - 1}]") == tuple(f"n{number}" for number in numbers)
    assert expand(f"n[{','.join(numbers)}]") == tuple(f"n{number}" for number in numbers)


@given(st.text(alphabet="an[]-,01 ", max_size=12))
def test_any_text_is_read_or_refused(expression: str) -> None:
    try:
        hosts = expand(expression)
    except ConfigurationError:
        return
    assert hosts
    assert not any(set(host) & set("[], ") for host in hosts)
