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
import pandas as pd
import pooch
import pytest
import trees

from helpers import data as datasets
from helpers.base import ROOT, CourseError
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
        if way.startswith("once-"):
            way = way.removeprefix("once-") if self.requests.count(self.path) == 1 else "plain"
        announced = len(content) + {"lies-short": -len(content) // 2, "lies-long": 1000}.get(way, 0)
        if way == "corrupt":
            content = content[:-1] + bytes([content[-1] ^ 1])
        if way in ("cut", "silent-cut", "stalls"):
            content = content[: len(content) // 2]
        self.send_response(200)
        if way != "silent-cut":
            self.send_header("Content-Length", str(announced))
        self.end_headers()
        self.wfile.write(content)
        if way == "stalls":  # nothing more until the other side is gone
            self.connection.settimeout(30)
            self.connection.recv(1)

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
    """An archive of {name or ZipInfo: content}."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return content.getvalue()


def tarred(members):
    """An archive of {name or TarInfo: content}."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for member, data in members.items():
            member = tarfile.TarInfo(member) if isinstance(member, str) else member
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def serve(name, content, unpack_to="Data", **options):
    """Put a file on the server; give its declaration with the right checksum."""
    Server.files[name] = content
    checksum = "sha256:" + hashlib.sha256(content).hexdigest()
    return lambda base, way="plain": RemoteFile(f"{base}/{way}/{name}", hash=checksum, unpack_to=unpack_to, **options)


MEMBERS = {"top/a.txt": b"alpha" * 1000, "top/deep/b.bin": os.urandom(5000), "top/empty.txt": b""}


def content_of(folder):
    """Files below a folder, without the bookkeeping."""
    paths = [p for p in Path(folder).rglob("*") if p.is_file() and ".downloads" not in p.parts]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}


def bookkeeping(folder):
    return [path.name for path in (folder / ".downloads").iterdir()]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_fetch_and_unpack(server, tmp_path, kind):
    members = MEMBERS | {"about.txt": b"outside of the folder that is stripped"}
    archive = zipped(members) if kind == "zip" else tarred({f"./{name}": data for name, data in members.items()})
    remote = serve(f"data.{kind}", archive, strip=1)(server)
    # What a killed run left: pooch's temporary file, and half of what was unpacked.
    stale = [tmp_path / ".downloads" / "tmpold", tmp_path / ".downloads" / f"unpack-data.{kind}" / "stale.wav"]
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    os.utime(stale[0], (0, 0))
    assert fetch(remote, tmp_path) == tmp_path / "Data"
    assert content_of(tmp_path / "Data") == {name.removeprefix("top/"): data for name, data in MEMBERS.items()}
    # The archive is gone; only the list of what is complete remains.
    assert bookkeeping(tmp_path) == [f"data.{kind}.json"]
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "Data").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.fixture
def listed(tmp_path):
    """An archive without a checksum of its own, but with those of two of the files in it."""
    names = ("top/a.txt", "top/deep/b.bin")
    sums = [(name.removeprefix("top/"), hashlib.sha256(MEMBERS[name]).hexdigest()) for name in names]
    trees.table(tmp_path / "published.csv", [("path", "sha256"), *sums])

    def declare(base, way="plain", **changed):
        Server.files["data.zip"] = zipped(MEMBERS | changed)
        return RemoteFile(f"{base}/{way}/data.zip", "Data", listed=str(tmp_path / "published.csv"), strip=1)

    return declare


def test_files_are_held_against_the_list_of_those_that_were_published(server, tmp_path, listed):
    """However the archive is packed; a changed or a missing file leaves nothing, not even the archive."""
    for changed, told in (
        ({"top/a.txt": b"other"}, "1 files are not .*a.txt is another file. Nothing was kept"),
        ({"top/a.txt": b"other", "top/deep/b.bin": b""}, "2 files"),
    ):
        with pytest.raises(CourseError, match=told):
            fetch(listed(server, **changed), tmp_path)
        assert not (tmp_path / "Data").exists() and bookkeeping(tmp_path) == []
    declared = listed(server)
    Server.files["data.zip"] = zipped({"top/a.txt": MEMBERS["top/a.txt"]})
    with pytest.raises(CourseError, match="b.bin is missing"):
        fetch(declared, tmp_path)
    fetch(listed(server), tmp_path)
    assert content_of(tmp_path / "Data") == {name.removeprefix("top/"): data for name, data in MEMBERS.items()}
    fetch(listed(server), tmp_path)
    assert len(Server.requests) == 4  # what is complete is not fetched again


@pytest.mark.parametrize(("way", "told"), [("silent-cut", "damaged"), ("cut", "cut"), ("lies-long", "cut")])
def test_a_bad_transfer_of_listed_files_leaves_nothing(server, tmp_path, monkeypatch, listed, way, told):
    monkeypatch.setattr(download, "_RETRIES", 0)
    with pytest.raises(CourseError, match=f"data.zip: .*{told}.*again"):
        fetch(listed(server, way), tmp_path)
    assert not (tmp_path / "Data").exists() and bookkeeping(tmp_path) == []
    fetch(listed(server), tmp_path)
    assert (tmp_path / "Data" / "a.txt").exists()


def test_esc10_is_declared_with_the_checksums_of_its_400_clips():
    (remote,) = datasets.esc10.INFO.files
    published = pd.read_csv(ROOT / remote.listed)
    assert len(published) == 400 and published["path"].str.partition("/")[0].value_counts().eq(40).all()
    assert published["sha256"].str.fullmatch("[0-9a-f]{64}").all() and published["sha256"].is_unique
    assert "/553c8f1743b9dba6b282e1323c3ca8fa76923448.zip" in remote.url


def test_what_is_complete_is_not_fetched_again(server, tmp_path, capsys):
    remote = serve("data.zip", zipped(MEMBERS), ".")(server)
    fetch(remote, tmp_path)
    fetch(remote, tmp_path)
    assert len(Server.requests) == 1
    assert "complete" in capsys.readouterr().out
    # A file that was lost or cut since is noticed.
    (tmp_path / "top" / "a.txt").write_bytes(b"short")
    fetch(remote, tmp_path)
    assert len(Server.requests) == 2 and content_of(tmp_path) == MEMBERS
    # Another version of the file is another file, and another archive may write to the same folder.
    fetch(serve("data.zip", zipped({"top/a.txt": b"new"}), ".")(server), tmp_path)
    fetch(serve("more.zip", zipped({"top/deep/c.bin": b"c"}), ".")(server), tmp_path)
    assert content_of(tmp_path) == MEMBERS | {"top/a.txt": b"new", "top/deep/c.bin": b"c"}


WRONG, CUT = "not what was published", "cut"


@pytest.mark.parametrize(
    ("way", "message"),
    [("corrupt", WRONG), ("silent-cut", WRONG), ("lies-short", WRONG), ("cut", CUT), ("lies-long", CUT)],
)
def test_a_bad_transfer_leaves_nothing(server, tmp_path, monkeypatch, way, message):
    monkeypatch.setattr(download, "_RETRIES", 1)
    declared = serve("data.zip", zipped(MEMBERS))
    with pytest.raises(CourseError, match=f"data.zip.*{message}.*again"):
        fetch(declared(server, way), tmp_path)
    assert len(Server.requests) == 2
    assert content_of(tmp_path) == {} and bookkeeping(tmp_path) == []
    fetch(declared(server, f"once-{way}"), tmp_path)  # the second try succeeds
    assert content_of(tmp_path / "Data") == MEMBERS and len(Server.requests) == 4


def test_no_such_file_no_server_no_checksum(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_RETRIES", 0)
    gone = RemoteFile(f"{server}/plain/gone.zip", hash="sha256:" + "0" * 64, unpack_to="Data")
    with pytest.raises(CourseError, match="answers 404.*homepage"):
        fetch(gone, tmp_path)
    with pytest.raises(CourseError, match="connection"):
        fetch(dataclasses.replace(gone, url="http://127.0.0.1:1/x.zip"), tmp_path)
    with pytest.raises(CourseError, match="without a checksum"):
        fetch(dataclasses.replace(gone, hash=None), tmp_path)


def test_an_archive_that_was_damaged_before_it_was_published(server, tmp_path):
    noise = os.urandom(50_000)
    wrong_bit = bytearray(zipped({"a.bin": noise}))
    wrong_bit[2000] ^= 255
    tar = tarred({"a.bin": noise})
    damaged = {
        "bad.zip": bytes(wrong_bit),
        "cut.zip": zipped(MEMBERS)[:-30],
        "empty.zip": zipped({}),
        "cut.tar.gz": tar[: len(tar) // 2],
        "cut.tar": zlib.decompress(tar, wbits=31)[:20_000],
    }
    for name, content in damaged.items():
        with pytest.raises(CourseError, match=f"{name}: the archive is damaged.*Nothing was unpacked"):
            fetch(serve(name, content)(server), tmp_path)
        assert content_of(tmp_path) == {}


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt", "C:/evil.txt"]
)
@pytest.mark.parametrize(("kind", "pack"), [("zip", zipped), ("tar.gz", tarred)])
def test_archives_cannot_write_outside(server, tmp_path, kind, pack, name):
    with pytest.raises(CourseError, match="outside its folder"):
        fetch(serve(f"evil.{kind}", pack({"good.txt": b"good", name: b"evil"}))(server), tmp_path / "deep" / "dest")
    assert content_of(tmp_path) == {} and not list(tmp_path.rglob("evil.txt"))


def test_links_and_devices_are_not_unpacked(server, tmp_path):
    door = zipfile.ZipInfo("door")
    door.external_attr = (stat.S_IFLNK | 0o777) << 16
    archives = {"link.zip": zipped({door: "/tmp"})}
    for name, kind in {"link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "pipe": tarfile.FIFOTYPE}.items():
        door = tarfile.TarInfo("door")
        door.type, door.linkname = kind, "/tmp"
        archives[f"{name}.tar.gz"] = tarred({door: b"", "door/evil.txt": b"evil"})
    for name, content in archives.items():
        with pytest.raises(CourseError, match="The archive holds a link.*door"):
            fetch(serve(name, content)(server), tmp_path)
        assert content_of(tmp_path) == {}


@pytest.mark.parametrize(
    ("step", "error", "caught", "message"),
    [
        ("shutil.copyfileobj", KeyboardInterrupt(), KeyboardInterrupt, None),
        ("shutil.copyfileobj", OSError(errno.ENOSPC, "No space left"), CourseError, "full.*Make room"),
        ("write_json", KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_what_stops_after_the_transfer_is_done_again_without_another(
    server, tmp_path, monkeypatch, step, error, caught, message
):
    def stop(*_):
        raise error

    remote = serve("data.zip", zipped(MEMBERS))(server)
    with monkeypatch.context() as patch, pytest.raises(caught, match=message):
        patch.setattr(f"helpers.data.download.{step}", stop)
        fetch(remote, tmp_path)
    if step == "write_json":  # the files had come to their place, but without the list they do not pass for complete
        (tmp_path / "Data" / "top" / "a.txt").unlink()
    else:
        assert content_of(tmp_path) == {} and bookkeeping(tmp_path) == ["data.zip"]
    fetch(remote, tmp_path)
    assert content_of(tmp_path / "Data") == MEMBERS and len(Server.requests) == 1


def test_killed_while_downloading(server, tmp_path):
    declared = serve("data.zip", zipped({"big.bin": os.urandom(3 * 2**20)}))
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
    fetch(declared(server), tmp_path)
    assert set(content_of(tmp_path)) == {"Data/big.bin"}


# ---- split zips -------------------------------------------------------------------------------------------------


RNG = np.random.default_rng(0)
RECORDINGS = {f"FSD50K.dev_audio/{n}.wav": RNG.bytes(int(RNG.integers(100, 9000))) for n in range(40)}


def split_zip(members, size, wide=False):
    """Cut a zip as `zip -s` does: a mark in front, and places given as part and byte within the part.

    With `wide`, places and sizes stand in zip64 fields, as they do beyond 4 GB.
    """
    with pytest.MonkeyPatch.context() as patch:
        if wide:
            patch.setattr(zipfile, "ZIP64_LIMIT", -1)
        content = zipped(members)
    whole = bytearray(b"PK\7\x08" + content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        infos, at = archive.infolist(), archive.start_dir + 4
    table_part, table_offset = divmod(at, size)
    for info in infos:
        part, offset = divmod(info.header_offset + 4, size)
        struct.pack_into("<H", whole, at + 34, part)
        fields_end = at + 46 + len(info.filename)
        if wide:  # behind the two sizes in an extra field
            struct.pack_into("<Q", whole, fields_end + 20, offset)
        else:
            struct.pack_into("<I", whole, at + 42, offset)
        at = fields_end + 28 * wide
    last = len(whole) // size
    assert at // size == last, "choose another size: the records at the end must not be cut themselves"
    if wide:
        struct.pack_into("<2I", whole, at + 16, last, table_part)
        struct.pack_into("<Q", whole, at + 48, table_offset)
        struct.pack_into("<IQI", whole, at + 60, last, at % size, last + 1)
    else:
        struct.pack_into("<2H", whole, at + 4, last, table_part)
        struct.pack_into("<I", whole, at + 16, table_offset)
    return [bytes(whole[start : start + size]) for start in range(0, len(whole), size)]


def write_parts(folder, parts):
    names = [f"a.z{n:02d}" for n in range(1, len(parts))] + ["a.zip"]
    for name, part in zip(names, parts, strict=True):
        (folder / name).write_bytes(part)
    return [folder / name for name in names]


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("size", [3001, 20_011, 60_013, 10**6])
def test_split_zip(tmp_path, size, wide):
    parts = write_parts(tmp_path, split_zip(RECORDINGS, size, wide))
    with download._open_split(parts) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == RECORDINGS


@pytest.mark.skipif(shutil.which("zip") is None, reason="needs the zip command to make an archive in its own way")
def test_split_zip_made_by_the_zip_command(tmp_path):
    (tmp_path / "in" / "FSD50K.dev_audio").mkdir(parents=True)
    for name, content in RECORDINGS.items():
        (tmp_path / "in" / name).write_bytes(content)
    subprocess.run(["zip", "-q", "-r", "-s", "64k", "../a.zip", "."], cwd=tmp_path / "in", check=True)
    parts = [*sorted(tmp_path.glob("a.z[0-9]*")), tmp_path / "a.zip"]
    assert len(parts) > 2
    with download._open_split(parts) as archive:
        assert {n: archive.read(n) for n in archive.namelist() if not n.endswith("/")} == RECORDINGS


def test_split_zip_with_a_part_missing_or_damaged(tmp_path):
    parts = write_parts(tmp_path, split_zip(RECORDINGS, 20_011))
    for wrong in (parts[1:], [*parts[:-1], parts[0]]):
        with pytest.raises(zipfile.BadZipFile), download._open_split(wrong):
            pass
    content = bytearray(parts[1].read_bytes())
    content[5000] ^= 255
    parts[1].write_bytes(content)
    with pytest.raises((zipfile.BadZipFile, zlib.error)), download._open_split(parts) as archive:
        [archive.read(name) for name in archive.namelist()]


# ---- whole datasets ---------------------------------------------------------------------------------------------


@pytest.fixture
def record(server, monkeypatch):
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


def test_fetch_a_split_zip_of_a_record(record, tmp_path):
    """As FSD50K comes: parts of a Zenodo record, checksums from the record."""
    parts = split_zip(RECORDINGS, 60_013)
    names = [f"FSD50K.dev_audio.z{n:02d}" for n in range(1, len(parts))] + ["FSD50K.dev_audio.zip"]
    Server.files.update(zip(names, parts, strict=True))
    *earlier, last = [f"doi:10.5281/zenodo.1/{name}" for name in names]
    remote = RemoteFile(last, unpack_to="FSD50K", parts=tuple(earlier))
    fetch(remote, tmp_path)
    assert content_of(tmp_path / "FSD50K") == RECORDINGS
    fetch(remote, tmp_path)
    assert len(Server.requests) == len(parts)
    with pytest.raises(CourseError, match="holds no file other.zip"):
        fetch(RemoteFile("doi:10.5281/zenodo.1/other.zip", unpack_to="x"), tmp_path)


def test_a_whole_dataset_from_download_to_manifest(record, tmp_path):
    """TUT from the thirteen archives of one record, and its evaluation set from the six of another."""
    for tree, n_archives, others in ((trees.tut2017, 10, ("doc", "error")), (trees.tut2017_evaluation, 4, ("doc",))):
        source = tree(tmp_path / "source")
        members = {f"{source.name}/{name}": content for name, content in content_of(source).items()}
        audio = [name for name in members if "/audio/" in name]
        archives = {f"audio.{n}": audio[n - 1 :: n_archives] for n in range(1, n_archives + 1)}
        archives = {part: {name: members[name] for name in held} for part, held in archives.items()}
        archives["meta"] = {name: members[name] for name in set(members) - set(audio)}
        archives |= {part: {f"{source.name}/{part}.pdf": b"x"} for part in others}
        Server.files |= {f"{source.name}.{part}.zip": zipped(held) for part, held in archives.items()}
    manifest = datasets.load("tut2017", datasets.fetch("tut2017", tmp_path / "dest"), evaluation=True)
    assert len(manifest) == 16 + 4 and all(Path(path).exists() for path in manifest["path"])


def test_nothing_to_download_for_your_own_folder(tmp_path):
    with pytest.raises(CourseError, match="own recordings"):
        datasets.fetch("folder", tmp_path)


def test_an_archive_that_holds_more_than_the_disk_is_not_unpacked(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: SimpleNamespace(free=9_999))
    with pytest.raises(CourseError, match="What data.zip holds needs about"):
        fetch(serve("data.zip", zipped({"zeros.wav": bytes(10_000)}))(server), tmp_path)


@pytest.mark.parametrize("name", trees.TREES)
def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(tmp_path, monkeypatch, name, capsys):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: SimpleNamespace(free=10**7))
    monkeypatch.setattr(download, "fetch", lambda *_: pytest.fail("it was fetched"))
    with pytest.raises(CourseError, match="needs about .* [GM]B"):
        datasets.fetch(name, tmp_path / "new")
    said = capsys.readouterr().out
    assert "Licence: " in said and "Cite: " in said
