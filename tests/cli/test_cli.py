"""The command line: what each command prints, how it ends, and that nothing ends in a traceback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kmemlab.cli import lab, main, where
from kmemlab.course.where import UnknownName
from kmemlab.sim.kernel import KernelMark, Registry

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def kmemlab(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kmemlab", *arguments]
    settings = {"env": ENVIRONMENT, "timeout": 120, **options}
    return subprocess.run(command, capture_output=True, text=True, check=False, **settings)  # type: ignore[call-overload,no-any-return]


# -- how every command ends --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["boot", "laptop-9g"], "laptop-9g"),
        (["boot", "/no/such/hardware.json"], "hardware.json"),
        (["boot", "laptop-8g", "--until", "no_such_stage"], "no_such_stage"),
        (["boot", "x" * 5000], "(5000 characters)"),
        (["compare", "/no/such/folder"], "/no/such/folder"),
        (
            ["replay", "/no/such/folder"],
            "there is no such trace: No such file or directory\n  where:  /no/such/folder\n",
        ),
        (["replay", "x" * 5000], "there is no such trace: File name too long"),
        (["where", "no_such_function_at_all"], "no_such_function_at_all"),
        (["course", "build", "--root", "/no/such/folder"], "/no/such/folder"),
        (["course", "run", "/no/such.ipynb"], "/no/such.ipynb"),
    ],
)
def test_an_error_of_ours_is_its_text_and_status_2(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("kmemlab: ")
    assert told in err
    assert "remedy:" in err
    assert "Traceback" not in err


def test_a_wrong_command_line_is_status_2_too() -> None:
    assert kmemlab("no-such-command").returncode == 2
    assert "COMMAND" in kmemlab("--help").stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["boot", "tiny-128m", "--out", ""], "the name is empty"),
        (["lab", "--port", "-1"], "'-1' is no port: write a number from 0 (any) to 65535"),
        (["lab", "--port", "99999999"], "'99999999' is no port"),
        (["lab", "--port", "65536"], "'65536' is no port"),
        (["lab", "--port", "²"], "is no port"),
    ],
)
def test_an_option_that_can_not_be_is_refused(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_ctrl_c_is_status_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, "load_all", interrupted)
    assert main(["where", "expand"]) == 130
    assert capsys.readouterr().err == "kmemlab: interrupted\n"


@pytest.mark.skipif(os.name != "posix", reason="pipes end otherwise there")
def test_a_reader_who_has_enough_is_no_error() -> None:
    line = f"{sys.executable} -m kmemlab boot laptop-8g | head -n 1; echo status ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "status 0"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_a_full_disk_is_told() -> None:
    line = f"{sys.executable} -m kmemlab boot laptop-8g > /dev/full; echo status $?"
    done = subprocess.run(["bash", "-c", line], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.stderr == "kmemlab: the output can't be written: No space left on device\n"
    assert done.stdout == "status 2\n"


# -- boot --------------------------------------------------------------------------------------------------------------


def test_boot_says_what_its_files_leave_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boot", "tiny-128m", "--out", str(tmp_path)]) == 0
    told = capsys.readouterr()
    for name in ("vmstat.txt", "slabinfo.txt", "vmallocinfo.txt"):
        assert (tmp_path / name).exists()
        assert f"{name} leaves out: " in told.err
    assert (tmp_path / "pagetypeinfo.txt").read_text().startswith("Page block order: 9\n")
    assert "leaves out" not in told.out


# -- compare -----------------------------------------------------------------------------------------------------------


def test_compare_tells_what_agrees_and_what_does_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capture = ROOT / "tests" / "data" / "machines" / "amd64-96m"
    assert main(["compare", str(capture)]) == 0
    assert "100 % of the facts agree" in capsys.readouterr().out
    for name in ("hardware.json", "zoneinfo.txt"):
        shutil.copy(capture / name, tmp_path)
    zoneinfo = (tmp_path / "zoneinfo.txt").read_text()
    (tmp_path / "zoneinfo.txt").write_text(zoneinfo.replace("managed  3840", "managed  3841"))
    assert main(["compare", str(tmp_path), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["families"]["zone.size"]["differences"][0]["linux"] == "0/DMA managed 3841"


def test_a_machine_of_linux_6_12_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = json.loads((ROOT / "tests/data/machines/amd64-96m/hardware.json").read_text()) | {"kernel": "amd64-6.12"}
    (tmp_path / "hardware.json").write_text(json.dumps(spec))
    (tmp_path / "iomem.txt").write_text("00001000-0009fbff : System RAM\n")
    for arguments in (["boot", str(tmp_path)], ["compare", str(tmp_path)]):
        assert main(arguments) == 2
        assert "amd64-6.12" in capsys.readouterr().err


# -- where -------------------------------------------------------------------------------------------------------------


def marks() -> Registry:
    registry = Registry()

    def free_one_page() -> None:
        """Give a block back."""

    def free_one_page_locked() -> None: ...

    def e820__update_table() -> None: ...

    registry.add(
        KernelMark(free_one_page, "__free_one_page", "mm/page_alloc.c", "compaction capture", lock="zone->lock")
    )
    registry.add(KernelMark(free_one_page_locked, "free_one_page", "mm/page_alloc.c"))
    registry.add(
        KernelMark(e820__update_table, "e820__update_table", "arch/x86/kernel/e820.c", formerly=("sanitize_e820_map",))
    )
    return registry


def test_a_c_name_an_old_name_and_a_python_name_lead_to_the_same() -> None:
    known = marks()
    assert [m.name for m in where.find(known, "sanitize_e820_map")] == ["e820__update_table"]
    assert [m.name for m in where.find(known, "__free_one_page()")] == ["__free_one_page"]


def test_an_ambiguous_name_gives_all_the_exact_c_name_first() -> None:
    assert [m.name for m in where.find(marks(), "free_one_page")] == ["free_one_page", "__free_one_page"]


@pytest.mark.parametrize("typo", ["fre_one_page", "FREE_ONE_PAGES", "sanitise_e820_map"])
def test_an_unknown_name_tells_the_nearest(typo: str) -> None:
    with pytest.raises(UnknownName, match=r"nearest names: .*(free_one_page|sanitize_e820_map)"):
        where.find(marks(), typo)


def test_everything_known_of_a_function_is_told() -> None:
    told = "\n".join(where.describe(where.find(marks(), "__free_one_page")[0]))
    for fact in (
        "__free_one_page()",
        "mm/page_alloc.c (Linux v6.1)",
        "https://elixir.bootlin.com/linux/v6.1/source/mm/page_alloc.c",
        "left out: compaction capture",
        "zone->lock",
        "Give a block back.",
    ):
        assert fact in told


def test_where_finds_the_real_functions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["where", "__find_buddy_pfn"]) == 0
    assert "kmemlab.mm.buddy.find_buddy_pfn" in capsys.readouterr().out


def test_c_is_cut_from_the_tree_that_the_reader_points_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mm").mkdir()
    (tmp_path / "mm" / "page_alloc.c").write_text("int x;\n\nstatic void expand(int low)\n{\n\treturn;\n}\n")
    monkeypatch.setenv("KMEMLAB_LINUX", str(tmp_path))
    assert main(["where", "expand", "--c"]) == 0
    assert "/* mm/page_alloc.c:3 */\nstatic void expand(int low)\n{\n\treturn;\n}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tree", "told"), [(None, "is not set"), ("/no/such/tree", "holds no mm/page_alloc.c"), ("", "is not set")]
)
def test_without_a_source_tree_the_reader_is_told_what_to_do(
    tree: str | None, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KMEMLAB_LINUX", raising=False)
    if tree is not None:
        monkeypatch.setenv("KMEMLAB_LINUX", tree)
    assert main(["where", "expand", "--c"]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert "unpack Linux v6.1" in err


# -- boot --------------------------------------------------------------------------------------------------------------

FILES = {"dmesg.txt", "iomem.txt", "buddyinfo.txt", "zoneinfo.txt", "meminfo.txt", "sys_vm.txt"}


def test_boot_prints_the_log_and_writes_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "out"
    assert main(["boot", "laptop-8g", "--out", str(out)]) == 0
    log = capsys.readouterr().out
    assert "BIOS-e820: [mem 0x" in log
    assert {path.name for path in out.iterdir()} >= FILES
    assert (out / "dmesg.txt").read_text() == log
    assert list(out.parent.iterdir()) == [out], "nothing is left beside it"


def test_boot_until_a_stage_stops_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boot", "laptop-8g"]) == 0
    whole = capsys.readouterr().out
    assert main(["boot", "laptop-8g", "--until", "e820__memory_setup"]) == 0
    part = capsys.readouterr().out
    assert "BIOS-e820" in part
    assert whole.startswith(part.rstrip("\n"))
    assert len(part) < len(whole)


def test_a_machine_that_does_not_boot_leaves_nothing(tmp_path: Path) -> None:
    assert main(["boot", "laptop-9g", "--out", str(tmp_path / "out")]) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["boot", "laptop-8g", "--out", str(tmp_path / "file" / "out")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "can't be written" in err


def test_boot_until_an_early_stage_writes_what_there_is(tmp_path: Path) -> None:
    assert main(["boot", "laptop-8g", "--until", "e820__memory_setup", "--out", str(tmp_path / "out")]) == 0
    assert "BIOS-e820" in (tmp_path / "out" / "dmesg.txt").read_text()


# -- lab ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A course as the wheel ships it, in a place of its own."""
    course = tmp_path / "shipped"
    for name in ("notebooks/01_e820.ipynb", "notebooks/data/dmesg.txt", "exercises/01_e820.ipynb"):
        (course / name).parent.mkdir(parents=True, exist_ok=True)
        (course / name).write_text(f"the original {name}")
    monkeypatch.setattr(lab, "originals", lambda: course)
    monkeypatch.setattr(lab, "clone", lambda: None)
    monkeypatch.chdir(tmp_path)
    return course


def test_a_working_copy_is_made_and_filled_up_but_never_overwritten(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = lab.course_folder(None)
    assert folder == tmp_path / "kmemlab-course"
    mine = folder / "exercises" / "01_e820.ipynb"
    mine.write_text("my answer")
    (folder / "notebooks" / "data" / "dmesg.txt").unlink()
    assert lab.course_folder(None) == folder
    assert mine.read_text() == "my answer"
    assert (folder / "notebooks" / "data" / "dmesg.txt").exists()
    assert "3 files added, 0 of yours kept" in capsys.readouterr().out.splitlines()[0]


def test_solutions_are_not_handed_out(shipped: Path) -> None:
    (shipped / "solutions").mkdir()
    (shipped / "solutions" / "01_e820.ipynb").write_text("")
    assert not (lab.course_folder(None) / "solutions").exists()


def test_from_a_clone_the_clone_is_the_course() -> None:
    assert lab.course_folder(None) == ROOT


def test_only_lectures_as_they_were_written_are_trusted(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat, sign = pytest.importorskip("nbformat"), pytest.importorskip("nbformat.sign")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    for name in ("01_own.ipynb", "02_changed.ipynb"):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[], id="one")])
        nbformat.write(notebook, shipped / "notebooks" / name)
    folder = lab.course_folder(tmp_path / "copy")
    changed = folder / "notebooks" / "02_changed.ipynb"
    changed.write_text(changed.read_text().replace('"1"', '"2"'))
    lab.trust_lectures(folder)
    notary = sign.NotebookNotary()
    trusted = {
        name: notary.check_signature(nbformat.read(folder / "notebooks" / name, 4))
        for name in ("01_own.ipynb", "02_changed.ipynb")
    }
    assert trusted["01_own.ipynb"]
    assert not trusted["02_changed.ipynb"]


def test_the_command_line_of_jupyterlab(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    line = lab.command(shipped, no_browser=True, port=8899)
    assert line[:3] == [sys.executable, "-m", "jupyterlab"]
    for option in (f"--ServerApp.root_dir={shipped}", "--no-browser", "--port=8899", "--allow-root"):
        assert option in line
    assert "--LabApp.default_url=/lab/tree/notebooks/01_e820.ipynb" in line
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    assert "--allow-root" not in lab.command(shipped, no_browser=False, port=None)


def test_without_jupyterlab_the_reader_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lab, "NEEDED", ("no_such_package",))
    assert main(["lab"]) == 2
    assert "pip install 'kmemlab[lab]'" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_lab_serves_the_course_and_ends_with_its_signal(shipped: Path, tmp_path: Path) -> None:
    pytest.importorskip("jupyterlab")
    home = tmp_path / "home"
    environment = {
        **ENVIRONMENT,
        "HOME": str(home),
        "JUPYTER_CONFIG_DIR": str(home),
        "JUPYTER_RUNTIME_DIR": str(home / "run"),
    }
    log = tmp_path / "log"
    with log.open("w") as stream:
        command = [
            sys.executable,
            "-m",
            "kmemlab",
            "lab",
            "--no-browser",
            "--port",
            "0",
            "--dir",
            str(tmp_path / "course"),
        ]
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=subprocess.STDOUT)
        try:
            for _ in range(300):
                if "http://" in log.read_text() or process.poll() is not None:
                    break
                time.sleep(0.2)
            assert "http://" in log.read_text(), log.read_text()
            assert (tmp_path / "course" / "notebooks").is_dir()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


# -- doctor ------------------------------------------------------------------------------------------------------------


def test_doctor_says_what_is_there_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KMEMLAB_DOT", "/no/such/dot")
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for fact in (
        f"Python {sys.version_info.major}.{sys.version_info.minor}",
        "no Chromium",
        "apt-get install chromium",
        "bubblewrap is not installed",
    ):
        assert fact in out
    assert all(line.startswith(("  ok  ", "  --  ", "      ")) or not line.startswith(" ") for line in out.splitlines())


# -- course ------------------------------------------------------------------------------------------------------------


def test_course_build_check_of_the_clone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["course", "build", "--check"]) == 0
    assert "equal a fresh build" in capsys.readouterr().out


def test_course_build_and_check_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from kmemlab.course.notebook import write

    cell = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# A"}
    write(tmp_path / "solutions" / "01_a.ipynb", {"cells": [cell], "metadata": {}})
    assert main(["course", "build", "--check", "--root", str(tmp_path)]) == 1
    assert capsys.readouterr().out == "01_a.ipynb: not built\n"
    assert main(["course", "build", "--root", str(tmp_path)]) == 0
    assert main(["course", "build", "--check", "--root", str(tmp_path)]) == 0
    assert main(["course", "format", str(tmp_path / "solutions" / "01_a.ipynb")]) == 0
    assert capsys.readouterr().out.endswith("unchanged\n")


# -- course: progress and reset ----------------------------------------------------------------------------------------


def test_progress_of_the_clone_is_what_its_exercises_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["course", "progress"]) == 0
    assert "In all 0 of" in capsys.readouterr().out
    assert main(["course", "progress", "--json"]) == 0
    chapters = json.loads(capsys.readouterr().out)
    assert [chapter["name"] for chapter in chapters] == [p.stem for p in sorted((ROOT / "exercises").glob("*.ipynb"))]


def test_reset_in_a_working_copy_keeps_the_old_file(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kmemlab.cli import course, places

    monkeypatch.setattr(course, "originals", lambda: shipped)
    monkeypatch.setattr(places, "clone", lambda: None)
    shutil.copyfile(ROOT / "exercises" / "01_e820.ipynb", shipped / "exercises" / "01_e820.ipynb")
    folder = lab.course_folder(None)
    mine = folder / "exercises" / "01_e820.ipynb"
    mine.write_text("my answer")
    assert main(["course", "reset", "01"]) == 0
    assert mine.read_bytes() == (ROOT / "exercises" / "01_e820.ipynb").read_bytes()
    assert (folder / "exercises" / "kept" / "01_e820.1.ipynb").read_text() == "my answer"
    assert "01_e820.1.ipynb" in capsys.readouterr().out
    assert main(["course", "reset", "77_none"]) == 2
    assert "01_e820" in capsys.readouterr().err
