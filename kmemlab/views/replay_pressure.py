"""A replay under pressure as text: how near the model came to the machine, and free pages on the way."""

from __future__ import annotations

from kmemlab.machine.pressure_report import PressureReport
from kmemlab.views.replay import skipped_lines


def pressure_text(report: PressureReport) -> str:
    """How near the model came, and the free pages at each sample."""
    facts, misses = report.facts, report.misses
    share = 100 * report.mean_abs_error_pages / max(1, report.managed_pages)
    linux = len(report.wakeups_linux)
    rows = [
        (f"{report.mean_abs_error_pages:.0f} pages between model and Linux on average: {share:.2f} % of "
         f"{report.managed_pages:,}", "mean_abs_error_pages"),
        (f"{facts['reclaimed']:,} pages reclaimed; Linux: {facts['reclaimed_real']:,}", "reclaimed"),
        (f"{report.wakeups_matched:,} of Linux's {linux:,} wake-ups of kswapd, too", "wakeups_matched"),
        (f"{report.wakeups_extra:,} wake-ups more", "wakeups_extra"),
        (f"the OOM killer's victim: {victim(facts['oom_victim'])}; Linux: {victim(facts['oom_victim_real'])}",
         "oom_victim"),
    ]  # fmt: skip
    lines = [
        f"{report.trace}: {report.events:,} events in {report.seconds:.2f} s; the model was given what programs did",
        *(f"  {'too far' if name in misses else 'near':<9}{text}" for text, name in rows),
        "",
        f"{'free pages':<22}{'seconds':>12}{'model':>10}{'Linux':>10}",
        *(f"{mark:<22}{at:12.3f}{model:10,}{real:10,}" for mark, at, model, real in report.samples),
        "",
        *skipped_lines(report),
    ]
    return "\n".join(lines).rstrip()


def victim(pid: int | None) -> str:
    """A pid, or that there was none."""
    return "nobody" if pid is None else str(pid)
