"""livepatch: another function runs in a kernel function's place, wherever it is called from."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kmemlab.sim.hook import Function, hook_of
from kmemlab.sim.kernel import invented, registry
from kmemlab.types.errors import BadPatch

patches: list[tuple[Function, Function]] = []
"""The patches in force, oldest first; a journal keeps them with each command, to re-run it alike."""


@invented(
    "the kernel's live patching (kernel/livepatch) without its consistency model: no task is asleep in the function"
)
@contextmanager
def livepatch(function: Function, replacement: Function) -> Iterator[None]:
    """While this context lasts, every call of `function` runs `replacement`; the original is `function.original`.

    Raises `BadPatch` when `function` is not the kernel's or `replacement` can't be called like it.

    >>> from kmemlab.mm.buddy import find_buddy_pfn
    >>> def no_buddy(pfn: int, order: int) -> int:
    ...     return find_buddy_pfn.original(pfn, order) + 1
    >>> with livepatch(find_buddy_pfn, no_buddy):
    ...     find_buddy_pfn(8, 2)
    13
    >>> find_buddy_pfn(8, 2)
    12
    """
    check_signature(function, replacement)
    hook = hook_of(function)
    patch = (function, replacement)
    hook.replacements.append(replacement)
    patches.append(patch)
    try:
        hook.install()
        yield
    finally:
        # Leaving in another order than entering (two contexts closed crosswise) must still leave the right one.
        _remove_last(hook.replacements, replacement)
        _remove_last(patches, patch)
        hook.install()


@contextmanager
def patches_as_then(then: tuple[tuple[Function, Function], ...]) -> Iterator[None]:
    """While this context lasts, just the patches of a moment that is past are in force; those of now step aside."""
    now = tuple(patches)
    _put_in_force(then)
    try:
        yield
    finally:
        _put_in_force(now)


def _put_in_force(wanted: tuple[tuple[Function, Function], ...]) -> None:
    touched = {function: None for function, _ in (*patches, *wanted)}
    patches[:] = wanted
    for function in touched:
        hook = hook_of(function)
        hook.replacements[:] = [replacement for patched, replacement in wanted if patched is function]
        hook.install()


def check_signature(function: Function, replacement: Function) -> None:
    """Raise `BadPatch` unless `replacement` can be called wherever the kernel calls `function`."""
    mark = registry.of(function)
    if mark is None or not inspect.isfunction(function):
        raise BadPatch(
            f"{getattr(function, '__name__', function)!s} is no kernel function of kmemlab",
            where="livepatch",
            remedy="pass the function itself, such as kmemlab.mm.buddy.expand; `kmemlab where NAME` finds it",
        )
    if not callable(replacement):
        raise BadPatch(
            f"{replacement!r} is not a function",
            where=f"livepatch of {function.__name__}",
            remedy="pass your function, without calling it",
        )
    if replacement is function:
        raise BadPatch(
            f"{function.__name__} can't stand in for itself: it would call itself without an end",
            where=f"livepatch of {mark.name} ({mark.file})",
            remedy=f"write a function of your own; in it {function.__name__}.original is the kernel's",
        )
    wanted = inspect.signature(hook_of(function).pristine)
    given = _signature(replacement, function)
    missing = _mismatch(wanted, given)
    if missing:
        names = ", ".join(wanted.parameters)
        yours = getattr(replacement, "__name__", "the replacement")
        raise BadPatch(
            f"{yours}{given} can't stand in for {function.__name__}: {missing}",
            where=f"livepatch of {mark.name} ({mark.file})",
            remedy=f"write it with the same parameters: ({names})",
        )


def _signature(replacement: Function, function: Function) -> inspect.Signature:
    try:
        return inspect.signature(replacement)
    except (TypeError, ValueError):  # a function written in C may tell nobody what it takes
        raise BadPatch(
            f"{getattr(replacement, '__name__', 'the replacement')!s} doesn't say which parameters it takes",
            where=f"livepatch of {function.__name__}",
            remedy="write a function with def that calls it",
        ) from None


def _mismatch(wanted: inspect.Signature, given: inspect.Signature) -> str:
    positional = [p.name for p in wanted.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    keywords = {p.name: None for p in wanted.parameters.values() if p.kind is p.KEYWORD_ONLY}
    attempts: list[tuple[list[Any], dict[str, Any]]] = [
        ([None] * len(positional), keywords),
        ([], dict.fromkeys(positional) | keywords),
        (
            [None]
            * len([p for p in wanted.parameters.values() if p.kind is not p.KEYWORD_ONLY and p.default is p.empty]),
            {},
        ),
    ]
    for args, kwargs in attempts:
        try:
            given.bind(*args, **kwargs)
        except TypeError as error:
            return str(error)
    for name, parameter in wanted.parameters.items():
        other = given.parameters.get(name)
        if other is not None and other.default is not other.empty and other.default != parameter.default:
            return (
                f"the default of {name!r} must be {parameter.default!r}"
                if parameter.default is not parameter.empty
                else f"{name!r} has no default"
            )
    return ""


def _remove_last(items: list[Any], item: Any) -> None:
    for index in range(len(items) - 1, -1, -1):
        if items[index] is item or items[index] == item:
            del items[index]
            return
