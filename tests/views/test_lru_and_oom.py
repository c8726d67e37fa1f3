"""The LRU panel and the OOM ranking: what they show is what the lists, the counters and the processes say."""

from __future__ import annotations

import pytest

from kmemlab.machine.lru_snapshot import LruSnapshot, lru_snapshot
from kmemlab.machine.machine import Machine
from kmemlab.machine.workload import Run
from kmemlab.machine.workloads import anonymous_growth, file_streaming, random_reads
from kmemlab.sim.list_head import list_for_each
from kmemlab.sim.timeline import walk
from kmemlab.types.pageflags import PG_referenced
from kmemlab.views.oom_ranking import oom_alt, oom_figure
from kmemlab.views.panel_lru import SHOWN, LruPanel, lru_figure, lru_text
from kmemlab.views.phrases_reclaim import TOLD_AS_ONE
from kmemlab.views.player import Player


@pytest.fixture(scope="module")
def busy() -> Machine:
    """A small machine just above its high marks, with pages of both kinds."""
    machine = Machine.boot("tiny-128m")
    work = random_reads(seed=1, pages=3000, reads=900) | anonymous_growth(seed=1, pages=2000)
    Run(machine, work).advance()
    machine.write_file("rows-1", 0, b"new")
    return machine


def test_a_snapshot_is_what_the_lists_hold_from_the_tail(busy: Machine) -> None:
    mm = busy.kernel.mm
    lru = lru_snapshot(busy.kernel, window=10**6)
    for number, each in enumerate(lru.lists):
        pfns = list(list_for_each(mm.page.lru, mm.node_data[0].lruvec.head + number))[::-1]
        assert [page.pfn for page in each.tail] == pfns
        assert each.count == len(pfns)
        assert [page.referenced for page in each.tail] == [bool(mm.page.flags[p] >> PG_referenced & 1) for p in pfns]
    names = {page.file for each in lru.lists[2:] for page in each.tail}
    assert names == {"rows-1", "disk"}
    assert {page.file for each in lru.lists[:2] for page in each.tail} == {""}
    assert any(page.dirty for each in lru.lists[2:] for page in each.tail)


def test_the_picture_says_what_the_text_says(busy: Machine) -> None:
    lru = lru_snapshot(busy.kernel, window=SHOWN)
    figure = lru_figure(lru)
    words = figure.svg()
    for each in lru.lists:
        assert f"{each.count:,}" in words
        for page in each.tail:
            assert f">{page.label}<" in words
            assert page.label in lru_text(lru)
    assert figure.svg() == lru_figure(lru).svg()
    assert "above high" in figure.alt


def test_a_player_shows_kswapd_at_work(busy: Machine) -> None:
    machine = busy.fork()
    run = Run(machine, file_streaming(seed=1))
    while sum(zone.vm_stat[0] for zone in machine.zones) > 700:
        run.advance(8)
    timeline = machine.record()
    while not any(
        call.name == "balance_pgdat"
        for number in range(len(timeline.commands))
        for call in walk(timeline.calls(number))
    ):
        run.advance(1)
    player = Player(timeline, LruPanel(machine.kernel), within="balance_pgdat", folded=TOLD_AS_ONE)
    said = [step.said for step in player.steps]
    freed = [int(text.split(": ")[1].split()[0]) for text in said if "pages can go" in text or "page can go" in text]
    before = machine.fork()
    timeline.rewind(0)
    stolen = {}
    for name, twin in (("before", machine), ("after", before)):
        stolen[name] = Run(twin, random_reads(reads=1)).series.moments[0]["pgsteal_kswapd"]
    assert freed
    assert sum(freed) == stolen["after"] - stolen["before"], "the sentences add up to what the kernel counted"
    assert any("tail of inactive file" in text for text in said)
    assert any("isolated" in change for step in player.steps for change in step.changed)


def test_an_empty_node_can_be_drawn() -> None:
    machine = Machine.boot("tiny-128m")
    lru = lru_snapshot(machine.kernel)
    assert isinstance(lru, LruSnapshot)
    assert "inactive anon: empty" in lru_figure(lru).text()


def test_the_ranking_is_drawn_worst_first() -> None:
    machine = Machine.boot("tiny-128m")
    for name, pages, adj in (("sh", 20, 0), ("browser", 900, 0), ("db", 400, -1000)):
        pid = machine.spawn(name)
        machine.touch(pid, machine.mmap(pid, pages * 4096), pages * 4096)
        machine.proc_oom_score_adj(pid, adj)
    ranking = machine.oom_ranking()
    svg = oom_figure(ranking).svg()
    assert svg.index("browser (") < svg.index(">sh (") < svg.index(">db (")
    assert oom_alt(ranking).startswith("browser would be killed first.")
    assert "Never killed: db" in oom_alt(ranking)
    assert ">never<" in svg
    # The longest bar ends where the picture says the longest bar ends.
    assert max(rank.rss + rank.swap + rank.page_tables for rank in ranking) == int(
        svg.split("the longest bar is ")[1].split(" pages")[0].replace(",", "")
    )


def test_a_ranking_of_nobody() -> None:
    assert "No process" in oom_figure(()).svg()
