"""bootmem and memblock as a table: the same requests, and what differs in sum."""

from __future__ import annotations

from kmemlab.boot.bootmem import WORD_ORDER
from kmemlab.boot.then_and_now import Request, Side


def then_and_now_text(then_side: Side, now_side: Side, requests: tuple[Request, ...]) -> str:
    """Both sides as a table: a line a request, then what differs in sum."""
    lines = [f"{'bytes':>10} {'align':>8}  {'bootmem (until 4.19)':>22} {'memblock':>22}"]
    for ask, old, new in zip(requests, then_side.addresses, now_side.addresses, strict=True):
        lines.append(f"{ask.size:>10} {ask.align:>8}  {old:>#22x} {new:>#22x}")
    asked = sum(ask.size for ask in requests)
    for title, old, new in (
        ("bytes taken", then_side.taken_bytes, now_side.taken_bytes),
        ("more than asked", then_side.taken_bytes - asked, now_side.taken_bytes - asked),
        ("own tables", then_side.own_bytes, now_side.own_bytes),
        (f"blocks of order {WORD_ORDER} handed over", then_side.blocks[WORD_ORDER], now_side.blocks[WORD_ORDER]),
        ("blocks handed over", sum(then_side.blocks), sum(now_side.blocks)),
        ("pages handed over", then_side.free_pages, now_side.free_pages),
    ):
        lines.append(f"{title:>29} {old:>13} {new:>22}")
    return "\n".join(lines)
