"""The four memory models for one machine, side by side: what each spends, and what a conversion costs."""

from __future__ import annotations

from dataclasses import dataclass

from kmemlab.boot.globals import Boot
from kmemlab.boot.memblock import for_each_mem_pfn_range
from kmemlab.mm.discontigmem import Discontigmem
from kmemlab.mm.flatmem import Flatmem
from kmemlab.mm.memory_model import Loads, MemoryModel, ModelMachine
from kmemlab.mm.sparsemem import SparsememExtreme, SparsememStatic
from kmemlab.mm.sparsemem_vmemmap import SparsememVmemmap
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import KernelPanic, KmemlabError
from kmemlab.types.memory_model import MemoryModelKind

MODELS: tuple[type[MemoryModel], ...] = (Flatmem, Discontigmem, SparsememStatic, SparsememExtreme, SparsememVmemmap)


@invented("the comparison that the lecture makes")
@dataclass(frozen=True, slots=True)
class ModelCost:
    """What one model spends on one machine, in bytes, and which memory a conversion reads.

    `map_bytes` is the whole memory map, `hole_bytes` what of it describes no memory; `pieces` holds (node, first pfn,
    pfn behind, bytes), and `section_pages` is how long a section is (0: none). A model that can't be had for the
    machine says why in `refused`, and has nothing else.
    """

    kind: MemoryModelKind
    sizeof_page: int = 0
    map_bytes: int = 0
    hole_bytes: int = 0
    tables: tuple[tuple[str, int], ...] = ()
    pieces: tuple[tuple[int, int, int, int], ...] = ()
    pfn_to_page: tuple[str, ...] = ()
    page_to_pfn: tuple[str, ...] = ()
    section_pages: int = 0
    refused: str = ""

    @property
    def table_bytes(self) -> int:
        """All tables together."""
        return sum(size for _, size in self.tables)


@invented("what a model spends, read off it")
def model_cost(model: MemoryModel) -> ModelCost:
    """The cost of a model: sizes added up, and one page frame converted there and back to see what is read."""
    there, back = Loads(), Loads()
    model.page_to_pfn(model.pfn_to_page(model.machine.ranges[0][0], there), back)
    pieces = tuple((p.nid, p.first_pfn, p.end_pfn, p.pages * model.sizeof_page) for p in model.pieces)
    map_bytes = sum(size for *_, size in pieces)
    return ModelCost(
        model.kind,
        model.sizeof_page,
        map_bytes,
        map_bytes - model.machine.pages * model.sizeof_page,
        model.tables,
        pieces,
        tuple(there.names),
        tuple(back.names),
        1 << model.pfn_section_shift if model.kind.sparse else 0,
    )


@invented("the comparison that the lecture makes")
def compare_models(machine: ModelMachine) -> tuple[ModelCost, ...]:
    """The cost of every model for one machine, in the order in which Linux got them."""
    costs = []
    for model in MODELS:
        try:
            costs.append(model_cost(model(machine)))
        except KernelPanic as panic:
            costs.append(ModelCost(model.kind, refused=f"panic: {panic.what}"))
        except KmemlabError as error:
            costs.append(ModelCost(model.kind, refused=error.what))
    return tuple(costs)


@invented("a booted machine's memory, as the models take it")
def model_machine(boot: Boot) -> ModelMachine:
    """The memory that a machine has after its nodes are known, without what boot took of it."""
    return ModelMachine(
        tuple(for_each_mem_pfn_range(boot.memblock)),
        boot.config,
        boot.page_table_levels,
        boot.max_low_pfn,
        "pse" in boot.spec.cpus.flags,
    )
