"""The connection plane: from the kernel's accept to a protocol, through every defence on the way."""
