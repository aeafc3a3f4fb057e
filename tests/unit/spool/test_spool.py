"""The spool: its rooms are made and proven, and nothing in it is ever half written."""

import errno
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.errors import Configuration, Permanent, Transient
from pipeline.spool import durable
from pipeline.spool import spool as module
from pipeline.spool.durable import fsync_tree, rename_durably, write_durably
from pipeline.spool.spool import MARK, Spool, admit, hook_file, is_file, is_there, network_file_system

REPOSITORY = Path(__file__).parents[3]


def test_preparing_makes_every_room_for_the_service_and_its_group(tmp_path):
    spool = Spool(tmp_path / "a" / "spool")
    spool.prepare()
    assert sorted(p.name for p in spool.root.iterdir()) == [
        "ahead",
        "arrivals",
        "incoming",
        "outputs",
        "quarantine",
        "run",
        "settled",
    ]
    assert {room.stat().st_mode & 0o777 for room in spool.rooms} == {0o750}


def test_preparing_again_leaves_what_is_there(tmp_path):
    spool = Spool(tmp_path)
    spool.prepare()
    (spool.prepare_receiver("ct") / "S_1").mkdir()
    spool.prepare()
    assert spool.prepare_receiver("ct") == spool.incoming_of("ct") == tmp_path / "incoming" / "ct"
    assert (spool.incoming_of("ct") / "S_1").is_dir()


def test_a_spool_that_cannot_be_made_is_a_configuration_error_that_names_it(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Configuration, match=rf"{tmp_path}/file/spool cannot be made"):
        Spool(tmp_path / "file" / "spool").prepare()


def test_a_room_that_cannot_be_written_to_is_a_configuration_error_that_names_it(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(
        Configuration, match=r"/incoming cannot be written to: Permission denied; give it to the user"
    ):
        Spool(tmp_path).prepare()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/shm, a second file system")
def test_a_room_on_another_file_system_is_a_configuration_error_that_names_it(tmp_path):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        (tmp_path / "settled").symlink_to(elsewhere)
        with pytest.raises(Configuration, match="settled is on another file system"):
            Spool(tmp_path).prepare()


def mounts(monkeypatch, **types: str) -> None:
    disks = [SimpleNamespace(mountpoint=point, fstype=kind) for point, kind in types.items()]
    monkeypatch.setattr(module.psutil, "disk_partitions", lambda **_: disks)


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smbfs", "smb3", "fuse.sshfs", "9p", "afpfs"])
def test_a_spool_on_a_network_file_system_is_a_configuration_error(tmp_path, monkeypatch, kind):
    mounts(monkeypatch, **{"/": "ext4", str(tmp_path.resolve()): kind})
    with pytest.raises(Configuration, match=rf"network file system \({kind}\).*local disk"):
        Spool(tmp_path / "spool").prepare()


def test_the_nearest_mount_decides_what_file_system_a_spool_is_on(tmp_path, monkeypatch):
    mounts(monkeypatch, **{"/": "nfs4", str(tmp_path.resolve()): "xfs", str(tmp_path.resolve()) + "-other": "nfs"})
    assert network_file_system(tmp_path / "spool") is None
    assert network_file_system(tmp_path.parent) == "nfs4"


def test_a_durable_write_is_the_old_or_the_new_content_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "account.json"
    write_durably(path, b"old")
    write_durably(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["account.json", ".envelope.json"])
def test_a_write_cut_short_leaves_the_old_content_and_a_hidden_file(tmp_path, monkeypatch, name):
    path = tmp_path / name
    path.write_bytes(b"old")

    def cut(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", cut)
    with pytest.raises(KeyboardInterrupt):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert all(other.name.startswith(".") for other in tmp_path.iterdir() if other != path)


@pytest.fixture
def flushed(monkeypatch):
    """Record what is flushed, by the path its descriptor stands for at that moment."""
    paths: list[str] = []
    monkeypatch.setattr(durable, "_flush", lambda fd: paths.append(str(Path(f"/proc/self/fd/{fd}").readlink())))
    return paths


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_durable_write_flushes_the_file_and_then_its_folder(tmp_path, flushed):
    write_durably(tmp_path / "a", b"1")
    assert flushed == [str(tmp_path / ".a.new"), str(tmp_path)]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_durable_rename_flushes_both_folders(tmp_path, flushed):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "S_1").mkdir()
    rename_durably(tmp_path / "one" / "S_1", tmp_path / "other" / "arrival")
    assert sorted(flushed) == [str(tmp_path / "one"), str(tmp_path / "other")]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_flushing_a_tree_reaches_every_file_before_its_folder_and_follows_no_link(tmp_path, flushed):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("a/1", "a/.hidden", "a/b/2"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "a" / "link").symlink_to("/etc/passwd")
    fsync_tree(tmp_path / "a")
    names = [str(Path(path).relative_to(tmp_path)) for path in flushed]
    assert sorted(names) == ["a", "a/.hidden", "a/1", "a/b", "a/b/2"]
    assert names.index("a/b/2") < names.index("a/b") < names.index("a") == len(names) - 1


def test_flushing_a_tree_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        fsync_tree(tmp_path / "gone")


def test_admit_is_the_hook_of_the_checkout(tmp_path):
    assert hook_file() == REPOSITORY / "hooks" / "study-complete"
    spool = Spool(tmp_path)
    spool.prepare()
    incoming = spool.prepare_receiver("ct")
    (incoming / "S_1").mkdir()
    (incoming / "S_1" / "CT.1").touch()
    name = admit(incoming, incoming / "S_1")
    assert [folder.name for folder in spool.arrivals.iterdir()] == [name]
    assert admit(incoming, incoming / "S_1") is None


def test_a_path_the_hook_refuses_is_permanent_and_a_failed_rename_transient(tmp_path):
    incoming = tmp_path / "incoming" / "ct"
    (incoming / "S_1").mkdir(parents=True)
    (incoming / "S_1" / "CT.1").touch()
    with pytest.raises(Permanent, match="no folder directly below"):
        admit(incoming, tmp_path)
    with pytest.raises(Transient, match="cannot be admitted"):
        admit(incoming, incoming / "S_1")


def test_the_hook_is_found_where_the_wheel_puts_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "__file__", str(tmp_path / "lib" / "pipeline" / "spool.py"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(Configuration, match="install storestow again"):
        hook_file()
    installed = tmp_path / "share" / "storestow" / "hooks" / "study-complete"
    installed.parent.mkdir(parents=True)
    installed.write_bytes(b"")
    assert hook_file() == installed


def test_a_store_holds_what_is_admitted_and_the_spool_what_is_this_nodes_own(tmp_path):
    spool = Spool(tmp_path / "spool", tmp_path / "store")
    with pytest.raises(Configuration, match="is no folder: mount it"):
        spool.prepare_store()
    spool.store.mkdir()
    spool.prepare()
    spool.prepare_store()
    assert sorted(p.name for p in spool.root.iterdir()) == ["ahead", "arrivals", "incoming", "run"]
    assert sorted(p.name for p in spool.store.iterdir()) == ["arrivals", "outputs", "quarantine", "settled"]
    assert spool.received != spool.arrivals
    assert Spool(tmp_path).received == Spool(tmp_path).arrivals


def test_a_folder_that_has_been_handed_over_and_is_being_deleted_is_not_handed_over_again(tmp_path):
    spool = Spool(tmp_path / "spool", tmp_path / "store")
    for name in ("1-modalities-1", ".2-modalities-2"):
        (spool.received / name).mkdir(parents=True)
    assert spool.received_names() == {"1-modalities-1"}


def test_a_store_that_is_another_than_before_is_transient(tmp_path):
    spool = Spool(tmp_path / "spool", tmp_path)
    with pytest.raises(Transient, match="is it mounted"):
        spool.require_store()
    (tmp_path / MARK).write_text("one")
    spool.require_store()
    (tmp_path / MARK).write_text("another")
    with pytest.raises(Transient, match="is it mounted"):
        spool.require_store()
    Spool(tmp_path / "none").require_store()


def test_a_store_that_fails_now_is_tried_again_and_one_that_is_read_only_is_for_a_person(tmp_path, monkeypatch):
    spool = Spool(tmp_path / "spool", tmp_path)
    for number, kind in ((errno.EIO, Transient), (errno.ENOSPC, Transient), (errno.EROFS, Configuration)):

        def fail(*_args, number=number, **_kwargs):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(tempfile, "TemporaryFile", fail)
        with pytest.raises(kind, match="cannot be written to"):
            spool.prepare_store()
    monkeypatch.setattr(Path, "is_dir", fail)
    with pytest.raises(Transient, match="cannot be used now"):
        spool.prepare_store()


def test_what_a_failing_share_cannot_tell_is_neither_there_nor_gone(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    assert is_there(file)
    assert is_there(tmp_path)
    assert not is_there(tmp_path / "other")
    assert not is_there(file / "below")
    assert is_file(file)
    assert not is_file(tmp_path)
    assert not is_file(tmp_path / "other")

    def fails(*_words, **_more):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "stat", fails)
    with pytest.raises(OSError, match="Input/output error"):
        is_there(file)
