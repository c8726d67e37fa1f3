"""livepatch catches every way in which a function can be held, and restores it whatever happens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext

import pytest

import kmemlab.mm.buddy as buddy
from kmemlab.mm.buddy import expand, find_buddy_pfn
from kmemlab.mm.buddy import find_buddy_pfn as other_name
from kmemlab.sim import recorder
from kmemlab.sim.hook import Function, Hook, set_recorded
from kmemlab.sim.kernel import invented
from kmemlab.sim.livepatch import livepatch, patches
from kmemlab.sim.recorder import traced_functions
from kmemlab.types.errors import BadPatch

from .bare import Bench

TABLE = {"buddy": find_buddy_pfn}


class Holder:
    method = staticmethod(find_buddy_pfn)


def as_default(pfn: int, function=find_buddy_pfn) -> int:
    return function(pfn, 0)


def make_closure():
    held = find_buddy_pfn
    return lambda pfn: held(pfn, 0)


HOLDERS = {
    "import-from": lambda pfn: find_buddy_pfn(pfn, 0),
    "alias": lambda pfn: other_name(pfn, 0),
    "module attribute": lambda pfn: buddy.find_buddy_pfn(pfn, 0),
    "dispatch table": lambda pfn: TABLE["buddy"](pfn, 0),
    "default argument": as_default,
    "class attribute": lambda pfn: Holder.method(pfn, 0),
    "closure": make_closure(),
    "keywords": lambda pfn: find_buddy_pfn(pfn=pfn, order=0),
}


@contextmanager
def recorded_bench() -> Iterator[Bench]:
    bench = Bench()
    try:
        yield bench
    finally:
        bench.recorder.stop()


def thousand(pfn: int, order: int) -> int:
    return 1000 + pfn


@pytest.mark.parametrize("holder", HOLDERS)
def test_every_holder_sees_the_patch_and_its_end(holder: str) -> None:
    call = HOLDERS[holder]
    assert call(8) == 9
    with livepatch(find_buddy_pfn, thousand):
        assert call(8) == 1008
    assert call(8) == 9


def test_nesting_and_the_original() -> None:
    def plus(pfn: int, order: int) -> int:
        return find_buddy_pfn.original(pfn, order) + 100

    with livepatch(find_buddy_pfn, thousand):
        with livepatch(find_buddy_pfn, plus):
            assert find_buddy_pfn(8, 0) == 109
        assert find_buddy_pfn(8, 0) == 1008
    assert find_buddy_pfn(8, 0) == 9


def test_an_exception_inside_restores() -> None:
    code, defaults = find_buddy_pfn.__code__, find_buddy_pfn.__defaults__
    with pytest.raises(ZeroDivisionError), livepatch(find_buddy_pfn, lambda pfn, order: pfn // 0):
        find_buddy_pfn(8, 0)
    assert find_buddy_pfn.__code__ is code
    assert find_buddy_pfn.__defaults__ is defaults
    assert find_buddy_pfn(8, 0) == 9


def test_contexts_closed_crosswise() -> None:
    first, second = livepatch(find_buddy_pfn, thousand), livepatch(find_buddy_pfn, lambda pfn, order: 7)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert find_buddy_pfn(8, 0) == 7
    second.__exit__(None, None, None)
    assert find_buddy_pfn(8, 0) == 9


def test_defaults_and_closures_are_the_replacements_own() -> None:
    @invented("for this test")
    def greet(name: str, mark: str = "!") -> str:
        return name + mark

    def factory():
        prefix = "closed over "

        def replacement(name: str, mark: str = "!") -> str:
            return prefix + name + mark

        return replacement

    with livepatch(greet, factory()):
        assert greet("a") == "closed over a!"
    assert greet("a") == "a!"
    assert greet.__defaults__ == ("!",)


def test_a_patched_closure_of_the_kernel() -> None:
    base = 40

    @invented("for this test: a kernel function with a free variable")
    def adds(value: int) -> int:
        return base + value

    with livepatch(adds, lambda value: -value):
        assert adds(2) == -2
    assert adds(2) == 42


@pytest.mark.parametrize(
    ("replacement", "says"),
    [
        (lambda pfn: 0, "too many positional"),
        (lambda pfn, order, more: 0, "missing a required argument: 'more'"),
        (lambda a, b: 0, "missing a required argument: 'a'"),
        (lambda pfn, order=3: 0, "'order' has no default"),
        (42, "not a function"),
    ],
)
def test_a_wrong_signature_teaches(replacement, says: str) -> None:
    with pytest.raises(BadPatch, match=says) as caught, livepatch(find_buddy_pfn, replacement):
        pass
    assert caught.value.remedy
    assert find_buddy_pfn(8, 0) == 9


def test_a_function_is_no_replacement_of_itself() -> None:
    with pytest.raises(BadPatch, match="can't stand in for itself"), livepatch(expand, expand):
        pass


def test_a_function_in_c_that_hides_its_parameters_is_refused() -> None:
    with pytest.raises(BadPatch, match="which parameters"), livepatch(find_buddy_pfn, max):
        pass
    assert find_buddy_pfn(8, 0) == 9


def test_a_kernel_function_may_stand_in_for_another_while_both_are_recorded() -> None:
    @invented("for this test: recorded, and no buddy")
    def same(pfn: int, order: int) -> int:
        return pfn

    with recorded_bench(), livepatch(find_buddy_pfn, same):
        assert find_buddy_pfn(8, 0) == 8
    with recorded_bench():
        assert find_buddy_pfn(8, 0) == 9


@pytest.mark.parametrize("another_runs", [False, True])
def test_a_recording_that_cannot_begin_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, another_runs: bool
) -> None:
    def fails_half_way(marked: Iterable[Function], recorded: bool) -> None:
        functions = list(marked)
        set_recorded(functions[: len(functions) // 2 if recorded else None], recorded)
        if recorded:
            raise ZeroDivisionError

    with recorded_bench() if another_runs else nullcontext():
        codes = [function.__code__ for function in traced_functions()]
        with monkeypatch.context() as broken:
            broken.setattr(recorder, "set_recorded", fails_half_way)
            with pytest.raises(ZeroDivisionError):
                Bench()
        assert [function.__code__ for function in traced_functions()] == codes
    with recorded_bench() as bench:
        assert bench.do("take", 0) is not None


def test_a_patch_that_cannot_be_installed_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    install = Hook.install

    def fails(hook: Hook) -> None:
        if hook.replacements:
            raise ZeroDivisionError
        install(hook)

    with monkeypatch.context() as broken:
        broken.setattr(Hook, "install", fails)
        with pytest.raises(ZeroDivisionError), livepatch(find_buddy_pfn, thousand):
            pass
    assert patches == []
    with livepatch(expand, expand.original):
        assert find_buddy_pfn(8, 0) == 9


def test_what_is_no_kernel_function_is_refused() -> None:
    with pytest.raises(BadPatch, match="no kernel function"), livepatch(len, len):
        pass


def test_a_patch_works_while_recording_and_rerun_uses_it_again() -> None:
    """A shrunk stretch of history is run again under the patches that were in force then."""

    def lower_half_first(zone, pfn: int, low: int, high: int, migratetype: int) -> None:
        while high > low:
            high -= 1
            buddy.add_to_free_list_tail(zone, pfn + (1 << high), high, migratetype)

    bench = Bench(cap=100, keyframe_every=10)
    try:
        with livepatch(expand, lower_half_first):
            for _ in range(30):
                bench.do("take", 0)
        assert find_buddy_pfn(8, 0) == 9
        bench.do("take", 0)
        assert any(segment.net is not None for segment in bench.journal.segments)
        assert "add_to_free_list_tail" in bench.timeline.call_tree(0)
        assert "add_to_free_list_tail" not in bench.timeline.call_tree(30)
    finally:
        bench.close()
