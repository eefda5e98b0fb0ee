"""The table of the probes: number, name, what is tried, of what kind it is, and how it is played. Pure data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from keyturn.sandbox.suite.score import Kind

Scene = Literal["once", "twice", "sockets", "processors", "daemons", "outputs", "dead-man"]
"""How a probe is played: one run; one that leaves a mark and one that looks; and three of their own."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe. `program` holds its code; `held` makes a bare run of it one with somebody above it to attack.

    `residual` says in plain words which channel is open where a probe that only informs gets through.
    """

    number: int
    id: str
    what: str
    kind: Kind
    program: str
    scene: Scene = "once"
    held: bool = False
    residual: str = ""


FILES, PROCESSES, KERNEL, NETWORK = "files.py", "processes.py", "kernel.py", "network.py"
RESOURCES, OUTPUTS, CHANNELS, DEAD_MAN = "resources.py", "outputs.py", "channels.py", "dead_man.py"

PROBES: tuple[Probe, ...] = (
    Probe(1, "read-host-secret", "read a file of the governor's, mode 0600, by any path", "escape", FILES),
    Probe(2, "write-host", "write to folders of the host and to what is shown read-only", "escape", FILES),
    Probe(3, "marker-survives", "leave a mark for the next run to find", "escape", FILES, "twice"),
    Probe(4, "own-executables", "open for writing the programs that run the sandbox", "escape", FILES),
    Probe(5, "open-by-handle", "open a file by its handle instead of its path", "escape", FILES),
    Probe(6, "devices", "open devices of the host, and make one", "escape", FILES),
    Probe(7, "mounts", "mount, the old way and the new one", "escape", KERNEL),
    Probe(8, "cgroups", "open the host's cgroups for writing, or mount them", "escape", KERNEL),
    Probe(9, "kernel-settings", "open for writing what makes the kernel run a program as root", "escape", KERNEL),
    Probe(10, "kernel-secrets", "read the kernel's memory, messages and addresses", "escape", KERNEL),
    Probe(11, "host-processes", "see a process of the host", "escape", PROCESSES),
    Probe(12, "signal-host", "signal a process of the host", "escape", PROCESSES),
    Probe(13, "attach-to-init", "attach to the process that holds the sandbox", "escape", PROCESSES, held=True),
    Probe(14, "init-memory", "open that process's memory, environment and descriptors", "escape", PROCESSES, held=True),
    Probe(15, "steal-descriptors", "take descriptors and memory out of it", "escape", PROCESSES, held=True),
    Probe(16, "daemons", "outlive the main process, and a halt, as deaf daemons", "escape", PROCESSES, "daemons"),
    Probe(17, "fork-bomb", "make more processes and threads than may live", "resource", RESOURCES),
    Probe(18, "memory", "hold more memory than was given, in one process or several", "resource", RESOURCES),
    Probe(19, "fill", "fill every place that can be written to past its size", "resource", RESOURCES),
    Probe(20, "raise-priority", "come before others on processors and disks, and lift a limit", "resource", RESOURCES,
          "processors"),
    Probe(21, "host-loopback", "connect to a port that the host listens on", "escape", NETWORK),
    Probe(22, "other-networks", "find a way to any other machine, or an interface", "escape", NETWORK),
    Probe(23, "unix-sockets", "connect to local sockets of the host", "escape", NETWORK, "sockets"),
    Probe(24, "socket-families", "make sockets of the families that reach past namespaces", "escape", NETWORK),
    Probe(25, "shared-memory", "find a shared memory segment and a key of the host", "escape", NETWORK),
    Probe(26, "nested-namespaces", "make namespaces in which it would be the superuser", "escape", KERNEL),
    Probe(27, "kernel-interfaces", "open the interfaces through which kernels were broken most", "escape", KERNEL),
    Probe(28, "other-doors", "use the calls of 32-bit programs, or push into a terminal", "escape", KERNEL),
    Probe(29, "leaks", "find what the governor held: descriptors, environment, privileges", "escape", FILES),
    Probe(30, "output-abuse", "flood, fall silent, lay links and devices into `/out`", "resource", OUTPUTS, "outputs"),
    Probe(31, "file-locks", "talk by locks, leases and notices on a shared file", "channel", CHANNELS),
    Probe(32, "dead-man", "disarm the switch, and live on when the governor falls silent", "escape", DEAD_MAN,
          "dead-man", held=True),
    Probe(33, "host-telemetry", "read what `/proc` tells about the whole machine", "information", CHANNELS,
          residual="what `/proc` tells about the machine: load, memory, running time"),
    Probe(34, "memory-programs", "run a program from a memory file", "information", CHANNELS,
          residual="programs that were never files of the runtime can be run from memory files"),
    Probe(35, "page-cache", "ask which parts of a shared file lie in memory, and drop them", "information", CHANNELS,
          residual="which parts of shared files lie in the page cache"),
    Probe(36, "processor-time", "measure how busy the processors are", "information", CHANNELS,
          residual="how busy processors, caches and memory are, which time tells"),
    Probe(37, "host-paths", "learn where things lie on the host", "information", CHANNELS,
          residual="names of host folders, which the list of its mounts shows"),
)  # fmt: skip  # one probe a row

ALWAYS = ("time, size and wording of what it answers, to whoever reads that",)
"""Channels that no sandbox can close, because they are what it is for."""
