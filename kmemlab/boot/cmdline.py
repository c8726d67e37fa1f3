"""The kernel command line: parameters, and the few that must act before memory is set up ("early" ones)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kmemlab.boot.globals import Boot
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadParameter
from kmemlab.types.units import INT_MAX, simple_strtoull

EarlyParam = Callable[[Boot, str], None]

U32_MAX = 2 * INT_MAX + 1

# C gathers these from all files into a section of the kernel image; importing a file does the same here.
EARLY_PARAMS: dict[str, EarlyParam] = {}


@kernel("include/linux/init.h", "early_param", traced=False)
def early_param(name: str) -> Callable[[EarlyParam], EarlyParam]:
    """Name the function that hears of parameter `name`: it gets the value, "" if there is none.

    It raises `BadParameter` where C returns an error.
    """

    def register(function: EarlyParam) -> EarlyParam:
        EARLY_PARAMS[name] = function
        return function

    return register


@kernel("lib/cmdline.c", "next_arg", traced=False)
def next_arg(cmdline: str) -> Iterator[tuple[str, str | None]]:
    """The parameters in order as (name, value); value is None without "=". Spaces within double quotes don't part.

    >>> list(next_arg('quiet mem=1G dyndbg="file a.c +p" mem=2G'))
    [('quiet', None), ('mem', '1G'), ('dyndbg', 'file a.c +p'), ('mem', '2G')]
    """
    word, quoted, found = "", False, False
    for char in cmdline + " ":
        if char.isspace() and not quoted:
            if found:
                yield split_arg(word)
            word, found = "", False
            continue
        found = True
        if char == '"':
            quoted = not quoted
        else:
            word += char
    if found:  # a quote that was never closed runs to the end
        yield split_arg(word[:-1])


@invented("C cuts the string in place, within next_arg", traced=False)
def split_arg(word: str) -> tuple[str, str | None]:
    """A parameter's name and value."""
    name, equals, value = word.partition("=")
    return name, value if equals else None


@kernel("kernel/params.c", "parameq", traced=False)
def parameq(a: str, b: str) -> bool:
    """Whether two names mean the same parameter: "-" and "_" do not differ.

    >>> parameq("memhp-default-state", "memhp_default_state")
    True
    """
    return a.replace("-", "_") == b.replace("-", "_")


@invented("C's cmdline_find_option, on a command line that is a constant here", traced=False)
def cmdline_find_option(cmdline: str, option: str) -> str | None:
    """The value of the last parameter `option`, "" if it stands there without one, None if it doesn't stand there.

    >>> cmdline_find_option("quiet numa=off numa=fake=4", "numa")
    'fake=4'
    """
    found = None
    for name, value in next_arg(cmdline):
        if name == "--":
            break
        if parameq(name, option):
            found = value or ""
    return found


@kernel("init/main.c", "parse_early_param", left_out="console= as a synonym of earlycon=")
def parse_early_param(boot: Boot) -> None:
    """Let each early parameter act, in the order of the command line."""
    for name, value in next_arg(boot.spec.cmdline):
        if name == "--":  # what follows is for init
            break
        for known, function in EARLY_PARAMS.items():
            if parameq(name, known):
                try:
                    function(boot, value or "")
                except BadParameter:
                    boot.printk.info(f"Malformed early option '{name}'")


@early_param("memblock")
@kernel("mm/memblock.c", "early_memblock")
def early_memblock(boot: Boot, value: str) -> None:
    """memblock=debug: print what memblock is told and asked for from now on."""
    if "debug" in value:
        boot.memblock.debug = 1


@early_param("mminit_loglevel")
@kernel("mm/mm_init.c", "set_mminit_loglevel")
def set_mminit_loglevel(boot: Boot, value: str) -> None:
    """mminit_loglevel=N: print how zones and zonelists are set up (4: all of it)."""
    if value.isdecimal():
        level = simple_strtoull(value)[0] & U32_MAX
        boot.mminit_loglevel = level if level <= INT_MAX else level - U32_MAX - 1  # C has an int of 32 bits there


@invented("C's kstrtobool, with what holds if the text is none", traced=False)
def bool_option(value: str | None, default: bool) -> bool:
    """A switch on the command line; what can't be read, or isn't there, is the default.

    >>> bool_option("1", False), bool_option("off", True), bool_option(None, True)
    (True, False, True)
    """
    text = (value or "").lower()
    if text[:1] in ("y", "t", "1") or text[:2] == "on":
        return True
    if text[:1] in ("n", "f", "0") or text[:2] == "of":
        return False
    return default
