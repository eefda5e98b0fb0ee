"""Run a guest of five instructions on `/dev/kvm`, and say whether it came to its end: 0, or 1 and why not.

That a real-mode guest runs does not show that a kernel boots in one; that it does not shows that none will.
"""

import ctypes
import fcntl
import mmap
import os
import platform
import struct
import sys

CREATE_VM, CREATE_VCPU, VCPU_MMAP_SIZE, RUN = 0xAE01, 0xAE41, 0xAE04, 0xAE80
SET_MEMORY, GET_SREGS, SET_SREGS, SET_REGS = 0x4020AE46, 0x8138AE83, 0x4138AE84, 0x4090AE82
EXIT_IO, EXIT_HALT = 2, 5
PORT, SIGN = 0x10, 0x4B
CODE = bytes([0xB0, SIGN, 0xE6, PORT, 0xF4])
"""Put the sign into a register, say it at the port, stop."""

ENTRY = 0x1000
RUNS_MAX = 8


def run() -> str:
    """Why the guest did not come to its end; empty if it did."""
    machine = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    virtual = fcntl.ioctl(machine, CREATE_VM, 0)
    memory = mmap.mmap(-1, 2 * ENTRY)
    memory[ENTRY : ENTRY + len(CODE)] = CODE
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fcntl.ioctl(virtual, SET_MEMORY, struct.pack("=IIQQQ", 0, 0, 0, 2 * ENTRY, address))
    processor = fcntl.ioctl(virtual, CREATE_VCPU, 0)
    state = mmap.mmap(processor, fcntl.ioctl(machine, VCPU_MMAP_SIZE, 0))
    special = bytearray(312)
    fcntl.ioctl(processor, GET_SREGS, special)
    struct.pack_into("=Q", special, 0, 0)
    struct.pack_into("=H", special, 12, 0)
    fcntl.ioctl(processor, SET_SREGS, bytes(special))
    fcntl.ioctl(processor, SET_REGS, struct.pack("=18Q", *[0] * 16, ENTRY, 2))
    said = False
    for _ in range(RUNS_MAX):
        fcntl.ioctl(processor, RUN, 0)
        reason = struct.unpack_from("=I", state, 8)[0]
        if reason == EXIT_HALT:
            return "" if said else "it stopped without having said its sign"
        if reason != EXIT_IO:
            return f"it left for the reason {reason}"
        _, size, port, _, offset = struct.unpack_from("=BBHIQ", state, 32)
        said = size == 1 and port == PORT and state[offset] == SIGN
    return "it did not stop"


def main() -> int:
    """Try it, and say how it went."""
    try:
        fault = run() if platform.machine() == "x86_64" else "a guest is only tried on x86_64"
    except OSError as error:
        fault = f"/dev/kvm does not do it: {error.strerror}"
    sys.stdout.write(f"{fault or 'a guest ran to its end'}\n")
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main())
