"""The real nginx with docs/nginx.conf, only addresses, paths and ports replaced; never as a service."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from support.machine.dicom_programs import free_port, listens, program, running, wait_until

CONFIGURATION = Path(__file__).resolve().parents[3] / "docs/nginx.conf"


@contextlib.contextmanager
def nginx(folder: Path, *, shim_port: int, key: str) -> Iterator[str]:
    """Run nginx in front of the shim on `shim_port`; yields its address."""
    folder.mkdir()
    port = free_port()
    (folder / "key.conf").write_text(f'proxy_set_header X-API-Key "{key}";\n')
    for name, pattern, text in [
        ("server.conf", r"listen 80(?= default_server;|;)", f"listen 127.0.0.1:{port}"),
        ("server.conf", r"server_name his\.example\.org;", "server_name his.example.org 127.0.0.1;"),
        ("server.conf", r"127\.0\.0\.1:8090", f"127.0.0.1:{shim_port}"),
        ("server.conf", r"allow 10\.0\.0\.0/8;", "allow 127.0.0.1;"),
        ("server.conf", r"allow 192\.0\.2\.17;", "allow 127.0.0.1;"),
        ("server.conf", r"/etc/nginx/storestow-key\.conf(?=;)", str(folder / "key.conf")),
    ]:
        file = folder / name
        before = file.read_text() if file.exists() else CONFIGURATION.read_text()
        after, count = re.subn(pattern, text, before)
        assert count, f"{pattern} is not in docs/nginx.conf"
        file.write_text(after)
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log stderr;\n"
        "events { worker_connections 256; }\n"
        f"http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n"
        f"fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n"
        f"include {folder}/server.conf; }}\n"
    )
    log = folder / "log"
    argv = [program("nginx"), "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr"]
    with running(argv, log=log) as process:
        wait_until(lambda: process.poll() is not None or listens(port), what="nginx")
        assert process.poll() is None, log.read_text()
        yield f"http://127.0.0.1:{port}"
