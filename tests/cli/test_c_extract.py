"""Cutting functions out of C: small texts with every trap and, where a source tree is there, every mark of ours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kmemlab.cli.c_extract import definitions
from kmemlab.sim.kernel import load_all

TRAPS = r"""
#define twice(x)	\
	((x) + (x))

static int count(struct list *list);	/* a prototype { with a brace */

/*
 * Counts { what is there.
 */
static __always_inline int
count(struct list *list)
	__must_hold(&list->lock)
{
	char open = '{';	// a brace {
	const char *text = "} \" {";

#ifdef CONFIG_DEBUG
	if (list->debug) {
		note(list);
#else
	if (list->size) {
#endif
		each(list) {
			open++;
		}
	}
	return open;
}

int user(void)
{
	if (twice(count(NULL))) {
		return 1;
	}
	return 0;
}
EXPORT_SYMBOL(user);

#ifdef CONFIG_NUMA
void *split(int node)
{
	return find(node);
}
#else
void *split(int node) { return NULL; }
#endif

struct list {
	struct { int a; } inner;
	int size;
} __packed;

typedef struct shelf {
	int a;
} shelf_t;

static struct list first __initdata = {
	.size	= 1,
};

const char banner[] = "Linux; } {";

void __init each(struct list *list) __acquires(lock)
{
}
"""


def cut(name: str) -> list[str]:
    return [source for _, source in definitions(TRAPS, name)]


def test_a_function_with_its_comment_attributes_and_branches() -> None:
    [source] = cut("count")
    assert source.startswith("/*\n * Counts { what is there.\n */\nstatic __always_inline int\ncount(")
    assert source.endswith("\treturn open;\n}")
    assert TRAPS.count("\n", 0, TRAPS.index("/*\n * Counts")) + 1 == next(definitions(TRAPS, "count"))[0]


def test_calls_and_prototypes_are_no_definitions() -> None:
    assert cut("find") == []
    assert len(cut("count")) == 1
    assert cut("each") == ["void __init each(struct list *list) __acquires(lock)\n{\n}"]


def test_neighbours_stay_outside() -> None:
    [source] = cut("user")
    assert source.startswith("int user(void)\n{")
    assert source.endswith("\treturn 0;\n}")


def test_each_branch_of_an_ifdef_is_given() -> None:
    assert [source.splitlines()[-1] for source in cut("split")] == ["}", "void *split(int node) { return NULL; }"]


def test_structs_typedefs_variables_and_macros() -> None:
    assert cut("struct list") == ["struct list {\n\tstruct { int a; } inner;\n\tint size;\n} __packed;"]
    assert cut("shelf_t") == ["typedef struct shelf {\n\tint a;\n} shelf_t;"]
    assert cut("first") == ["static struct list first __initdata = {\n\t.size\t= 1,\n};"]
    assert cut("banner") == ['const char banner[] = "Linux; } {";']
    assert cut("twice") == ["#define twice(x)\t\\\n\t((x) + (x))"]


def test_what_is_not_there_is_not_found() -> None:
    assert cut("nothing") == cut("struct nothing") == []


@pytest.mark.skipif(not os.environ.get("KMEMLAB_LINUX"), reason="KMEMLAB_LINUX points to no source tree of Linux v6.1")
def test_every_mark_names_a_definition_in_the_kernels_source() -> None:
    tree = Path(os.environ["KMEMLAB_LINUX"])
    wrong = []
    for mark in load_all():
        path = tree / mark.file
        if mark.file and not (path.is_file() and any(definitions(path.read_text(errors="replace"), mark.name))):
            wrong.append(f"{mark.python_path}: {mark.name} is not in {mark.file}")
    assert wrong == []
