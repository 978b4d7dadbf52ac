package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// renderRust writes the layout module of the Rust crate: constants, and for every structure but the header, which is read byte by byte, a
// struct of atomics whose offsets the compiler checks.
func renderRust(f *Format) ([]byte, error) {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("// %s\n", notice)
	p("//! Offsets, sizes and values of the wire format.\n")
	p("#![allow(missing_docs, dead_code)]\n")
	p("use core::mem::{offset_of, size_of};")
	p("use core::sync::atomic::{AtomicU32, AtomicU64};\n")
	p("pub const FINGERPRINT: u64 = %#016x;", f.Fingerprint())
	p("pub const MAGIC: [u8; 8] = *b%q;", f.Magic)
	p("pub const BYTE_ORDER: u32 = 0x%08X;", f.ByteOrder)
	p("pub const VERSION: u32 = %d;\n", f.Version)
	p("/// One field of a structure.")
	p("pub struct Field {\n    pub name: &'static str,\n    pub offset: usize,\n    pub size: usize,\n}\n")
	p("const fn field(name: &'static str, offset: usize, size: usize) -> Field {\n    Field { name, offset, size }\n}\n")
	for _, v := range f.Values {
		p("pub const %s: u64 = %d;", strings.ToUpper(v.Name), v.Value)
	}
	for _, t := range f.Tables {
		upper := strings.ToUpper(t.Name)
		p("\npub const %s_SIZE: usize = %d;", upper, t.Size)
		for _, x := range t.Fields {
			p("pub const %s_%s: usize = %d;", upper, strings.ToUpper(x.Name), x.Offset)
		}
		p("pub const %s_FIELDS: [Field; %d] = [", upper, len(t.Fields))
		for _, x := range t.Fields {
			p("    field(%q, %d, %d),", x.Name, x.Offset, x.Size)
		}
		p("];")
		if t.Name != "Header" {
			renderRustStruct(p, t)
		}
	}
	return b.Bytes(), nil
}

// renderRustStruct writes one structure and the checks of its offsets.
func renderRustStruct(p func(string, ...any), t Table) {
	p("\n#[repr(C)]\npub struct %s {", t.Name)
	fields := slices.Clone(t.Fields)
	slices.SortFunc(fields, func(a, b Field) int { return a.Offset - b.Offset })
	at := 0
	gap := func(to int) {
		if to > at {
			p("    reserved_%d: [u8; %d],", at, to-at)
		}
	}
	for _, x := range fields {
		gap(x.Offset)
		kind := map[string]string{"u32": "AtomicU32", "u64": "AtomicU64", "bytes": fmt.Sprintf("[u8; %d]", x.Size)}[x.Type]
		p("    pub %s: %s,", x.Name, kind)
		at = x.Offset + x.Size
	}
	gap(t.Size)
	p("}\n")
	p("const _: () = assert!(size_of::<%s>() == %d);", t.Name, t.Size)
	for _, x := range t.Fields {
		p("const _: () = assert!(offset_of!(%s, %s) == %d);", t.Name, x.Name, x.Offset)
	}
}
