"""The numbers of errors that Linux returns, as x86 has them: on another computer Python's own may differ."""

ENXIO = 6
EAGAIN = 11
ENOMEM = 12
EBUSY = 16
EINVAL = 22
ENOSPC = 28
ENOSYS = 38
