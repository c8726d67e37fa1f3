"""Lines of ftrace text: what is read, what is told of lines that can't be, and that nothing stops the reading."""

from __future__ import annotations

import gzip
import lzma
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmemlab.machine.trace_events import EVENT_FORMATS, gfp_of_names
from kmemlab.machine.trace_reader import SkippedLines, TraceEvent, find_events, read_events, trace_events
from kmemlab.types.errors import BadCapture
from tests.machine.traces import HEADER, TRACES, line, page


def read(*lines: str) -> tuple[list[TraceEvent], SkippedLines]:
    skipped = SkippedLines()
    return list(read_events(lines, skipped)), skipped


def test_a_line_is_read_field_by_field() -> None:
    text = "          <idle>-0       [003] dNh3.    11.158465: mm_page_pcpu_drain: page=f5c3a000 pfn=0x65cc order=3 "
    [event], skipped = read(text + "migratetype=2")
    assert event == TraceEvent(1, "<idle>", 0, 3, "dNh3.", 11.158465, "mm_page_pcpu_drain", (0x65CC, 3, 2))
    assert (event.in_interrupt, event.preempt_depth, skipped.count) == (True, 3, 0)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("mm_page_alloc: page=00000000 pfn=0x0 order=9 migratetype=1 gfp_flags=GFP_TRANSHUGE", (0, 9, 1, 0x1C24CA)),
        ("mm_compaction_isolate_freepages: range=(0xfe0 ~ 0xfe4) nr_scanned=68 nr_taken=3", (0xFE0, 0xFE4, 68, 3)),
        ("kfree: call_site=a+0x1/0x2 ptr=(null)", ("a+0x1/0x2", 0)),
        ("kmem_cache_free: call_site=a+0x1/0x2 ptr=04a9a000 name=:a-104", ("a+0x1/0x2", 0x4A9A000, ":a-104")),
        ("tracing_mark_write: before end", ("before end",)),
        ("an_event_of_tomorrow: whatever=1", ("whatever=1",)),
    ],
)  # fmt: skip
def test_events_have_their_own_fields(text: str, fields: tuple[object, ...]) -> None:
    [event], skipped = read(f"     kworker/0:1-17      [000] .....     1.000001: {text}")
    assert (event.task, event.pid, event.fields, skipped.count) == ("kworker/0:1", 17, fields, 0)


def test_a_task_name_may_hold_blanks_and_dashes() -> None:
    [event], _ = read(f"{'a b-12 c':>16}-{'77':<7} [000] ..... {1.5:12.6f}: mm_page_free: {page(8, 0)}")
    assert (event.task, event.pid) == ("a b-12 c", 77)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ("CPU:1 [LOST 4711 EVENTS]", "4711 events are missing"),
        ("hello, world", "no line of a trace"),
        ("            init-1       [000] ..", "breaks off"),
        (line("mm_page_free", "page=ffffea0000197300 pfn=0x65"), "order="),
        (line("mm_page_free", "page=ffffea0000197300 pfn=65cc order=0"), "pfn= must be a hexadecimal number"),
        (line("mm_page_free", page(8, 11)), "order= must be an order"),
        (line("mm_page_free", page(8, 0, " more=1")), "more behind"),
        (line("mm_page_pcpu_drain", page(8, 0, " migratetype=9")), "migratetype= must be a mobility type"),
        (line("mm_page_alloc", page(8, 0, " migratetype=0 gfp_flags=GFP_KER")), "GFP_KER"),
        (line("mm_page_alloc", page(8, 0, " migratetype=0 gfp_flags=GFP_KERNEL|")), "no flag"),
    ],
)
def test_a_bad_line_is_told_and_the_rest_goes_on(text: str, told: str) -> None:
    good = line("mm_page_free", page(8, 0))
    events, skipped = read("# a header", good, text, good)
    assert [event.line for event in events] == [2, 4]
    assert skipped.count == 1
    assert skipped.told[0].line == 3
    assert told in skipped.told[0].what


@given(st.lists(st.text(max_size=200), max_size=5))
def test_any_text_is_read_without_an_error(lines: list[str]) -> None:
    good = line("mm_page_free", page(8, 0))
    events, skipped = read(*lines, good)
    assert events[-1].fields == (8, 0)
    assert skipped.count + len(events) <= len(lines) + 1


@pytest.mark.parametrize("seed", range(3))
def test_damaged_lines_of_a_real_trace_never_stop_the_reading(seed: int) -> None:
    generator = random.Random(seed)
    lines = lzma.decompress((TRACES / "oom-192m" / "events.txt.xz").read_bytes()).decode().splitlines()[20000:22000]
    for at in generator.sample(range(len(lines)), 300):
        cut = generator.randrange(len(lines[at]))
        lines[at] = generator.choice((lines[at][:cut], lines[at][cut:], lines[at][:cut] + "\0ÿ" + lines[at][cut + 1 :]))
    events, skipped = read(*lines)
    assert len(events) + skipped.count == len(lines)
    assert skipped.count <= 300
    assert len({*[event.line for event in events], *[bad.line for bad in skipped.told]}) == len(lines)


@given(st.sampled_from(sorted(EVENT_FORMATS)), st.text(alphabet="pfn=0x1 age(~)order", max_size=60))
def test_what_can_not_be_read_has_a_complaint(name: str, text: str) -> None:
    form = EVENT_FORMATS[name]
    try:
        fields = form.read(text)
    except ValueError:
        return
    if fields is None:
        assert form.complaint(text)


def test_flags_of_a_request_are_bits() -> None:
    assert gfp_of_names("GFP_HIGHUSER_MOVABLE|__GFP_NOWARN|0x4000000") == 0x100CCA | 0x2000 | 0x4000000
    assert gfp_of_names("GFP_KERNEL|__GFP_NO_OBJ_EXT") == 0xCC0


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [lambda text: text, gzip.compress, lzma.compress])
def test_a_trace_is_unpacked_by_its_first_bytes(pack: object, tmp_path: Path) -> None:
    text = (HEADER + line("mm_page_free", page(8, 0)) + "\r\n").encode()
    (tmp_path / "events.txt").write_bytes(pack(text))  # type: ignore[operator]
    events = list(trace_events(find_events(tmp_path), SkippedLines()))
    assert [event.fields for event in events] == [(8, 0)]


def test_files_that_are_no_trace_are_an_error_of_ours(tmp_path: Path) -> None:
    text = (HEADER + (line("mm_page_free", page(8, 0)) + "\n") * 5000).encode()
    spoiled = {
        "cut.gz": gzip.compress(text)[:-20],
        "cut.xz": lzma.compress(text)[:-20],
        "text": b"hello\n" * 9,
        "": b"",
    }
    spoiled |= {"noise": random.Random(1).randbytes(5000), "gz of noise": b"\x1f\x8b" + bytes(90)}
    for name, content in spoiled.items():
        path = tmp_path / (name or "empty")
        path.write_bytes(content)
        with pytest.raises(BadCapture):
            list(trace_events(path, SkippedLines()))
    with pytest.raises(BadCapture):
        find_events(tmp_path)
    with pytest.raises(BadCapture):
        list(trace_events(tmp_path / "nowhere", SkippedLines()))
