"""Our provider before Inspect: its own suite for providers, real evaluations, and attacks from within.

Not collected by itself: `test_inspect.py` runs it where Inspect is, which lies apart from the packages of the tests.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from inspect_ai import Task
from inspect_ai import eval as evaluate
from inspect_ai._util.error import PrerequisiteError
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalLog
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import Tool, bash, tool
from inspect_ai.util import (
    OutputLimitExceededError,
    SandboxEnvironmentSpec,
    SandboxUnavailableError,
    SandboxUserUnsupportedError,
    sandbox,
)
from inspect_ai.util._sandbox.limits import override_max_exec_output_size
from inspect_ai.util._sandbox.self_check import *  # noqa: F403 - the suite is offered in this way

from keyturn.adapters.inspect import keeper as keeping
from keyturn.adapters.inspect import living as lives
from keyturn.adapters.inspect.config import KeyturnConfig
from keyturn.adapters.inspect.keeper import base, held, keeper, sweep_all
from keyturn.adapters.inspect.provider import KeyturnSandbox
from keyturn.core.terms import Tier

pytestmark = [pytest.mark.anyio, pytest.mark.judges, pytest.mark.root]

KNOWN = {"test_exec_as_user": "a sandbox has one user, and nobody in it can become another"}
"""What of their suite must fail, and why."""


@pytest.fixture(scope="session", autouse=True)
def judges() -> None:
    """The other judges are not asked here."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def sandbox_env(request: pytest.FixtureRequest) -> AsyncIterator[KeyturnSandbox]:
    name = getattr(request.node, "originalname", "")
    if name in KNOWN:
        request.node.add_marker(pytest.mark.xfail(raises=SandboxUserUnsupportedError, reason=KNOWN[name]))
    environments = await KeyturnSandbox.sample_init("suite", None, {})
    try:
        yield environments["default"]
    finally:
        await KeyturnSandbox.sample_cleanup("suite", None, environments, False)


async def opened(**config: Any) -> tuple[KeyturnSandbox, dict[str, Any]]:
    environments = await KeyturnSandbox.sample_init("test", KeyturnConfig(**config), {})
    return environments["default"], environments


def processes_of(name: str) -> list[int]:
    """Every process in cgroups of this name, in any of our roots."""
    found = subprocess.run(
        ["find", "/sys/fs/cgroup", "-type", "d", "-name", name], capture_output=True, text=True, check=False
    ).stdout.split()
    return [int(pid) for folder in found for pid in (Path(folder) / "cgroup.procs").read_text().split()]


# -- evaluations


def python_said(code: str) -> Tool:
    @tool
    def look() -> Tool:
        async def execute() -> str:
            """Run one program in the sandbox."""
            done = await sandbox().exec(["python", "-c", code])
            return done.stdout + done.stderr

        return execute

    return look()


def counted(output: ModelOutput) -> ModelOutput:
    """With its tokens counted: Inspect would fetch a tokenizer to do so."""
    output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    return output


def evaluated(one: Tool, name: str, arguments: dict[str, Any], samples: int = 1) -> EvalLog:
    """An evaluation whose model calls the tool once and is done."""

    def answer(messages: list[Any], *_: Any) -> ModelOutput:
        if messages[-1].role == "user":
            return counted(ModelOutput.for_tool_call("mockllm/model", name, arguments))
        return counted(ModelOutput.from_content("mockllm/model", "done"))

    task = Task(
        dataset=[Sample(input="look", files={"given.txt": "given"}) for _ in range(samples)],
        solver=[use_tools(one), generate()],
        sandbox="keyturn",
    )
    return evaluate(task, model=get_model("mockllm/model", custom_outputs=answer), display="none")[0]


def told(log: EvalLog, sample: int = 0) -> list[dict[str, Any]]:
    """What was recorded by us in a sample's transcript."""
    events = log.samples[sample].events
    return [event.data for event in events if event.event == "info" and event.source == "keyturn"]


def said(log: EvalLog, sample: int = 0) -> str:
    """What the tool gave to the model."""
    return next(str(m.content) for m in log.samples[sample].messages if m.role == "tool")


LOOK = """
import os
def tried(path, mode):
    try:
        open(path, mode).close()
        return 'REACHED'
    except OSError as error:
        return error.strerror
print(tried('/proc/1/mem', 'rb'), '|', tried('/proc/2/mem', 'rb'), '|', tried('/proc/2/fd/1', 'wb'), '|',
      tried('/keyturn/init.py', 'ab'), '|', open('given.txt').read(), '|', os.getuid(), os.getcwd())
"""


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("away")
def test_an_evaluation_runs_its_tools_attested_and_ends_with_a_receipt() -> None:
    log = evaluated(python_said(LOOK), "look", {})
    assert log.status == "success", log.error
    assert said(log).strip() == (
        "Permission denied | Permission denied | Permission denied | Permission denied | given | 1000 /tmp/work"
    )
    begun, ended = told(log)
    assert begun["tier"] == "T2"
    assert begun["attestation"].startswith("sha256:")
    assert begun["facts"]["executable"] is True
    assert begun["facts"]["init"]["namespaces"] == dict.fromkeys(begun["facts"]["init"]["namespaces"], "own")
    assert (ended["state"], ended["survivors"], ended["why"]) == ("STOPPED", 0, "the sample is over")
    assert ended["sandbox"] == begun["sandbox"]


@pytest.mark.usefixtures("away")
def test_parallel_samples_have_a_sandbox_each_and_equal_attestations() -> None:
    log = evaluated(bash(), "bash", {"command": "ls; touch mine; sleep 0.3; ls | wc -l"}, samples=4)
    assert log.status == "success", log.error
    records = [told(log, n) for n in range(4)]
    assert len({begun["sandbox"] for begun, _ in records}) == 4
    assert len({begun["attestation"] for begun, _ in records}) == 1
    assert [ended["state"] for _, ended in records] == ["STOPPED"] * 4
    assert {said(log, n) for n in range(4)} == {"given.txt\n2\n"}


@pytest.mark.usefixtures("away")
def test_a_tool_whose_sandbox_is_lost_gives_the_model_no_output() -> None:
    log = evaluated(bash(), "bash", {"command": "echo fine; kill -9 -1; echo forged"})
    message = next(m for m in log.samples[0].messages if m.role == "tool")
    assert message.error is not None
    assert message.error.type == "sandbox_unavailable"
    assert "fine" not in str(message.content)
    assert told(log)[-1]["state"] == "STOPPED"


@pytest.mark.usefixtures("away")
def test_a_setup_script_of_a_sample_is_run_by_its_path() -> None:
    model = get_model("mockllm/model", custom_outputs=[counted(ModelOutput.from_content("mockllm/model", "done"))])
    task = Task(dataset=[Sample(input="x", setup="echo made > made.txt")], solver=[generate()], sandbox="keyturn")
    log = evaluate(task, model=model, display="none")[0]
    assert log.status == "success", log.error


@pytest.mark.usefixtures("away")
def test_a_task_that_asks_for_more_than_this_machine_gives_does_not_begin() -> None:
    asked = SandboxEnvironmentSpec("keyturn", KeyturnConfig(tier="T3"))
    task = Task(dataset=[Sample(input="x")], solver=[generate()], sandbox=asked)
    with pytest.raises(PrerequisiteError, match="this machine gives T2, T3 is required"):
        evaluate(task, model="mockllm/model", display="none")


# -- what is promised of one sandbox


async def test_a_sandbox_attested_below_the_tier_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from keyturn.sandbox import running

    monkeypatch.setattr(running, "attest", lambda subject, tier: running.Attestation(Tier.T1, {}, (), ("user: x",)))
    with pytest.raises(SandboxUnavailableError, match="attested as T1, T2 is required"):
        await opened()


@pytest.mark.parametrize(("config", "heard"), [({"executable": True}, "ran"), ({"executable": False}, None)])
async def test_what_was_written_is_run_by_its_path_only_where_that_was_asked_for(
    config: dict[str, Any], heard: str | None
) -> None:
    one, environments = await opened(**config)
    await one.write_file("script", "#!/bin/sh\necho ran\n")
    await one.exec(["chmod", "+x", "script"])
    if heard is None:
        with pytest.raises(PermissionError):
            await one.exec(["./script"])
        assert (await one.exec(["sh", "script"])).stdout == "ran\n"
    else:
        assert (await one.exec(["./script"])).stdout == "ran\n"
    await KeyturnSandbox.sample_cleanup("test", None, environments, False)


async def test_a_file_beyond_the_limit_is_refused_and_the_sandbox_lives_on() -> None:
    one, environments = await opened(work_mebibytes=200)
    await one.exec(["truncate", "-s", "150M", "big"])
    with pytest.raises(OutputLimitExceededError):
        await one.read_file("big", text=False)
    assert (await one.exec(["echo", "here"])).stdout == "here\n"
    await KeyturnSandbox.sample_cleanup("test", None, environments, False)


async def test_of_a_flood_the_last_bytes_are_kept_and_it_ends_at_its_time() -> None:
    one, environments = await opened(memory_mebibytes=256)
    with override_max_exec_output_size(1000):
        done = await one.exec(["sh", "-c", "head -c 300000000 /dev/zero | tr '\\0' a; echo end"])
    assert (len(done.stdout), done.stdout[-5:]) == (1000, "aend\n")
    with pytest.raises(TimeoutError):
        await one.exec(["yes"], timeout=1)
    assert "yes" not in (await one.exec(["ps", "ax"])).stdout
    await KeyturnSandbox.sample_cleanup("test", None, environments, False)


async def test_what_a_command_leaves_behind_neither_holds_its_answer_nor_outlives_the_sandbox() -> None:
    one, environments = await opened()
    begun = time.monotonic()
    code = "import os,time\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\ntime.sleep(600)"
    done = await one.exec(["python", "-c", code], timeout=60)
    assert done.success
    assert time.monotonic() - begun < 30
    assert "time.sleep(600)" in (await one.exec(["ps", "axww"])).stdout
    name = one._living.id
    assert processes_of(name)
    await KeyturnSandbox.sample_cleanup("test", None, environments, False)
    assert processes_of(name) == []


async def test_a_daemon_is_killed_when_its_command_times_out() -> None:
    one, environments = await opened()
    code = "import os,time\nif os.fork(): time.sleep(600)\nos.setsid()\nif os.fork(): os._exit(0)\ntime.sleep(700)"
    with pytest.raises(TimeoutError):
        await one.exec(["python", "-c", code], timeout=2)
    assert "time.sleep" not in (await one.exec(["ps", "axww"])).stdout
    await KeyturnSandbox.sample_cleanup("test", None, environments, False)


async def test_a_cancelled_call_ends_its_command() -> None:
    one, environments = await opened()
    with anyio.move_on_after(1):
        await one.exec(["sleep", "611"])
    await anyio.sleep(0.5)
    assert "611" not in (await one.exec(["ps", "axww"])).stdout
    await KeyturnSandbox.sample_cleanup("test", None, environments, False)


async def test_commands_run_beside_each_other_and_may_signal_each_other() -> None:
    one, environments = await opened()
    await one.exec(["sh", "-c", "sleep 622 > /dev/null 2>&1 & echo $! > pid"])
    assert (await one.exec(["sh", "-c", "kill $(cat pid)"])).success
    begun = time.monotonic()
    await asyncio.gather(*(one.exec(["sleep", "2"]) for _ in range(8)))
    assert time.monotonic() - begun < 12
    await KeyturnSandbox.sample_cleanup("test", None, environments, False)


# -- attacks from within


FRAME = (
    "import json,struct;h=json.dumps({'id':%d,'code':0,'late':False,'cut':[]}).encode();f=struct.pack('>II',len(h),0)+h"
)


@pytest.mark.parametrize(
    "attack",
    [
        "open('/proc/2/fd/1','wb').write(f)",
        "open('/proc/%d/fd/1' % os.getppid(),'wb').write(f)",
        "open('/proc/%d/mem' % os.getppid(),'r+b').close()",
        "[os.write(n, f) for n in range(3, 64)]",
        "os.open('/proc/%d/fd' % os.getppid(), os.O_RDONLY)",
    ],
)
async def test_a_command_cannot_speak_for_the_agent(attack: str) -> None:
    one, environments = await opened()
    done = await one.exec(["python", "-c", f"import os;{FRAME % 1};{attack};print('GOT THROUGH')"])
    assert done.returncode == 1
    assert "GOT THROUGH" not in done.stdout
    assert (await one.exec(["echo", "true word"])).stdout == "true word\n"
    await KeyturnSandbox.sample_cleanup("test", None, environments, False)


@pytest.mark.parametrize("place", ["/proc/self/fd/1", "/dev/fd/1", "/proc/thread-self/fd/1", "link"])
async def test_the_agent_cannot_be_led_to_write_a_file_into_its_own_voice(place: str) -> None:
    one, environments = await opened()
    await one.exec(["ln", "-s", "/proc/self/fd/1", "link"])
    text = json.dumps({"id": 3, "code": 0, "late": False, "cut": []}).encode()
    with pytest.raises(PermissionError):
        await one.write_file(place, len(text).to_bytes(4, "big") + bytes(4) + text)
    with pytest.raises(PermissionError):
        await one.read_file("/proc/self/fd/0", text=False)
    assert (await one.exec(["sh", "-c", "exit 9"])).returncode == 9
    await KeyturnSandbox.sample_cleanup("test", None, environments, False)


@pytest.mark.parametrize("place", ["sock", "/dev/zero", "/dev/stdin"])
async def test_what_is_no_file_holds_nobody_up(place: str) -> None:
    one, environments = await opened()
    await one.exec(["python", "-c", "import socket;socket.socket(socket.AF_UNIX).bind('sock')"])
    for ask in (one.read_file(place), one.write_file(place, "x")):
        with anyio.fail_after(20), pytest.raises(OSError, match=place):
            await ask
    await KeyturnSandbox.sample_cleanup("test", None, environments, False)


@pytest.mark.parametrize("attack", ["kill -9 -1", "kill -9 $PPID"])
async def test_a_command_that_kills_the_agent_loses_the_sandbox_and_is_never_heard(attack: str) -> None:
    one, environments = await opened()
    with pytest.raises(SandboxUnavailableError, match="is lost"):
        await one.exec(["bash", "-c", f"echo forged; sleep 0.2; {attack}; sleep 5"])
    with pytest.raises(SandboxUnavailableError):
        await one.read_file("/etc/passwd")
    receipt = one._living.receipt
    assert receipt is not None
    assert receipt.state == "STOPPED"
    await KeyturnSandbox.sample_cleanup("test", None, environments, False)


async def test_signals_that_can_be_caught_do_not_move_the_agent() -> None:
    one, environments = await opened()
    await one.exec(["sh", "-c", "for s in TERM HUP INT QUIT USR1 USR2 ALRM TSTP; do kill -$s $PPID; done"])
    assert (await one.exec(["sh", "-c", "kill -TERM $$"])).returncode == 143
    await KeyturnSandbox.sample_cleanup("test", None, environments, False)


async def test_an_agent_that_is_held_still_is_lost_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lives, "SILENT_SECONDS_MAX", 4.0)
    one, environments = await opened(lease_seconds=3)
    with pytest.raises(SandboxUnavailableError, match="silent for 4 seconds"):
        await one.exec(["sh", "-c", "kill -STOP $PPID; sleep 600"])
    await KeyturnSandbox.sample_cleanup("test", None, environments, False)


@pytest.mark.parametrize(
    "code",
    ["import os\nwhile True: os.fork()", "x = []\nwhile True: x.append(bytearray(1 << 20))"],
)
async def test_a_bomb_ends_in_an_answer_or_a_loss_and_always_in_a_receipt(code: str) -> None:
    one, _ = await opened(processes_max=24, memory_mebibytes=128, work_mebibytes=16)
    with anyio.fail_after(60):
        try:
            done = await one.exec(["python", "-c", code], timeout=5)
            assert not done.success
        except (TimeoutError, SandboxUnavailableError):
            pass
    receipt = await anyio.to_thread.run_sync(keeper().close, one._living, "test")
    assert receipt.state == "STOPPED"


# -- the end of the governor


SLEEPER = """
import anyio, sys
from keyturn.adapters.inspect.config import KeyturnConfig
from keyturn.adapters.inspect.keeper import keeper
from keyturn.adapters.inspect.provider import KeyturnSandbox
async def main():
    made = await KeyturnSandbox.sample_init("t", KeyturnConfig(lease_seconds=2), {})
    one = made["default"]
    await one.exec(["sh", "-c", "setsid sleep 900 > /dev/null 2>&1 &"])
    print(one._living.id, keeper().place.name, flush=True)
    await anyio.sleep(900)
anyio.run(main)
"""


@pytest.fixture
def governor() -> Any:
    made = subprocess.Popen([sys.executable, "-c", textwrap.dedent(SLEEPER)], stdout=subprocess.PIPE, text=True)
    assert made.stdout is not None
    yield made, *made.stdout.readline().split()
    made.kill()
    made.wait()
    made.stdout.close()


def gone(name: str, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while processes_of(name):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_an_inspect_process_that_is_killed_or_hangs_leaves_nothing_alive(governor: Any, blow: signal.Signals) -> None:
    process, sandbox_id, _ = governor
    assert len(processes_of(sandbox_id)) >= 3
    os.kill(process.pid, blow)
    assert gone(sandbox_id, 20)


def test_the_cleanup_takes_what_is_left_and_spares_who_lives(governor: Any) -> None:
    process, sandbox_id, place = governor
    assert sweep_all()[place] is None
    assert processes_of(sandbox_id)
    process.kill()
    process.wait()
    receipt = sweep_all()[place]
    assert receipt is not None
    assert receipt.state == "STOPPED"
    assert not (base() / place).exists()


def test_a_place_that_is_named_is_swept_though_its_process_lives(governor: Any) -> None:
    _, sandbox_id, place = governor
    receipt = sweep_all(place)[place]
    assert receipt is not None
    assert receipt.state == "STOPPED"
    assert receipt.processes_before >= 3
    assert gone(sandbox_id, 1)


def test_the_command_line_of_inspect_cleans_up(governor: Any) -> None:
    process, _, place = governor
    process.kill()
    process.wait()
    code = "from keyturn.adapters.inspect import registry; from inspect_ai._cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "sandbox", "cleanup", "keyturn"], capture_output=True, text=True, check=True
    )
    assert f"{place}: STOPPED" in done.stdout


def test_a_place_is_held_by_one() -> None:
    with held(keeper().place) as free:
        assert not free


def test_a_folder_of_somebody_else_is_no_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from keyturn.core.errors import Unavailable

    monkeypatch.setattr(keeping.tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / f"keyturn-inspect-{os.geteuid()}").mkdir(mode=0o755)
    with pytest.raises(Unavailable, match="not a folder of this user's alone"):
        base()


def test_a_config_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    from keyturn.adapters.inspect.config import read_config
    from keyturn.core.errors import MalformedInput

    file = tmp_path / "keyturn.yaml"
    file.write_text("tier: T2\nmemory_mebibytes: 512\n")
    assert read_config(str(file)) == KeyturnConfig(memory_mebibytes=512)
    for text in ("network: true", "tier: T0", "- a", "memory_mebibytes: lots", "{"):
        file.write_text(text)
        with pytest.raises(MalformedInput):
            read_config(str(file))
    with pytest.raises(MalformedInput):
        read_config(tmp_path)
