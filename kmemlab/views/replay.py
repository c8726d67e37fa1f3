"""A replay as text: how the model's free lists ended, or how it decided, beside what Linux did."""

from __future__ import annotations

from kmemlab.machine.policy_report import PolicyReport
from kmemlab.machine.pressure_report import PressureReport
from kmemlab.machine.replay import FreePagesAt, ReplayReport, ZoneVerdict

TOLD = 10  # skipped lines that are shown


def replay_text(report: ReplayReport) -> str:
    """What agreed and what did not, with the number of the line where it began."""
    lines = [
        f"{report.trace}: {report.events:,} events in {report.seconds:.2f} s, from {report.start} to after/",
        verdict(report),
        "",
        *zone_lines(report.zones),
        "",
        *over_time_lines(report.over_time),
        *order_lines(report),
        *skipped_lines(report),
    ]
    return "\n".join(lines).rstrip()


def verdict(report: ReplayReport) -> str:
    """One sentence about the end."""
    free = sum(pages_of(zone.linux) for zone in report.zones)
    if not report.mismatched_pages:
        return f"all {free:,} pages that Linux had free at the end are free in the model, and no other"
    model = sum(zone.free_in_model_only for zone in report.zones)
    linux = sum(zone.free_in_linux_only for zone in report.zones)
    told = f"{report.mismatched_pages:,} pages differ: {model:,} are free in the model only, {linux:,} in Linux only"
    apart = sum(zone.not_joined for zone in report.zones)
    if apart:
        told += f", {apart:,} in blocks that should have been joined"
    if report.taken_out_of_turn:
        told += f", {report.taken_out_of_turn:,} blocks were taken out of turn"
    return told


def pages_of(blocks: tuple[int, ...]) -> int:
    """The pages of so many blocks of each order.

    >>> pages_of((3, 1, 0, 1))
    13
    """
    return sum(count << order for order, count in enumerate(blocks))


def zone_lines(zones: tuple[ZoneVerdict, ...]) -> list[str]:
    """Free blocks by order, a zone's two lines under each other."""
    lines = [f"{'free blocks of order':<26}" + "".join(f"{order:6}" for order in range(11)) + "     pages"]
    for zone in zones:
        name = f"Node {zone.node}, zone {zone.name:>8}"
        for who, blocks in (("model", zone.model), ("Linux", zone.linux)):
            counts = "".join(f"{count:6}" for count in blocks)
            lines.append(f"{name:<20} {who:<5}{counts} {pages_of(blocks):9,}")
            name = ""
    return lines


def over_time_lines(marks: tuple[FreePagesAt, ...]) -> list[str]:
    """The free pages at each snapshot on the way."""
    lines = [f"{'free pages on the way':<22}{'seconds':>12}{'model':>10}{'Linux':>10}"]
    for at in marks:
        linux = f"{at.linux:10,}" if at.linux >= 0 else f"{'-':>10}"
        lines.append(f"{at.mark:<22}{at.time:12.3f}{at.model:10,}{linux}")
    return [*lines, ""]


def order_lines(report: ReplayReport) -> list[str]:
    """Whether the lists stood in Linux's order, and where an event first contradicted them."""
    facts = report.facts
    lines = []
    if facts["heads_known"]:
        lines.append(
            f"Linux took {facts['heads_known']:,} blocks of lists whose order the model knew; "
            f"{facts['heads_agree']:,} of them stood first there"
        )
    if facts["first_other_head"]:
        lines.append(f"  the first that did not: {facts['first_other_head']}")
    if facts["direct_frees"]:
        lines.append(
            f"{facts['direct_frees']:,} pages were freed by an interrupt that found the CPU's list locked: "
            "they went to the buddy at once"
        )
    if facts["contradictions"]:
        told = ", ".join(f"{count:,} {name}" for name, count in facts["contradictions"].items())
        lines += [f"events that the free lists contradicted (the event won): {told}"]
        lines += [f"  the first: {facts['first_contradiction']}"]
    return lines


def policy_text(report: PolicyReport) -> str:
    """How often the model decided as Linux did, and how that went over time."""
    facts = report.facts
    lines = [
        f"{report.trace}: {report.events:,} events in {report.seconds:.2f} s; the model met "
        f"{facts['requests']:,} of Linux's page requests by its own rules",
        f"  {facts['zone_agree']:7.2f} % from the zone that Linux chose",
        f"  {facts['migratetype_agree']:7.2f} % from a pageblock of the same mobility type",
        f"  {facts['fallbacks']:7,} fallbacks to another type; Linux: {facts['fallbacks_real']:,}",
    ]
    if facts["slabs_change"] is not None:
        lines.append(f"  {facts['slabs_change']:+7,} slabs in use; Linux: {facts['slabs_change_real']:+,}")
    for first in (facts["first_other_zone"], facts["first_other_type"]):
        lines += [f"  the first that differs: {first}"] * bool(first)
    lines += ["", *policy_over_time(report), *skipped_lines(report)]
    return "\n".join(lines).rstrip()


def policy_over_time(report: PolicyReport) -> list[str]:
    """A line each eighth of the events and each snapshot: what agreed since the line before, and free pages."""
    zones = [zone for zone, _, _ in report.over_time[0].free] if report.over_time else []
    head = "".join(f"{zone + ' free':>14}{'Linux':>8}" for zone in zones)
    slabs = any(at.slabs_change is not None for at in report.over_time)
    head += f"{'slabs':>8}" * slabs
    lines = [f"{'':<18}{'seconds':>9}{'requests':>10}{'zone':>8}{'type':>8}{'fallbacks':>11}{'Linux':>7}{head}"]
    requests = zone_agree = type_agree = 0
    for at in report.over_time:
        new = at.requests - requests
        shares = (at.zone_agree - zone_agree, at.migratetype_agree - type_agree)
        told = "".join(f"{100 * share / new:7.1f}%" if new else f"{'-':>8}" for share in shares)
        free = "".join(f"{model:14,}{linux:8,}" for _, model, linux in at.free)
        free += f"{at.slabs_change:+8,}" if at.slabs_change is not None else ""
        counts = f"{at.fallbacks:11,}{at.fallbacks_real:7,}"
        lines.append(f"{at.mark:<18}{at.time:9.3f}{at.requests:10,}{told}{counts}{free}")
        requests, zone_agree, type_agree = at.requests, at.zone_agree, at.migratetype_agree
    return [*lines, ""]


def skipped_lines(report: ReplayReport | PolicyReport | PressureReport) -> list[str]:
    """The lines that were no event."""
    if not report.skipped_lines:
        return []
    lines = [f"{report.skipped_lines:,} lines were skipped:"]
    lines += [f"  line {line.line}: {line.what}" for line in report.skipped[:TOLD]]
    if report.skipped_lines > TOLD:
        lines.append(f"  and {report.skipped_lines - TOLD:,} more (--json lists them)")
    return lines
