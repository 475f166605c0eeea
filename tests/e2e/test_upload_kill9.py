#!/usr/bin/python3
"""The uploader dies by kill -9, again and again: nothing that was acknowledged is missing up there in the end, nothing is
damaged, and nothing is there twice. The bucket is compared byte by byte with the segments by bare_restore.py."""
from collections import Counter

import bare_restore
from lib import *
from s3_lib import *

ROUNDS = int(os.environ.get("ROUNDS") or 200)
COMPARE_EVERY = 25
BLOCK = 64 << 10
INTERVAL = "upload_interval=10ms"


class Writer:
    """One client's work between two deaths: a segment of its own that lives through all of them, atoms and roots."""

    def __init__(self):
        self.segment, self.frames, self.atoms = new_uuid(), [], []
        self.published = []  # offsets of the atoms that were roots, the acknowledged ones and perhaps one more
        self.acknowledged = 0

    def burst(self, mnt, seconds):
        """Writes until the time is over. What was fsynced is remembered."""
        end = time.monotonic() + seconds
        path = f"{mnt}/space/{self.segment}"
        while time.monotonic() < end:
            kind = rng.random()
            if kind < 0.6:
                data = json_frame({"n": len(self.frames), "fill": "x" * rng.choice((0, 100, 5000, 40_000, 200_000))})
                append(path, data, sync=True)
                self.frames.append(data)
            elif kind < 0.8 and self.frames:
                self.published.append(os.path.getsize(path) - len(self.frames[-1]))
                publish(mnt, Pointer(self.segment, self.published[-1]))
                self.acknowledged = len(self.published)
            else:
                name = f"{mnt}/atoms/in/a{len(self.atoms)}"
                data = random_bytes(rng.randrange(1, 30_000))
                write(name, data, sync=True)
                segment, offset = os.readlink(name).split("/")[-2:]
                self.atoms.append((Pointer(segment, int(offset)), data))


def flush_and_stop(mount):
    """`protofs umount --flush`: all is up there when it returns."""
    protofs("umount", mount, "--flush", timeout=120)
    mount.daemon.wait()
    mount.ended()


PREFIX = "some/prefix/"


class Memory:
    """What a fault server holds, whatever it does to those who ask."""

    def __init__(self, server, bucket):
        self.objects = server.buckets[bucket]

    def list(self):
        for key, thing in list(self.objects.items()):
            yield key.removeprefix(PREFIX), len(thing.data)

    def get(self, key):
        return self.objects[PREFIX + key].data


def source_of(server, bucket):
    if isinstance(server, FaultServer):
        return Memory(server, bucket)
    return bare_restore.Bucket(server.client(), bucket, PREFIX)


def check_same(source, store, complete, what):
    problems = bare_restore.compare(source, store.dir, complete)
    check(not problems, f"{what}: {len(problems)} problems, the first of them:\n" + "\n".join(problems[:10]))


def check_chain(source):
    """Each manifest names the sum of the one before."""
    place, before = bare_restore.Place(source), None
    for number in place.manifests:
        data = source.get(f"roots/{number:020d}")
        value = json.loads(data)
        check_eq(value["n"], number, "number of a manifest")
        if before is not None:
            check_eq(value["previous"], xxh3(before), f"what manifest {number} says of the one before")
        before = data
    return len(place.manifests)


def check_content(source, writer):
    """What was acknowledged to the client is in what the bucket gives back."""
    place = bare_restore.Place(source)
    streams = {}
    for uuid in {writer.segment, *(atom[0].segment for atom in writer.atoms)}:
        pieces = []
        place.copy(uuid, pieces.append)
        streams[uuid] = b"".join(pieces)
    at = 0
    for data in writer.frames:
        # A frame that was written and not acknowledged may lie between two that were.
        found = streams[writer.segment].find(data, at)
        check(found >= 0, f"an acknowledged frame is missing behind byte {at} of {writer.segment}")
        at = found + len(data)
    for pointer, data in writer.atoms:
        check_eq(streams[pointer.segment][pointer.offset:][:9 + len(data)], frame(data), f"atom {pointer}")


def die_and_live(server, bucket, rounds, heal=None):
    """Rounds of work and death, then, after HEAL, a life in which all is uploaded. Returns the segments' bytes."""
    source, writer = source_of(server, bucket), Writer()
    with Store("--block-size", str(BLOCK), "--cloud", f"s3://{bucket}/{PREFIX}") as store:
        mount = store.mount(INTERVAL, env=clean_environment(**server.environment()))
        for number in range(rounds):
            mount.start()
            writer.burst(mount, rng.choice((0.0, 0.02, 0.1, 0.3)))
            time.sleep(rng.choice((0.0, 0.005, 0.02, 0.1)))
            mount.kill9()
            if (number + 1) % COMPARE_EVERY == 0:
                check_same(source, store, False, f"after round {number + 1}")
        if heal:
            heal()
        mount.start()
        flush_and_stop(mount)
        check_same(source, store, True, "in the end")
        manifests = check_chain(source)
        check_content(source, writer)
        check(len(writer.frames) + len(writer.atoms) > rounds / 2, "next to nothing was written")
        size = sum(bare_restore.Segment(f"{store.dir}/segments/{uuid}").length for uuid in store.segments())
        protofs("fsck", store, "--cloud", "--deep", env=clean_environment(**server.environment()), timeout=240)
        print(f"  {rounds} rounds, {len(writer.frames)} frames, {len(writer.atoms)} atoms, {size >> 10} KiB, {manifests} manifests")
    return size


@test
def a_real_server_and_an_uploader_that_dies():
    server = rgw()
    die_and_live(server, new_bucket(server), ROUNDS)


@test
def what_is_acknowledged_at_cloud_survives_the_machine():
    server = rgw()
    for _ in range(max(5, ROUNDS // 20)):
        bucket, writer = new_bucket(server), Writer()
        with Store("--block-size", str(BLOCK), "--cloud", f"s3://{bucket}/{PREFIX}", "--durability", "cloud") as store:
            with store.mount(INTERVAL, env=clean_environment(**server.environment())) as mount:
                writer.burst(mount, 0.05)  # at least one of something is there
                killer = threading.Timer(rng.uniform(0.1, 0.7), mount.daemon.process.kill)
                killer.start()
                with contextlib.suppress(OSError, Failure):
                    writer.burst(mount, 5)
                killer.join()
                mount.daemon.process.wait()
                mount.clean()
                mount.ended()
        # The store is gone.
        source = source_of(server, bucket)
        check_content(source, writer)
        place = bare_restore.Place(source)
        if writer.acknowledged:
            root = place.manifest(place.manifests[-1])["root"]
            check_eq(root["transaction_id"], writer.segment, "the segment of the newest root")
            check_in(root["offset"], writer.published[writer.acknowledged - 1:], "the newest root of the newest manifest")
        check(writer.frames or writer.atoms, "nothing was written")


@test
def nothing_is_uploaded_twice_but_what_was_on_its_way():
    rounds, transfers = max(10, ROUNDS // 8), 8  # transfers at once are 8 by default
    with FaultServer() as server:
        server.make_bucket("bucket")
        die_and_live(server, "bucket", rounds)
        puts = server.log("PUT")
        stored = Counter(put.key for put in puts if put.status == 200)
        twice = {key: count for key, count in stored.items() if count > 1}
        check(not twice, f"stored twice: {twice}")
        check(len(puts) - len(stored) <= rounds * transfers, f"{len(puts)} PUTs for {len(stored)} objects in {rounds} rounds")
        check_eq(server.complaints, [], "what a good client does not do")


@test
def a_server_that_misbehaves_and_an_uploader_that_dies():
    storms = ({"kind": "status", "status": 503, "code": "SlowDown"}, {"kind": "reset"}, {"kind": "reset", "effect": True},
              {"kind": "hang", "seconds": 0.05, "answer": True}, {"kind": "hang", "seconds": 0.3, "effect": True},
              {"kind": "late", "seconds": 0.2, "method": "PUT"}, {"kind": "cut", "at": 10})
    with FaultServer(seed=SEED) as server:
        server.make_bucket("bucket")
        raging = [server.fault(**storm, times=None, chance=0.04) for storm in storms]

        def heal():
            for fault in raging:
                fault.times = 0

        size = die_and_live(server, "bucket", max(10, ROUNDS // 4), heal)
        check_eq(server.complaints, [], "what a good client does not do")
        stored = sum(len(thing.data) for thing in server.buckets["bucket"].values())
        check(stored < 2 * size + 4 * MIB, f"{stored} bytes are stored for {size} of segments")


main(timeout=280 + 2 * ROUNDS)
