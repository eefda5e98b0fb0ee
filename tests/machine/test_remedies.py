"""For everything that a machine lacks, the command that mends it on this very system; nothing where nothing lacks."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from keyturn.app.machine.doctor import bounded
from keyturn.app.machine.facts import APPARMOR_ON, CLONE_OFF, NAMESPACES_MAX, Facts, System
from keyturn.app.machine.remedies import CONTAINER, DELEGATE, TABLE, Remedy, family, remedies
from keyturn.app.machine.tiers import tiers
from keyturn.core.terms import Tier
from tests.machine import systems
from tests.machine.systems import facts, system
from tests.sandbox.test_standing import KEPT, judged


def whats(found: Facts) -> list[str]:
    return [each.what for each in remedies(found)]


def only(found: Facts) -> Remedy:
    [remedy] = remedies(found)
    return remedy


def test_a_machine_that_lacks_nothing_is_told_nothing() -> None:
    assert remedies(facts()) == ()


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (systems.DEBIAN_12, "sudo apt install bubblewrap"),
        (systems.UBUNTU_24_04, "sudo apt install bubblewrap"),
        (systems.MINT, "sudo apt install bubblewrap"),
        (systems.FEDORA, "sudo dnf install bubblewrap"),
        (systems.ROCKY, "sudo dnf install bubblewrap"),
        (systems.ARCH, "sudo pacman -S bubblewrap"),
        (systems.SUSE, "sudo zypper install bubblewrap"),
        (systems.ALPINE, "sudo apk add bubblewrap"),
    ],
)
def test_bubblewrap_is_installed_as_the_distribution_does_it(text: str, command: str) -> None:
    found = facts(text, bubblewrap="", tier=Tier.T0, fault="bubblewrap is not installed")
    remedy = only(found)
    assert (remedy.what, remedy.commands, remedy.blocks) == ("bubblewrap", (command,), True)


def test_on_a_distribution_that_we_do_not_know_the_package_is_named() -> None:
    remedy = only(facts(systems.NIXOS, bubblewrap="", tier=Tier.T0, fault="bubblewrap is not installed"))
    assert (remedy.commands, family(system(systems.NIXOS))) == ((), "")
    assert "`bubblewrap`" in remedy.note


def test_a_bubblewrap_that_cannot_forbid_namespaces_is_too_old() -> None:
    remedy = only(facts(systems.UBUNTU_22_04, bubblewrap="bubblewrap 0.6.1", tier=Tier.T0, fault="Unknown option"))
    assert remedy.what == "a newer bubblewrap"
    assert "Ubuntu 24.04" in remedy.note


@pytest.mark.parametrize(("version", "told"), [("0.8.0", True), ("0.11.2", True), ("0.12.0", False), ("0.13.1", False)])
def test_the_flaw_in_set_up_is_told_with_why_our_use_is_not_exposed(version: str, told: bool) -> None:
    found = remedies(facts(bubblewrap=f"bubblewrap {version}"))
    assert bool(found) is told
    for remedy in found:
        assert not remedy.blocks
        assert "GHSA-pxhw-h44j-8pfx" in remedy.why
        assert "not exposed" in remedy.why


def test_a_bubblewrap_that_runs_as_root_is_named() -> None:
    assert only(facts(setuid=True)).commands == ("sudo chmod u-s /usr/bin/bwrap",)


def test_ubuntu_keeps_programs_from_namespaces_until_the_profile_is_loaded() -> None:
    found = facts(
        systems.UBUNTU_24_04, bubblewrap="bubblewrap 0.12.0", tier=Tier.T0, fault="could not be built",
        namespaces=systems.UID_MAP, processes=systems.UID_MAP, sysctls={APPARMOR_ON: "1"},
    )  # fmt: skip  # one machine
    remedy = only(found)
    assert remedy.commands == (
        "sudo apt install apparmor-profiles",
        "sudo ln -s /usr/share/apparmor/extra-profiles/bwrap-userns-restrict /etc/apparmor.d/bwrap-userns-restrict",
        "sudo apparmor_parser -r /etc/apparmor.d/bwrap-userns-restrict",
    )
    assert systems.UID_MAP in remedy.why


def test_the_switch_alone_is_no_finding_where_launching_works() -> None:
    assert remedies(facts(systems.UBUNTU_24_04, sysctls={APPARMOR_ON: "1", CLONE_OFF: "0", NAMESPACES_MAX: "0"})) == ()


@pytest.mark.parametrize(
    ("sysctls", "command"),
    [
        ({CLONE_OFF: "0"}, "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        ({NAMESPACES_MAX: "0"}, "sudo sysctl -w user.max_user_namespaces=15000"),
    ],
)
def test_a_switch_that_is_off_is_switched_on(sysctls: dict[str, str], command: str) -> None:
    found = facts(namespaces=systems.NO_NAMESPACE, sysctls=sysctls, tier=Tier.T0, fault="could not be built")
    assert only(found).commands[0] == command


@pytest.mark.parametrize(
    ("namespaces", "processes"), [(systems.NO_NAMESPACE, systems.NO_NAMESPACE), ("", systems.NO_PROC)]
)
def test_in_a_container_the_engine_must_let_it(namespaces: str, processes: str) -> None:
    here = system(systems.DEBIAN_12, container="docker", systemd=False)
    found = facts(
        here=here, namespaces=namespaces, processes=processes, tier=Tier.T0, fault="could not be built",
        sysctls={APPARMOR_ON: "1", CLONE_OFF: "0"},
    )  # fmt: skip  # one machine
    remedy = only(found)
    assert remedy.commands == (CONTAINER,)
    assert "virtual machine" in remedy.note
    assert (namespaces or processes) in remedy.why


def test_a_container_that_lets_it_is_no_finding() -> None:
    assert remedies(facts(here=system(systems.DEBIAN_12, container="docker"))) == ()


def test_what_nothing_explains_is_shown_as_it_was_said() -> None:
    found = facts(systems.FEDORA, namespaces=systems.NO_NAMESPACE, tier=Tier.T0, fault="could not be built")
    assert systems.NO_NAMESPACE in only(found).why
    strange = only(facts(tier=Tier.T0, fault="the launcher does not answer"))
    assert (strange.why, strange.blocks) == ("the launcher does not answer", True)


def ordinary(*lacking: str, here: System | None = None, **more: object) -> Facts:
    return facts(here=here, root=False, tier=Tier.T1, lacking=lacking, **more)


def test_an_ordinary_user_has_systemd_hand_a_cgroup_over() -> None:
    found = remedies(ordinary("cgroup", "user", "descriptors"))
    assert [each.what for each in found] == ["a cgroup of our own", "a host user of the subject's own"]
    assert found[0].commands == (DELEGATE,)
    assert found[1].commands == ('sudo "$(command -v keyturn)" run',)


def test_without_systemd_only_the_superuser_has_cgroups() -> None:
    found = remedies(ordinary("cgroup", here=system(systems.ALPINE, systemd=False)))
    assert found[0].commands == ('sudo "$(command -v keyturn)" run',)


def test_controllers_that_systemd_keeps_are_delegated() -> None:
    [remedy] = [each for each in remedies(ordinary("memory", "pids", "user")) if "controller" in each.what]
    assert remedy.what == "the controller memory and pids"
    assert "Delegate=cpu memory pids" in remedy.commands[1]


def test_wsl_is_told_how_to_have_systemd() -> None:
    release = "5.15.153.1-microsoft-standard-WSL2"
    here = system(systems.UBUNTU_22_04, release, wsl=True, systemd=False)
    found = remedies(ordinary("cgroup", here=here))
    assert "systemd=true" in found[0].commands[0]
    assert remedies(ordinary("cgroup", here=replace(here, systemd=True)))[0].commands == (DELEGATE,)


def test_in_a_container_the_cgroups_are_the_engines() -> None:
    here = system(systems.DEBIAN_12, container="podman", systemd=False)
    [remedy] = remedies(facts(here=here, tier=Tier.T1, lacking=("cgroup",)))
    assert (remedy.commands, "virtual machine" in remedy.note) == ((), True)
    assert remedies(ordinary("cgroup", here=here))[0].commands == ('sudo "$(command -v keyturn)" run',)


@pytest.mark.parametrize(("release", "told"), [("5.10.0-30-amd64", True), ("5.13.0", True), ("5.14.0", False)])
def test_a_kernel_that_cannot_kill_a_cgroup_is_too_old(release: str, told: bool) -> None:
    found = remedies(facts(here=system(systems.DEBIAN_12, release), tier=Tier.T1, lacking=("cgroup",)))
    assert any("cgroup.kill" in each.note for each in found) is told


@pytest.mark.parametrize(("release", "word"), [("5.10.0-30-amd64", "5.13 or later"), ("6.1.0", "lsm=landlock")])
def test_a_kernel_without_landlock_is_told_from_one_that_has_it_off(release: str, word: str) -> None:
    found = remedies(facts(here=system(systems.DEBIAN_12, release), landlock_abi=0))
    [remedy] = [each for each in found if each.what == "Landlock"]
    assert word in remedy.note


@pytest.mark.parametrize(
    ("kernel", "word"), [("Darwin", "virtual machine"), ("Windows", "WSL 2"), ("FreeBSD", "Linux machine")]
)
def test_elsewhere_the_one_thing_that_helps_is_linux(kernel: str, word: str) -> None:
    remedy = only(Facts(system=System(kernel, "24.1.0"), root=False, tier=Tier.T0, fault="there is no sandbox"))
    assert remedy.what == "Linux"
    assert word in remedy.note


def test_macos_is_told_that_seatbelt_can_prove_no_halt() -> None:
    remedy = only(Facts(system=System("Darwin", "24.1.0"), root=False, tier=Tier.T0))
    assert "prove no halt" in remedy.why


def test_what_blocks_comes_first() -> None:
    found = remedies(ordinary("user", bubblewrap="bubblewrap 0.8.0"))
    assert [each.blocks for each in found] == [True, False]


def test_no_command_installs_a_bubblewrap_that_is_not_the_distributions_own() -> None:
    everything = [
        row.remedy(facts(text, bubblewrap="bubblewrap 0.6.1", namespaces="x", root=False, lacking=("memory", "cgroup")))
        for text in (systems.DEBIAN_12, systems.FEDORA, systems.ARCH, systems.SUSE, systems.ALPINE)
        for row in TABLE
    ]
    commands = [command for each in everything for command in each.commands]
    assert commands
    assert [each for each in commands if re.search(r"curl|wget|git clone|make install|/usr/local", each)] == []


# Tiers


def test_a_tier_is_given_only_where_it_was_tried() -> None:
    given = {each.tier: each.given for each in tiers(facts())}
    assert given == {Tier.T0: True, Tier.T1: True, Tier.T2: True, Tier.T3: False, Tier.T4: False}
    assert [each.given for each in tiers(ordinary("user"))] == [True, True, False, False, False]
    assert [each.given for each in tiers(facts(tier=Tier.T0, fault="no"))] == [True, False, False, False, False]


def test_a_guest_that_runs_gives_no_virtual_machine() -> None:
    last = tiers(facts(guest=""))[-1]
    assert (last.given, "does not show that a kernel boots" in last.evidence) == (False, True)


def test_a_machine_is_no_better_than_its_last_check() -> None:
    kept = replace(KEPT, tier=Tier.T1, failed=("fork-bomb (breach)",))
    seen = bounded(facts(), judged(kept))
    assert (seen.tier, seen.breached) == (Tier.T1, "27 of 28 probes held; not fork-bomb (breach)")
    assert only(seen).commands == ("keyturn sandbox check",)
    assert [each.given for each in tiers(seen)] == [True, True, False, False, False]
    assert "fork-bomb" in tiers(seen)[2].evidence
    failed = bounded(facts(), judged(replace(kept, tier=Tier.T0)))
    assert (failed.tier, whats(failed)) == (Tier.T0, ["a containment check that holds"])


def test_a_check_of_another_machine_says_nothing_of_this_one() -> None:
    for check in (None, judged(None), judged(replace(KEPT, tier=Tier.T0), boot="another"), judged(KEPT)):
        assert bounded(facts(), check) == facts()


def test_an_engine_that_does_not_answer_is_not_called_inexplicable() -> None:
    fault = "the docker engine, asked to answer: there is no socket at /var/run/docker.sock"
    last = remedies(replace(facts(), fault=fault))[-1]
    assert (last.why, last.note) == (fault, "the engine that operation.toml names must answer")
    last = remedies(replace(facts(), fault="odd"))[-1]
    assert last.note == "nothing that was tried here explains it; please report it"
