"""The machine's commands for the end of memory: whom the OOM killer would choose, and how to make it choose another."""

from __future__ import annotations

from kmemlab.machine.commanded import Commanded, whole_numbers
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.oom_snapshot import OomRank, oom_ranking, oom_ranking_text
from kmemlab.process.oom_badness import proc_oom_score, set_oom_score_adj
from kmemlab.process.oom_kill import moom_callback
from kmemlab.process.signal import run_killed, send_sigkill
from kmemlab.process.task_struct import TASK_RUNNING, TASK_UNINTERRUPTIBLE, find_task, living
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadRequest
from kmemlab.types.gfp import GFP_KERNEL


@invented("one family of the machine's commands")
class OomCommands(Commanded):
    """Who has to go when memory runs out.

    >>> from kmemlab.machine.machine import Machine
    >>> machine = Machine.boot("tiny-128m")
    >>> shell, editor = machine.spawn("sh"), machine.spawn("editor")
    >>> machine.touch(editor, machine.mmap(editor, 1 << 20), 1 << 20)
    >>> [(rank.name, rank.points) for rank in machine.oom_ranking()]
    [('editor', 259), ('sh', 0)]
    >>> machine.proc_oom_score_adj(editor, -1000)
    '-1000\\n'
    >>> [(rank.name, rank.killable) for rank in machine.oom_ranking()]
    [('sh', True), ('editor', False)]
    """

    kernel: Kernel

    def proc_oom_score_adj(self, pid: int, value: int | None = None) -> str:
        """Read /proc/PID/oom_score_adj, or write it: -1000 (never kill it) to 1000 (kill it first).

        Raises `BadRequest` for another number, and for a pid that nobody has.
        """
        whole_numbers("oom_score_adj", pid=pid)
        if value is None:
            return f"{find_task(self.kernel.processes, pid).oom_score_adj}\n"
        whole_numbers("oom_score_adj", value=value)
        self._command("proc_oom_score_adj", pid, value)
        return f"{value}\n"

    def proc_oom_score(self, pid: int) -> str:
        """/proc/PID/oom_score: 0 for a task that is never killed, the largest is killed first. No command."""
        whole_numbers("oom_score", pid=pid)
        return f"{proc_oom_score(self.kernel.processes, find_task(self.kernel.processes, pid))}\n"

    def oom_ranking(self) -> tuple[OomRank, ...]:
        """Whom the OOM killer would choose, worst first. No command."""
        return oom_ranking(self.kernel.processes)

    def oom_ranking_text(self) -> str:
        """The same as a table. No command."""
        return oom_ranking_text(self.oom_ranking())

    def kill(self, pid: int) -> None:
        """Send SIGKILL to a process; it ends at once, unless it sleeps uninterruptibly. Raises `BadRequest`."""
        whole_numbers("kill", pid=pid)
        self._command("kill", pid)

    def uninterruptible(self, pid: int, asleep: bool = True) -> None:
        """Let a process sleep where no signal reaches it, as one that waits for a disk that is gone; or wake it.

        Raises `BadRequest` for a pid that nobody has, or of a zombie.
        """
        whole_numbers("uninterruptible", pid=pid)
        self._command("uninterruptible", pid, int(asleep))

    def sysrq_f(self) -> None:
        """Press Alt-SysRq-f: the process that would be killed first is killed, though there is memory."""
        if not self.kernel.mm.totalram_pages:
            raise BadRequest("nobody hears the key yet", where="sysrq_f", remedy="boot to the end")
        self._command("sysrq_f")

    def _do_proc_oom_score_adj(self, pid: int, value: int) -> None:
        set_oom_score_adj(self.kernel.processes, pid, value)

    def _do_kill(self, pid: int) -> None:
        processes = self.kernel.processes
        send_sigkill(living(processes, pid)[0])
        run_killed(processes)

    def _do_uninterruptible(self, pid: int, asleep: int) -> None:
        processes = self.kernel.processes
        living(processes, pid)[0].state = TASK_UNINTERRUPTIBLE if asleep else TASK_RUNNING
        run_killed(processes)

    def _do_sysrq_f(self) -> None:
        moom_callback(self.kernel.processes, GFP_KERNEL)
