"""Archived bodies: section 4 of docs/trace-format.md, with the list of types read from the document itself."""

import re
import struct

# Size and alignment are the same number.
PRIMITIVES = {"u8": "<B", "u16": "<H", "u32": "<I", "u64": "<Q", "i32": "<i", "i64": "<q", "f64": "<d", "bool": "<?"}


class Malformed(Exception):
    """Bytes that are not what the document says, or a document that cannot be understood."""


def top_level(text, separator):
    """The parts of a text between separators that are in no bracket."""
    parts, depth, begin = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([{<") - (c in ")]}>")
        if c == separator and depth == 0:
            parts.append(text[begin:i].strip())
            begin = i + 1
    return [part for part in [*parts, text[begin:].strip()] if part]


def align(at, to):
    return (at + to - 1) // to * to


class Struct:
    """Fields in order, after `head` bytes (the tag, of a variant)."""

    def __init__(self, fields, types, head=0):
        self.types, self.fields, at, self.alignment = types, [], head, 1
        for name, type_name in fields:
            size, alignment = types.layout(type_name)
            at = align(at, alignment)
            self.fields.append((name, type_name, at))
            at += size
            self.alignment = max(self.alignment, alignment)
        self.size = align(at, self.alignment)

    def read(self, data, at):
        return {name: self.types.read(type_name, data, at + offset) for name, type_name, offset in self.fields}


class Enum:
    """A tag, and the fields of its variant."""

    def __init__(self, variants, types):
        self.variants = [(name, named, Struct(fields, types, head=1)) for name, named, fields in variants]
        self.alignment = max(struct_.alignment for _, _, struct_ in self.variants)
        self.size = align(max(struct_.size for _, _, struct_ in self.variants), self.alignment)

    def read(self, data, at):
        tag = take("<B", data, at)
        if tag >= len(self.variants):
            raise Malformed(f"an enum has no variant {tag}")
        name, named, struct_ = self.variants[tag]
        value = struct_.read(data, at)
        if not struct_.fields:
            return name
        return {name: value if named else value["0"]}


def take(form, data, at):
    if at < 0 or at + struct.calcsize(form) > len(data):
        raise Malformed("an offset leads out of the body")
    if form == "<?" and data[at] > 1:
        raise Malformed("a bool is neither 0 nor 1")
    return struct.unpack_from(form, data, at)[0]


class Archive:
    """The types of the document."""

    def __init__(self, document):
        section = re.search(r"^### Types\n(.*?)^(?:#|\S[^\n]*layout\.rs)", document, re.MULTILINE | re.DOTALL)
        if section is None:
            raise Malformed("the document has no section `Types`")
        definitions, name = {}, None
        for line in section.group(1).splitlines():
            if not line.startswith("    "):
                continue
            line = line[4:].split("//")[0].rstrip()
            if line[:1].strip():
                name, _, line = line.partition(" ")
                definitions[name] = ""
            if name:
                definitions[name] += " " + line.strip()
        self.definitions = {name: text.strip() for name, text in definitions.items()}
        self.made = {}

    def decode(self, name, data):
        """The root value of a body: it is at the end."""
        size, alignment = self.layout(name)
        at = len(data) - size
        if at < 0 or at % alignment:
            raise Malformed(f"its length is not one of a {name}")
        return self.read(name, data, at)

    def named(self, name):
        """The struct or enum of a name, or of a type that the table of section 4 makes one of."""
        if name not in self.made:
            if name.startswith("Option<"):
                some = [("0", name[len("Option<") : -1])]
                self.made[name] = Enum([("None", False, []), ("Some", False, some)], self)
            elif name.startswith("("):
                parts = top_level(name[1:-1], ",")
                self.made[name] = Struct([(str(i), part) for i, part in enumerate(parts)], self)
            elif name not in self.definitions:
                raise Malformed(f"the document has no type `{name}`")
            elif self.definitions[name].startswith("enum "):
                variants = [self.variant(text) for text in top_level(self.definitions[name][5:], "|")]
                self.made[name] = Enum(variants, self)
            else:
                self.made[name] = Struct(self.fields(self.definitions[name]), self)
        return self.made[name]

    def variant(self, text):
        name = re.match(r"\w+", text).group()
        rest = text[len(name) :].strip()
        if rest.startswith("{"):
            return name, True, self.fields(rest[1:-1])
        return name, False, [(str(i), part) for i, part in enumerate(top_level(rest[1:-1], ","))]

    @staticmethod
    def fields(text):
        return [tuple(field.split(None, 1)) for field in top_level(text, ",")]

    @staticmethod
    def array(name):
        element, count = name[1:-1].split(";")
        return element.strip(), int(count)

    def layout(self, name):
        """(size, alignment) of a type, in bytes."""
        if name == "i128":
            return 16, 16
        if name in PRIMITIVES:
            size = struct.calcsize(PRIMITIVES[name])
            return size, size
        if name == "String" or name.startswith("Vec<"):
            return 8, 4
        if name.startswith("Box<"):
            return 4, 4
        if name.startswith("["):
            element, count = self.array(name)
            size, alignment = self.layout(element)
            return size * count, alignment
        made = self.named(name)
        return made.size, made.alignment

    def read(self, name, data, at):
        if name == "i128":
            low, high = take("<Q", data, at), take("<q", data, at + 8)
            return high << 64 | low
        if name in PRIMITIVES:
            return take(PRIMITIVES[name], data, at)
        if name == "String":
            return self.string(data, at)
        if name.startswith("Box<"):
            return self.elements(name[4:-1], 1, data, at + take("<i", data, at))[0]
        if name.startswith("Vec<"):
            return self.elements(name[4:-1], take("<I", data, at + 4), data, at + take("<i", data, at))
        if name.startswith("["):
            return self.elements(*self.array(name), data, at)
        value = self.named(name).read(data, at)
        if name.startswith("Option<"):
            return None if value == "None" else value["Some"]
        return list(value.values()) if name.startswith("(") else value

    def elements(self, element, count, data, at):
        """Elements one after the other; those of one byte as bytes."""
        size, alignment = self.layout(element)
        if count and (at < 0 or at % alignment or at + count * size > len(data)):
            raise Malformed("elements lie outside of the body, or between addresses")
        if element == "u8":
            return bytes(data[at : at + count]) if count else b""
        return [self.read(element, data, at + i * size) for i in range(count)]

    @staticmethod
    def string(data, at):
        take("<Q", data, at)
        if data[at] & 0xC0 != 0x80:
            text = bytes(data[at : at + 8]).split(b"\xff")[0]
        else:
            word = take("<I", data, at)
            length = (word & 0x3F) | ((word & ~0xFF) >> 2)
            begin = at + take("<i", data, at + 4)
            if begin < 0 or begin + length > len(data):
                raise Malformed("a text lies outside of the body")
            text = bytes(data[begin : begin + length])
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Malformed("a text is not UTF-8") from error
