"""A file system for a folder that a test can make full and free again.

It is a tmpfs whose size is cut down to what it holds, so a full disk costs no memory. It needs Linux and root; the
mounts are in a namespace of this process, and disappear with it however it ends.
"""

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

#: unshare(2)
CLONE_NEWNS: Final = 0x00020000
#: Far more than a run writes; a tmpfs takes only the memory that it needs.
SIZE: Final = 16 << 30


def can_mount() -> bool:
    """Whether this process can make such file systems; from then on its mounts are its own."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
        return False
    return subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, check=False).returncode == 0


class SmallDisk:
    """A file system mounted on a folder, which is made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._mount(f"size={SIZE},mode=755")

    def fill(self) -> None:
        """Leave no free page. What is written at the same time may get one before."""
        for _ in range(100):
            state = os.statvfs(self.folder)
            used = (state.f_blocks - state.f_bfree) * state.f_frsize
            # Size 0 would be no limit at all.
            if self._mount(f"remount,size={used or state.f_frsize}", check=False):
                return
        raise AssertionError(f"the disk of {self.folder} cannot be filled")

    def free(self) -> None:
        """Give all space back."""
        self._mount(f"remount,size={SIZE}")

    def unmount(self) -> None:
        """Remove the file system. Its files are lost."""
        subprocess.run(["umount", "--lazy", str(self.folder)], capture_output=True, check=False)

    def _mount(self, options: str, *, check: bool = True) -> bool:
        argv = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0 or not check, done.stderr
        return done.returncode == 0
