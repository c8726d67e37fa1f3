"""The glossary: words of the course, in English and Chinese, explained by the docstring of what they name.

term ──▶ @kernel name ──▶ first sentence of its docstring, link to the C file
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path

from kmemlab.course.contents import lectures
from kmemlab.sim.kernel import KernelMark, load_all
from kmemlab.types.errors import BadRequest


@dataclass(frozen=True)
class Term:
    """A word in English and in Chinese, and the Python path behind `kmemlab.` of what explains it."""

    english: str
    chinese: str
    path: str


TERMS = (
    Term("address range of the firmware", "固件地址范围", "boot.e820.E820Table"),
    Term("alternative zones, in order", "备用内存区列表", "mm.zonelist.build_zonelists"),
    Term("array cache", "数组缓存", "alloc.slab_array_cache.ArrayCaches"),
    Term("block, free", "空闲块", "mm.zone.add_to_free_list"),
    Term("boot memory, handing over", "启动内存移交", "machine.mem_init.memblock_free_all"),
    Term("buddy", "伙伴", "mm.buddy.find_buddy_pfn"),
    Term("cache of objects", "对象缓存", "alloc.slub_def.SlubCache"),
    Term("compaction", "内存规整", "alloc.compaction.compact_zone"),
    Term("copy on write", "写时复制", "process.memory.do_wp_page"),
    Term("demand page", "按需调页", "process.memory.do_anonymous_page"),
    Term("direct map", "直接映射", "boot.direct_map.init_mem_mapping"),
    Term("early allocator", "早期分配器", "boot.memblock_free.Memblock"),
    Term("fallback, stealing", "回退与借用", "mm.fallback.rmqueue_fallback"),
    Term("fragmentation index", "碎片指数", "mm.extfrag.fragmentation_index"),
    Term("freelist of a slab", "空闲对象链表", "alloc.slub_freelist.get_freepointer"),
    Term("high-atomic reserve", "高阶原子储备", "mm.highatomic.reserve_highatomic_pageblock"),
    Term("high memory, mapping of", "高端内存映射", "alloc.highmem.kmap"),
    Term("huge page", "大页", "alloc.hugetlb.hugetlb_init"),
    Term("kernel stack", "内核栈", "alloc.thread_stack.alloc_thread_stack_node"),
    Term("lazy purge", "延迟回收", "alloc.alloc_vmap_area.purge_vmap_area_lazy"),
    Term("linked list", "双向链表", "sim.list_head.ListHead"),
    Term("low memory reserve", "低端内存保留", "mm.watermark.setup_per_zone_lowmem_reserve"),
    Term("memory map (of page frames)", "页框描述符数组", "mm.mem_map.MemMap"),
    Term("memory pool", "内存池", "alloc.mempool.mempool_create"),
    Term("memory zone", "内存区", "mm.zone.Zone"),
    Term("merging of free blocks", "空闲块合并", "mm.buddy.free_one_page"),
    Term("mobility type", "迁移类型", "alloc.freelist.gfp_migratetype"),
    Term("node", "内存节点", "mm.node.PglistData"),
    Term("out of memory (OOM)", "内存耗尽", "process.oom_badness.oom_badness"),
    Term("page allocator", "页分配器", "alloc.page_alloc.alloc_pages_inner"),
    Term("page fault", "缺页异常", "boot.fault.show_fault_oops"),
    Term("page table", "页表", "boot.pgtable.PageTables"),
    Term("pageblock", "页块", "mm.zone.get_pageblock_migratetype"),
    Term("per-CPU memory", "每 CPU 内存", "boot.setup_percpu.setup_per_cpu_areas"),
    Term("size classes of kmalloc", "kmalloc 尺寸类", "alloc.kmalloc_caches.create_kmalloc_caches"),
    Term("slab", "对象页块", "alloc.slab_pages.SlabPages"),
    Term("splitting of a block", "块拆分", "mm.buddy.expand"),
    Term("translation cache (TLB)", "地址转换缓冲", "hardware.tlb.Tlb"),
    Term("vmalloc", "非连续内存分配", "alloc.vmalloc.vmalloc"),
    Term("watermark", "水位线", "mm.zone_watermark_ok.zone_watermark_ok_inner"),
    Term("watermarks, setting of", "水位线的设定", "mm.watermark.setup_per_zone_wmarks"),
)


def glossary_text(root: Path) -> str:
    """The page, in Markdown: one row a term, with the lectures that name it."""
    found = lectures(root)
    lines = [
        "# Glossary · 术语表",
        "",
        "Each meaning is the first sentence of the docstring of the function or structure that the model runs.",
        "",
        "| term | 中文 | meaning | in Linux | lectures |",
        "|---|---|---|---|---|",
    ]
    for term in sorted(TERMS, key=lambda term: term.english):
        mark = mark_of_term(term)
        names = (mark.name.removeprefix("struct "), term.english.partition(" (")[0])
        there = [f"[{lec.chapter}]({lec.stem}.ipynb)" for lec in found if any(map(lec.has, names))]
        name = f"[`{mark.name}`]({mark.link})" if mark.file else "only in the model"
        lines.append(f"| {term.english} | {term.chinese} | {meaning(mark)} | {name} | {', '.join(there)} |")
    return "\n".join([*lines, ""])


def mark_of_term(term: Term) -> KernelMark:
    """What explains a term. Raises `BadRequest` where it is gone."""
    for mark in load_all():
        if mark.python_path == f"kmemlab.{term.path}":
            return mark
    raise BadRequest(f"nothing is named kmemlab.{term.path}", where=f"glossary: {term.english}", remedy="mend its path")


def meaning(mark: KernelMark) -> str:
    """The first sentence of a docstring, on one line."""
    text = " ".join((inspect.getdoc(mark.function) or "").split("\n\n")[0].split())
    return text.partition(". ")[0].rstrip(".") + "."
