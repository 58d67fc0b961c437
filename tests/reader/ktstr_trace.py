#!/usr/bin/env python3
"""A reader of ktstr traces that shares nothing with ktstr: written from docs/trace-format.md alone.

    ktstr_trace.py TRACE [--bodies] [--memory] [--format-doc FILE]

prints one JSON document: the format, how whole the file is, the manifest and every record; with --bodies each body,
decoded by the list of types in the document itself; with --memory a checksum of each checkpoint's memory. Exits with 0
if the file is a trace (damage is named in `faults`), with 3 and a line on stderr if it is none or too new.

Needs `xxhash` and `zstandard` (tests/python/requirements.txt). Numbers in brackets are sections of the document.
"""

import argparse
import json
import pathlib
import struct
import sys

import xxhash
import zstandard

from archive import Archive, Malformed

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "trace-format.md"
FORMAT = (1, 0)  # that this program reads

SKIPPABLE = 0x184D2A5B
HEADER, TAIL, STAMP = 128, 56, 40
MIB = 1 << 20
MAX_RECORDS = 524_288
MAX_PARENTS = 64
COMMIT, INDEX, MANIFEST, CHUNK, CHECKPOINT = 11, 12, 1, 5, 6
# [3] with the largest raw length of [2]. Bodies that are not JSON have a type for each version.
KINDS = {
    1: ("manifest", 16 * MIB, None),
    2: ("blob", 64 * MIB, ["BlobV1"]),
    3: ("events", 32 * MIB, ["EventChunkV1"]),
    4: ("sample", 32 * MIB, ["SampleV1"]),
    5: ("page-chunk", MIB, ["PageChunkV1"]),
    6: ("checkpoint", 32 * MIB, ["CheckpointV1"]),
    7: ("claim", MIB, ["ClaimV1"]),
    8: ("verdict", 16 * MIB, None),
    9: ("loss", MIB, ["LossV1"]),
    10: ("clock", 4096, ["ClockV1"]),
    11: ("commit", 4096, ["CommitV1"]),
    12: ("index", 64 * MIB, ["IndexV1"]),
}


class NotReadable(Exception):
    """The file is no trace, or too new."""


def sum64(data):
    return xxhash.xxh3_64_intdigest(data)


def sum128(data):
    """XXH3-128 as the document writes it: little-endian."""
    return xxhash.xxh3_128_intdigest(data).to_bytes(16, "little")


def parse_stamp(data):
    """The first 40 bytes of a header, which mean the same in every version [1]; None if these are not."""
    if len(data) < STAMP or struct.unpack_from("<I", data)[0] != SKIPPABLE or data[8:16] != b"KTSTRTRC":
        return None
    if sum64(data[:32]) != struct.unpack_from("<Q", data, 32)[0]:
        return None
    numbers = struct.unpack_from("<7H", data, 16)
    return {"written": numbers[0:2], "oldest_reader": numbers[2:4], "readable_since": numbers[4:7]}


def parse_header(data):
    """A record's header [1]; None if it is not valid."""
    if len(data) < HEADER or struct.unpack_from("<I", data, 4)[0] != HEADER - 8 or parse_stamp(data) is None:
        return None
    if sum64(data[:120]) != struct.unpack_from("<Q", data, 120)[0]:
        return None
    names = ("trace_id", "kind", "version", "flags", "segment", "sequence", "stored_len", "raw_len", "guest_ns", "host_ns")
    header = dict(zip(names, struct.unpack_from("<QHHHHQQQQQ", data, 40)))
    header["keys"] = list(struct.unpack_from("<2Q", data, 96))
    header["frame_sum"] = struct.unpack_from("<Q", data, 112)[0]
    return header


def parse_tail(data):
    """The tail [1]; None if it is not valid."""
    if len(data) < TAIL or data[:16] != struct.pack("<II", SKIPPABLE, TAIL - 8) + b"KTSTREND":
        return None
    if sum64(data[:48]) != struct.unpack_from("<Q", data, 48)[0]:
        return None
    return dict(zip(("trace_id", "index", "length", "records"), struct.unpack_from("<4Q", data, 16)))


def read_as(record):
    """Its kind, of those that this program reads: records of other segments than the first are none [3]."""
    return record["kind"] if record["segment"] == 0 else None


class Trace:
    """A trace, by the steps of [2]."""

    def __init__(self, path, document):
        self.data = memoryview(pathlib.Path(path).read_bytes())
        self.archive = Archive(document)
        self.records, self.faults = [], []
        self.trace_id = None
        self.finalized, self.uncommitted_records, self.uncommitted_bytes = False, 0, 0
        self.stamp = parse_stamp(self.data[:STAMP])
        self.check_format()
        if not self.by_index():
            self.by_scan()
        if self.trace_id is None:
            raise NotReadable("it is no trace: it has no valid record header")
        self.check_format()

    def check_format(self):
        if self.stamp and tuple(self.stamp["oldest_reader"]) > FORMAT:
            release = ".".join(map(str, self.stamp["readable_since"]))
            raise NotReadable(f"it is too new: ktstr {release} or newer reads it")

    def by_index(self, file_end=None):
        """Step 2 for the file, or for its part up to `file_end`; False if there is no tail, or no index that holds."""
        file_end = len(self.data) if file_end is None else file_end
        begin = file_end - TAIL
        tail = parse_tail(self.data[begin:file_end]) if begin >= 0 else None
        if tail is None:
            return False
        header = self.header_at(tail["index"])
        try:
            if tail["length"] != file_end or header is None or read_as(header) != INDEX:
                raise Malformed("the tail does not point at an index")
            if header["trace_id"] != tail["trace_id"] or self.end(header) != begin:
                raise Malformed("the index is not the tail's")
            self.trace_id = tail["trace_id"]
            entries = self.decoded(header)["entries"]
            at, sequence = 0, 0
            for entry in entries:
                if entry["offset"] < at or entry["sequence"] < sequence:
                    raise Malformed("its entries contradict each other")
                at, sequence = self.end(entry), entry["sequence"] + 1
            if len(entries) != tail["records"] or at > tail["index"] or len(entries) > MAX_RECORDS:
                raise Malformed("its entries are not those that the tail tells of")
        except Malformed as why:
            self.fault(begin, None, f"its index cannot be used: {why}")
            self.trace_id = None
            return False
        self.records, self.finalized = entries, True
        self.stamp = parse_stamp(self.data[tail["index"] :][:STAMP])
        return True

    def by_scan(self):
        """Steps 3 and 4."""
        found, at, committed = [], 0, (0, 0)
        while at < len(self.data):
            header = self.next_header(at, found)
            if header is None:
                if parse_tail(self.data[at : at + TAIL]):
                    at += TAIL
                    if at < len(self.data) and self.is_whole_up_to(at):
                        return
                    continue
                begin = at
                at = self.search(at + 1, found)
                self.fault(begin, None, f"{at - begin} bytes are no record")
                continue
            if self.trace_id is None:
                self.trace_id = header["trace_id"]
                self.stamp = parse_stamp(self.data[at : at + STAMP])
            if self.end(header) > len(self.data):
                self.fault(at, header, "it is cut off")
                break
            if len(found) == MAX_RECORDS:
                self.fault(at, header, "more records than a trace may have")
                break
            if read_as(header) != INDEX:
                found.append(header)
            at = self.end(header)
            if read_as(header) in (INDEX, COMMIT):
                committed = (len(found), at)
        self.records = found[: committed[0]]
        self.uncommitted_records = len(found) - committed[0]
        self.uncommitted_bytes = len(self.data) - committed[1]

    def is_whole_up_to(self, end):
        """Whether a finished trace ends at `end`, behind which something was put."""
        trace_id, faults = self.trace_id, list(self.faults)
        if self.by_index(end):
            # That of the file's own end is none of this trace.
            self.faults = []
            return True
        self.trace_id, self.faults = trace_id, faults
        return False

    def header_at(self, offset):
        header = parse_header(self.data[offset : offset + HEADER])
        if header is not None:
            header["offset"] = offset
        return header

    def next_header(self, offset, found):
        """The header at an offset, if it can be the next one of this trace."""
        header = self.header_at(offset)
        if header is None or (self.trace_id is not None and header["trace_id"] != self.trace_id):
            return None
        return header if not found or header["sequence"] > found[-1]["sequence"] else None

    def search(self, at, found):
        """Offset of the next header of this trace, or the end of the file."""
        whole = self.data.obj
        magic = struct.pack("<II", SKIPPABLE, HEADER - 8) + b"KTSTRTRC"
        at = whole.find(magic, at)
        while at >= 0 and self.next_header(at, found) is None:
            at = whole.find(magic, at + 1)
        return at if at >= 0 else len(self.data)

    @staticmethod
    def end(record):
        return record["offset"] + HEADER + record["stored_len"]

    def body(self, record):
        """A record's decoded body, everything of it checked first: step 5."""
        header = self.header_at(record["offset"])
        same = header is not None and all(header[name] == record[name] for name in record)
        if not same or header["trace_id"] != self.trace_id:
            raise Malformed("its header is not what the index says")
        largest = KINDS.get(record["kind"], ("", 64 * MIB))[1]
        if record["raw_len"] > largest or record["stored_len"] > largest + largest // 128 + 4096:
            raise Malformed("it is larger than its kind may be")
        frame = self.data[record["offset"] + HEADER : self.end(record)]
        if len(frame) != record["stored_len"] or sum64(frame) != header["frame_sum"]:
            raise Malformed("its checksum does not agree")
        try:
            if zstandard.frame_content_size(frame) != record["raw_len"]:
                raise Malformed("its frame has another content size")
            decoder = zstandard.ZstdDecompressor().decompressobj()
            raw = decoder.decompress(frame)
        except zstandard.ZstdError as error:
            raise Malformed(f"its frame does not decode: {error}") from error
        if not decoder.eof or decoder.unused_data or len(raw) != record["raw_len"]:
            raise Malformed("its body is not exactly one frame")
        return raw

    def decoded(self, record):
        """The value in a record's body; None of a kind or version that is not known, or of another segment."""
        raw = self.body(record)
        kind, version = read_as(record), record["version"]
        types = KINDS[kind][2] if kind in KINDS else []
        if types is None:
            try:
                return json.loads(raw) if version == 1 else None
            except ValueError as error:
                raise Malformed(f"it is not JSON: {error}") from error
        return self.archive.decode(types[version - 1], raw) if 1 <= version <= len(types) else None

    def values(self):
        """(record, its value) of all that are intact; the others become faults."""
        for record in self.records:
            try:
                value = self.decoded(record)
                if read_as(record) == CHUNK and value is not None:
                    check_chunk(value)
            except Malformed as why:
                self.fault(record["offset"], record, str(why))
            else:
                yield record, value

    def fault(self, offset, record, what):
        kind, sequence = (record["kind"], record["sequence"]) if record else (None, None)
        self.faults.append({"offset": offset, "kind": kind, "sequence": sequence, "what": what})

    def absent(self):
        """Records that the sequence numbers say were there [2, step 4]."""
        expected, absent = 0, 0
        for record in self.records:
            absent += record["sequence"] - expected
            expected = record["sequence"] + 1
        return absent


def check_chunk(chunk):
    """[5]: each page has its id, and there are 1 to 64."""
    ids, pages = chunk["ids"], chunk["bytes"]
    if not 1 <= len(ids) <= 64 or len(pages) != 4096 * len(ids):
        raise Malformed("a chunk has 1 to 64 pages of 4096 bytes")
    if any(sum128(pages[4096 * i : 4096 * (i + 1)]) != identity for i, identity in enumerate(ids)):
        raise Malformed("a page does not have its id")


def memory(values):
    """[5]: of each checkpoint the XXH3-128 of its pages in order, those that were left out skipped, and their number."""
    pages, tables = {}, {}
    for record, value in values:
        if value is None:
            continue
        if record["kind"] == CHUNK:
            for i in range(len(value["ids"])):
                pages[value["first"] + i] = value["bytes"][4096 * i : 4096 * (i + 1)]
        elif record["kind"] == CHECKPOINT:
            tables[value["index"]] = value
    for index, checkpoint in tables.items():
        chain = [checkpoint]
        while (parent := chain[-1]["parent"]) is not None:
            if parent >= chain[-1]["index"] or parent not in tables or len(chain) > MAX_PARENTS:
                raise Malformed(f"checkpoint {index} has no base")
            chain.append(tables[parent])
        states = {}
        for table in reversed(chain):
            for run in table["runs"]:
                kind, number = (*run["state"].items(),)[0] if isinstance(run["state"], dict) else (run["state"], 0)
                for i in range(run["count"]):
                    states[run["gfn"] + i] = (kind, number + i if kind == "Stored" else 0)
        state, left_out, zeros = xxhash.xxh3_128(), 0, bytes(4096)
        for ram in checkpoint["ram"]:
            for gfn in range(ram["start"] // 4096, ram["end"] // 4096):
                kind, number = states.get(gfn, ("Zero", 0))
                left_out += kind == "LeftOut"
                if kind != "LeftOut":
                    state.update(pages[number] if kind == "Stored" else zeros)
        yield {"checkpoint": index, "xxh3": state.hexdigest(), "left_out": left_out}


def for_json(value):
    """Bytes as their length and checksum."""
    if isinstance(value, bytes):
        return {"bytes": len(value), "xxh3": xxhash.xxh3_128_hexdigest(value)}
    raise TypeError(type(value))


def main():
    options = argparse.ArgumentParser(description="A reader of ktstr traces from docs/trace-format.md alone.")
    options.add_argument("trace")
    options.add_argument("--bodies", action="store_true", help="decode every body")
    options.add_argument("--memory", action="store_true", help="a checksum of each checkpoint's memory")
    options.add_argument("--format-doc", default=DOCUMENT, help="the document; default: that of this repository")
    args = options.parse_args()
    try:
        trace = Trace(args.trace, pathlib.Path(args.format_doc).read_text(encoding="utf-8"))
    except NotReadable as why:
        print(f"{args.trace}: {why}", file=sys.stderr)
        return 3
    values = list(trace.values())
    unknown = {}
    for record in trace.records:
        if record["segment"] == 0 and record["kind"] not in KINDS:
            unknown[record["kind"]] = unknown.get(record["kind"], 0) + 1
    fields = ("offset", "kind", "version", "flags", "segment", "sequence", "stored_len", "raw_len", "guest_ns", "host_ns")
    out = {
        "format": ".".join(map(str, trace.stamp["written"])),
        "oldest_reader": ".".join(map(str, trace.stamp["oldest_reader"])),
        "bytes": len(trace.data),
        "finalized": trace.finalized,
        "uncommitted_records": trace.uncommitted_records,
        "uncommitted_bytes": trace.uncommitted_bytes,
        "absent_records": trace.absent(),
        "unknown_kinds": unknown,
        "other_segments": sum(record["segment"] != 0 for record in trace.records),
        "manifest": next((value for record, value in values if read_as(record) == MANIFEST), None),
        "records": [{name: record[name] for name in (*fields, "keys")} for record in trace.records],
    }
    if args.bodies:
        out["bodies"] = [{"sequence": record["sequence"], "value": value} for record, value in values]
    if args.memory:
        out["memory"] = list(memory(values))
    out["faults"] = sorted(trace.faults, key=lambda fault: fault["offset"])
    json.dump(out, sys.stdout, default=for_json, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
