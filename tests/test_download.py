"""Downloads from a server on this machine that serves, cuts, corrupts and lies."""

import contextlib
import dataclasses
import errno
import hashlib
import io
import os
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pooch
import pytest
import trees

from helpers import data as datasets
from helpers.base import CourseError
from helpers.data import download
from helpers.data.declare import RemoteFile
from helpers.data.download import fetch


class Server(BaseHTTPRequestHandler):
    """Serves `files` (name to content); how, is decided by the folder in the address."""

    files: dict[str, bytes] = {}
    requests: list[str] = []

    def do_GET(self):
        way, name = self.path.lstrip("/").split("/", 1)
        self.requests.append(self.path)
        content = self.files.get(name)
        if content is None:
            self.send_error(404)
            return
        announced = len(content)
        if way == "corrupt" or (way == "once-corrupt" and self.requests.count(self.path) == 1):
            content = content[:-1] + bytes([content[-1] ^ 1])
        if way in ("cut", "silent-cut") or (way == "once-cut" and self.requests.count(self.path) == 1):
            content = content[: len(content) // 2]
        if way == "lies-short":
            announced = len(content) // 2
        if way == "lies-long":
            announced = len(content) + 1000
        self.send_response(200)
        if way != "silent-cut":
            self.send_header("Content-Length", str(announced))
        self.end_headers()
        if way == "stalls":
            # Half of it, and then nothing until the other side is gone.
            self.wfile.write(content[: len(content) // 2])
            self.connection.settimeout(30)
            self.connection.recv(1)
            return
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    Server.files, Server.requests = {}, []
    running = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_address[1]}"
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Retries wait for seconds; not here."""
    monkeypatch.setattr(pooch.core.time, "sleep", lambda seconds: None)


def zipped(members):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


def tarred(members):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def serve(name, content, **options):
    """Put a file on the server; give its declaration with the right checksum."""
    Server.files[name] = content
    checksum = "sha256:" + hashlib.sha256(content).hexdigest()
    return lambda base, way="plain": RemoteFile(url=f"{base}/{way}/{name}", hash=checksum, **options)


MEMBERS = {"top/a.txt": b"alpha" * 1000, "top/deep/b.bin": os.urandom(5000), "top/empty.txt": b""}


def content_of(folder):
    """Files below a folder, without the bookkeeping."""
    paths = [p for p in Path(folder).rglob("*") if p.is_file() and ".downloads" not in p.parts]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}


def get(remote, dest, **options):
    return fetch(remote, dest, **options)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_fetch_and_unpack(server, tmp_path, kind):
    if kind == "zip":
        content = zipped(MEMBERS)
    else:
        content = tarred([(tarfile.TarInfo(f"./{name}"), data) for name, data in MEMBERS.items()])
    remote = serve(f"data.{kind}", content, unpack_to="Data", strip=1)(server)
    assert get(remote, tmp_path) == tmp_path / "Data"
    assert content_of(tmp_path / "Data") == {name.removeprefix("top/"): data for name, data in MEMBERS.items()}
    # The archive is gone; only the list of what is complete remains.
    assert [path.name for path in (tmp_path / ".downloads").iterdir()] == [f"data.{kind}.json"]
    mode = stat.S_IMODE((tmp_path / "Data").stat().st_mode)
    assert mode & 0o500 == 0o500 and mode & 0o055 == 0o055 & ~_umask()


def _umask():
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_what_is_complete_is_not_fetched_again(server, tmp_path, capsys):
    remote = serve("data.zip", zipped(MEMBERS), unpack_to=".")(server)
    get(remote, tmp_path)
    get(remote, tmp_path)
    assert len(Server.requests) == 1
    assert "complete" in capsys.readouterr().out
    # A file that was lost or cut since is noticed.
    (tmp_path / "top" / "a.txt").write_bytes(b"short")
    get(remote, tmp_path)
    assert len(Server.requests) == 2 and (tmp_path / "top" / "a.txt").read_bytes() == MEMBERS["top/a.txt"]
    # Another version of the file is another file.
    newer = serve("data.zip", zipped({"top/a.txt": b"new"}), unpack_to=".")(server)
    get(newer, tmp_path)
    assert (tmp_path / "top" / "a.txt").read_bytes() == b"new"


def test_archives_may_share_a_folder(server, tmp_path):
    for n in (1, 2):
        remote = serve(f"audio.{n}.zip", zipped({f"set/audio/{n}.wav": b"x" * n}), unpack_to=".")(server)
        get(remote, tmp_path)
    assert set(content_of(tmp_path)) == {"set/audio/1.wav", "set/audio/2.wav"}


def test_a_file_that_is_no_archive_is_kept(server, tmp_path):
    remote = serve("model.tflite", b"weights" * 100)(server)
    assert get(remote, tmp_path).read_bytes() == b"weights" * 100
    get(remote, tmp_path)
    assert len(Server.requests) == 1


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("corrupt", "not what was published"),
        ("cut", "cut"),
        ("silent-cut", "not what was published"),
        ("lies-short", "not what was published"),
        ("lies-long", "cut"),
    ],
)
def test_a_bad_transfer_leaves_nothing(server, tmp_path, way, message):
    good = serve("data.zip", zipped(MEMBERS), unpack_to="Data")
    with pytest.raises(CourseError, match=f"data.zip.*{message}.*again") as error:
        get(good(server, way), tmp_path, retries=1)
    assert "Traceback" not in str(error.value)
    assert len(Server.requests) == 2
    assert content_of(tmp_path) == {}
    assert list((tmp_path / ".downloads").iterdir()) == []
    get(good(server), tmp_path)
    assert set(content_of(tmp_path / "Data")) == set(MEMBERS)


@pytest.mark.parametrize("way", ["once-cut", "once-corrupt"])
def test_a_second_try_succeeds(server, tmp_path, way):
    get(serve("data.zip", zipped(MEMBERS), unpack_to="Data")(server, way), tmp_path)
    assert len(Server.requests) == 2 and set(content_of(tmp_path / "Data")) == set(MEMBERS)


def test_no_such_file_and_no_server(server, tmp_path):
    remote = RemoteFile(url=f"{server}/plain/gone.zip", hash="sha256:" + "0" * 64, unpack_to="Data")
    with pytest.raises(CourseError, match="404.*homepage"):
        get(remote, tmp_path, retries=0)
    nobody = RemoteFile(url="http://127.0.0.1:1/x.zip", hash="sha256:" + "0" * 64, unpack_to="Data")
    with pytest.raises(CourseError, match="connection"):
        get(nobody, tmp_path, retries=0)
    with pytest.raises(CourseError, match="without a checksum"):
        get(RemoteFile(url=f"{server}/plain/gone.zip"), tmp_path)


def test_an_archive_that_was_damaged_before_it_was_published(server, tmp_path):
    content = bytearray(zipped({"a.bin": os.urandom(5000)}))
    content[2000] ^= 255
    for name, data in {"bad.zip": bytes(content), "cut.zip": zipped(MEMBERS)[:-30], "cut.tar.gz": _cut_tar()}.items():
        with pytest.raises(CourseError, match="archive is damaged.*Nothing was unpacked"):
            get(serve(name, data, unpack_to="Data")(server), tmp_path)
        assert content_of(tmp_path) == {}


def _cut_tar():
    content = tarred([(tarfile.TarInfo("a.bin"), os.urandom(50_000))])
    return content[: len(content) // 2]


EVIL = ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt", "C:/evil.txt"]


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_archives_cannot_write_outside(server, tmp_path, kind, name):
    dest = tmp_path / "deep" / "dest"
    if kind == "zip":
        content = zipped({"good.txt": b"good", name: b"evil"})
    else:
        content = tarred([(tarfile.TarInfo("good.txt"), b"good"), (tarfile.TarInfo(name), b"evil")])
    with pytest.raises(CourseError, match="outside its folder"):
        get(serve(f"evil.{kind}", content, unpack_to="Data", strip=0)(server), dest)
    assert content_of(tmp_path) == {} or set(content_of(tmp_path)) == {f"deep/dest/.downloads/evil.{kind}"}
    assert not list(tmp_path.rglob("evil.txt")) and not (dest / "Data").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar(server, tmp_path, kind):
    link = tarfile.TarInfo("door")
    link.type, link.linkname = kind, "/tmp"
    content = tarred([(link, b""), (tarfile.TarInfo("door/evil.txt"), b"evil")])
    with pytest.raises(CourseError, match="link or a device"):
        get(serve("evil.tar.gz", content, unpack_to="Data")(server), tmp_path)
    assert content_of(tmp_path) == {}


def test_links_in_a_zip(server, tmp_path):
    link = zipfile.ZipInfo("door")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(link, "/tmp")
    with pytest.raises(CourseError, match="link"):
        get(serve("evil.zip", content.getvalue(), unpack_to="Data")(server), tmp_path)
    assert content_of(tmp_path) == {}


def test_interrupted_while_unpacking(server, tmp_path, monkeypatch):
    remote = serve("data.zip", zipped(MEMBERS), unpack_to="Data")(server)
    copy = shutil.copyfileobj

    def interrupted(source, target, length=0):
        if target.name.endswith("b.bin"):
            raise KeyboardInterrupt
        copy(source, target, length)

    monkeypatch.setattr(download.shutil, "copyfileobj", interrupted)
    with pytest.raises(KeyboardInterrupt):
        get(remote, tmp_path)
    assert content_of(tmp_path) == {}
    monkeypatch.setattr(download.shutil, "copyfileobj", copy)
    get(remote, tmp_path)
    assert set(content_of(tmp_path / "Data")) == set(MEMBERS)
    # The archive had arrived in full; it was not fetched a second time.
    assert len(Server.requests) == 1


def test_killed_while_the_files_move_to_their_place(server, tmp_path, monkeypatch):
    """Without the list, what is there does not pass for complete."""
    (tmp_path / "top").mkdir()
    remote = serve("data.zip", zipped(MEMBERS), unpack_to=".")(server)
    monkeypatch.setattr(download, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        get(remote, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(pooch.core.time, "sleep", lambda seconds: None)
    (tmp_path / "top" / "a.txt").unlink()
    get(remote, tmp_path)
    assert set(content_of(tmp_path)) == set(MEMBERS)


def test_killed_while_downloading(server, tmp_path):
    declared = serve("data.zip", zipped({"big.bin": os.urandom(3 * 2**20)}), unpack_to="Data")
    code = (
        "import sys; from helpers.data.declare import RemoteFile; from helpers.data.download import fetch; "
        "fetch(RemoteFile(sys.argv[1], hash=sys.argv[2], unpack_to='Data'), sys.argv[3])"
    )
    stalling = declared(server, "stalls")
    process = subprocess.Popen([sys.executable, "-c", code, stalling.url, stalling.hash, str(tmp_path)])
    work = tmp_path / ".downloads"

    def half_way():
        with contextlib.suppress(FileNotFoundError):  # pooch tries out the folder with a file that vanishes at once
            return any(path.stat().st_size >= 2**20 for path in work.glob("tmp*"))

    while process.poll() is None and not half_way():
        time.sleep(0.02)
    assert process.poll() is None
    process.kill()
    process.wait()
    assert content_of(tmp_path) == {}
    assert all(path.name.startswith("tmp") for path in work.iterdir())
    get(declared(server), tmp_path)
    assert set(content_of(tmp_path)) == {"Data/big.bin"}


def test_full_disk(server, tmp_path, monkeypatch):
    remote = serve("data.zip", zipped(MEMBERS), unpack_to="Data")(server)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download.shutil, "copyfileobj", full)
    with pytest.raises(CourseError, match="full.*Make room"):
        get(remote, tmp_path)
    assert content_of(tmp_path) == {}


def test_leftovers_of_a_killed_run(server, tmp_path):
    work = tmp_path / ".downloads"
    work.mkdir()
    (work / "tmpold").write_bytes(b"x")
    os.utime(work / "tmpold", (0, 0))
    (work / "unpack-data.zip").mkdir()
    (work / "unpack-data.zip" / "stale.wav").write_bytes(b"x")
    get(serve("data.zip", zipped(MEMBERS), unpack_to="Data")(server), tmp_path)
    assert set(content_of(tmp_path / "Data")) == set(MEMBERS)
    assert [path.name for path in work.iterdir()] == ["data.zip.json"]


# ---- split zips -------------------------------------------------------------------------------------------------


def split_zip(content, size, wide=False):
    """Cut a zip as `zip -s` does: a mark in front, and places given as part and byte within the part.

    With `wide`, places and sizes stand in zip64 fields, as they do beyond 4 GB.
    """
    end = content.rfind(b"PK\5\6")
    entries, length, start = struct.unpack("<H2I", content[end + 10 : end + 20])
    body = b"PK\7\x08" + content[:start]
    table, position = b"", start
    for _ in range(entries):
        head = list(struct.unpack("<4s6H3I5H2I", content[position : position + 46]))
        after = position + 46 + head[10] + head[11] + head[12]
        name, rest = content[position + 46 : position + 46 + head[10]], content[position + 46 + head[10] : after]
        head[13], offset = divmod(head[16] + 4, size)
        if wide:
            field = struct.pack("<2H3Q", 1, 24, head[9], head[8], offset)
            head[8] = head[9] = head[16] = 0xFFFFFFFF
            head[11], rest = head[11] + len(field), field + rest
        else:
            head[16] = offset
        table += struct.pack("<4s6H3I5H2I", *head) + name + rest
        position = after
    table_disk, table_offset = divmod(len(body), size)
    whole = body + table
    # The records at the end must not be cut themselves.
    if len(whole) % size > size - 200:
        raise ValueError("choose another size")
    last = len(whole) // size
    if wide:
        fields = (b"PK\6\6", 44, 45, 45, last, table_disk, entries, entries, len(table), table_offset)
        record_offset = len(whole) % size
        whole += struct.pack("<4sQ2H2I4Q", *fields) + struct.pack("<4sIQI", b"PK\6\7", last, record_offset, last + 1)
        whole += struct.pack("<4s4H2IH", b"PK\5\6", 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    else:
        whole += struct.pack("<4s4H2IH", b"PK\5\6", last, table_disk, entries, entries, len(table), table_offset, 0)
    return [whole[n * size : (n + 1) * size] for n in range(last + 1)]


def _recordings():
    rng = np.random.default_rng(0)
    return {f"FSD50K.dev_audio/{n}.wav": rng.bytes(int(rng.integers(100, 9000))) for n in range(40)}


def _write_parts(folder, stem, parts):
    names = [f"{stem}.z{n:02d}" for n in range(1, len(parts))] + [f"{stem}.zip"]
    for name, part in zip(names, parts, strict=True):
        (folder / name).write_bytes(part)
    return [folder / name for name in names]


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("size", [3001, 20_011, 60_013, 10**6])
def test_split_zip(tmp_path, size, wide):
    recordings = _recordings()
    parts = _write_parts(tmp_path, "a", split_zip(zipped(recordings), size, wide))
    with download._open_split(parts) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == recordings


def _is_damaged(archive):
    try:
        return archive.testzip() is not None
    except (zipfile.BadZipFile, zlib.error):
        return True


def test_parts_put_end_to_end_are_damaged(tmp_path):
    """The trap: the concatenation opens and lists its files; only reading shows that it is wrong."""
    recordings = _recordings()
    (tmp_path / "joined.zip").write_bytes(b"".join(split_zip(zipped(recordings), 20_011)))
    with zipfile.ZipFile(tmp_path / "joined.zip") as archive:
        assert set(archive.namelist()) == set(recordings)
        assert _is_damaged(archive)


@pytest.mark.skipif(shutil.which("zip") is None, reason="needs the zip command to make an archive in its own way")
def test_split_zip_made_by_the_zip_command(tmp_path):
    rng = np.random.default_rng(1)
    (tmp_path / "in").mkdir()
    files = {f"{n}.wav": rng.bytes(int(rng.integers(1000, 40_000))) for n in range(20)}
    for name, data in files.items():
        (tmp_path / "in" / name).write_bytes(data)
    subprocess.run(["zip", "-q", "-r", "-s", "64k", "../a.zip", "."], cwd=tmp_path / "in", check=True)
    parts = [*sorted(tmp_path.glob("a.z[0-9]*")), tmp_path / "a.zip"]
    assert len(parts) > 3
    with download._open_split(parts) as archive:
        assert archive.testzip() is None
        assert {n: archive.read(n) for n in archive.namelist() if not n.endswith("/")} == files


def test_split_zip_with_a_part_missing_or_damaged(tmp_path):
    parts = _write_parts(tmp_path, "a", split_zip(zipped(_recordings()), 20_011))
    for wrong in (parts[1:], [*parts[:-1], parts[0]]):
        with pytest.raises(zipfile.BadZipFile), download._open_split(wrong):
            pass
    content = bytearray(parts[1].read_bytes())
    content[5000] ^= 255
    parts[1].write_bytes(content)
    with download._open_split(parts) as archive:
        assert _is_damaged(archive)


def test_fetch_a_split_zip_of_a_record(server, tmp_path, monkeypatch):
    """As FSD50K comes: parts of a Zenodo record, checksums from the record."""
    recordings = _recordings()
    parts = split_zip(zipped(recordings), 60_013)
    names = [f"FSD50K.dev_audio.z{n:02d}" for n in range(1, len(parts))] + ["FSD50K.dev_audio.zip"]
    Server.files.update(zip(names, parts, strict=True))
    _record(monkeypatch, server)
    doi = "doi:10.5281/zenodo.1"
    remote = RemoteFile(
        url=f"{doi}/{names[-1]}", unpack_to="FSD50K", parts=tuple(f"{doi}/{name}" for name in names[:-1])
    )
    get(remote, tmp_path)
    assert content_of(tmp_path / "FSD50K") == recordings
    get(remote, tmp_path)
    assert len(Server.requests) == len(parts)
    with pytest.raises(CourseError, match="holds no file other.zip"):
        get(RemoteFile(url=f"{doi}/other.zip", unpack_to="x"), tmp_path)


def _record(monkeypatch, server):
    """Stand in for doi.org and the record's own service; files still come over the wire."""

    class Record:
        def __init__(self, doi, **_):
            assert doi.startswith("10.5281/zenodo.")

        def populate_registry(self, store):
            store.registry.update({n: "md5:" + hashlib.md5(c).hexdigest() for n, c in Server.files.items()})

        def download_url(self, name):
            return f"{server}/plain/{name}"

    download._registry.cache_clear()
    monkeypatch.setattr(pooch.core, "doi_to_repository", Record)
    monkeypatch.setattr(pooch.downloaders, "doi_to_repository", Record)


def _zip_tree(root, prefix=""):
    return zipped({prefix + p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()})


def test_a_whole_dataset_from_download_to_manifest(server, tmp_path, monkeypatch):
    """ESC-50 from an archive whose top folder carries the commit; TUT from thirteen archives of a record."""
    source = trees.esc50(tmp_path / "source")
    remote = serve("33c8ce.zip", _zip_tree(source, "ESC-50-33c8ce/"), unpack_to="ESC-50-master", strip=1)(server)
    monkeypatch.setattr(datasets.esc50, "INFO", _with_files(datasets.esc50.INFO, (remote,)))
    place = datasets.fetch("esc50", tmp_path / "dest")
    assert place == tmp_path / "dest" / "ESC-50-master"
    assert len(datasets.load("esc50", place)) == 30

    source = trees.tut2017(tmp_path / "source")
    audio = sorted((source / "audio").iterdir())
    for n in range(1, 11):
        members = {f"{source.name}/audio/{p.name}": p.read_bytes() for p in audio[n - 1 :: 10]}
        Server.files[f"{source.name}.audio.{n}.zip"] = zipped(members)
    shutil.rmtree(source / "audio")
    Server.files[f"{source.name}.meta.zip"] = _zip_tree(source, f"{source.name}/")
    for part in ("doc", "error"):
        Server.files[f"{source.name}.{part}.zip"] = zipped({f"{source.name}/{part}.pdf": b"x"})
    _record(monkeypatch, server)
    place = datasets.fetch("tut2017", tmp_path / "dest")
    manifest = datasets.load("tut2017", place)
    assert len(manifest) == 16 and all(Path(path).exists() for path in manifest["path"])


def _with_files(info, files):
    return dataclasses.replace(info, files=files)


def test_nothing_to_download_for_your_own_folder(tmp_path):
    with pytest.raises(CourseError, match="own recordings"):
        datasets.fetch("folder", tmp_path)


@pytest.mark.parametrize("name", ["fsd50k", "esc50", "tut2017", "fsdkaggle2018", "speech_commands"])
def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(tmp_path, monkeypatch, name, capsys):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: SimpleNamespace(free=10**8))
    monkeypatch.setattr(download, "fetch", lambda *_: pytest.fail("it was fetched"))
    with pytest.raises(CourseError, match="needs about .* GB|needs about .* MB"):
        datasets.fetch(name, tmp_path / "new")
    said = capsys.readouterr().out
    assert "Licence: " in said and "Cite: " in said
