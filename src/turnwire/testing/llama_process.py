"""The child process of a `LlamaServer`: llama.cpp's own HTTP server, for as long as standard input is open.

It is run by its path and imports nothing of turnwire, so that it is up in a tenth of a second. Its one line of
standard output is the server's address, written when the model is loaded; llama.cpp's log is on standard error.
The parent holds the other end of standard input: when it dies, however it dies, the read below ends.
"""

from __future__ import annotations

import argparse
import gzip
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def unpacked(model: Path) -> Iterator[Path]:
    """The model as a plain file, which is needed until it is loaded."""
    if model.suffix != ".gz":
        yield model
        return
    # A file that is still mapped can't be removed everywhere.
    with tempfile.TemporaryDirectory(prefix="turnwire-", ignore_cleanup_errors=True) as directory:
        plain = Path(directory, model.stem)
        plain.write_bytes(gzip.decompress(model.read_bytes()))
        yield plain


def main() -> None:
    """Serve the model that the command line names, on a free port of the loopback."""
    parser = argparse.ArgumentParser(description="llama.cpp's HTTP server, until standard input ends")
    parser.add_argument("--model", required=True, type=Path, help="a GGUF file; one that ends in .gz is unpacked")
    parser.add_argument("--name", required=True)
    parser.add_argument("--parallel", type=int, required=True)
    parser.add_argument("--context-size", type=int, required=True, help="tokens per slot")
    parser.add_argument("--api-key")
    parser.add_argument("--keepalive-interval", type=int, help="seconds between comments on a silent stream")
    options = parser.parse_args()

    # Whatever llama.cpp itself writes to standard output goes to the log.
    address_output = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model_alias = {options.name}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = options.parallel
    # llama.cpp divides the context among the slots, unless they are told to share it.
    params.n_ctx = options.context_size * options.parallel
    params.kv_unified = False
    params.fit_params = False
    params.n_gpu_layers = 0
    params.warmup = False
    # The scripted model has nothing to compute, and tests run many of these at once.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.endpoint_slots = True
    params.endpoint_metrics = True
    if options.api_key is not None:
        params.api_keys = [options.api_key]
    if options.keepalive_interval is not None:
        params.sse_ping_interval = options.keepalive_interval
    with unpacked(options.model) as model:
        params.model.path = str(model)
        server = xllamacpp.Server(params)

    os.write(address_output, f"{server.listening_address}\n".encode())
    os.close(address_output)
    sys.stdin.buffer.read()
    os._exit(0)  # an orderly end would wait for the streams that are open


if __name__ == "__main__":
    main()
