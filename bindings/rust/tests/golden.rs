//! Every golden segment of fuzz/golden is read, recovered and received to the end, and compared with its description.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{json::Json, Dir};
use millrace::layout::*;
use millrace::{Error, FormatClass, OpenOptions, Ring};

fn golden() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/golden");
    let mut all: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|x| x == "json")).collect();
    all.sort();
    assert!(all.len() > 20, "only {} golden segments found", all.len());
    all
}

fn word(b: &[u8], at: usize, size: usize) -> u64 {
    b[at..at + size].iter().rev().fold(0, |w, x| w << 8 | u64::from(*x))
}

/// Compares the fields of one structure at `base`.
fn fields(b: &[u8], base: usize, table: &[Field], want: &Json) {
    let mut compared = 0;
    for f in table {
        if let Some(v) = want.get(f.name) {
            assert_eq!(word(b, base + f.offset, f.size), v.number(), "{}", f.name);
            compared += 1;
        }
    }
    assert!(compared > 0);
}

#[test]
fn every_golden_segment_is_what_its_description_says() {
    for path in golden() {
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        eprintln!("{name}");
        let d = Json::parse(&fs::read_to_string(&path).unwrap());
        let b = fs::read(path.with_extension("bin")).unwrap();
        assert_eq!(b.len() as u64, d.at("size").number());
        let dir = Dir::new();
        fs::write(dir.0.join("q"), &b).unwrap();
        let open = OpenOptions::new().dir(&dir.0);
        if let Some(r) = d.get("refused") {
            refused(open.open("q").err().unwrap(), r);
            continue;
        }
        assert_eq!(b[HEADER_ID..HEADER_ID + 16], d.at("id").bytes()[..]);
        fields(&b, 0, &HEADER_FIELDS, d.at("header"));
        if d.get("only").is_some() {
            assert!(open.open("q").is_err()); // the anchor of a System V segment that does not exist
            continue;
        }
        words(&b, &d);
        observe(&open.clone().read_only().open("q").unwrap(), &d);
        receive(&open.open("q").unwrap(), &d, &dir.0.join("q"));
    }
}

fn refused(e: Error, want: &Json) {
    let Error::Format(f) = e else { panic!("{e}") };
    let class = match f.class {
        FormatClass::NotSegment => "not_segment",
        FormatClass::ByteOrder => "byte_order",
        FormatClass::Version => "version",
        FormatClass::Layout => "layout",
        FormatClass::Corrupt => "corrupt",
    };
    assert_eq!(class, want.at("class").text(), "{f}");
    assert!(want.at("field").text().starts_with(f.field), "{f}: {}", want.at("field").text());
}

/// Decodes every word by the tables of the format alone.
fn words(b: &[u8], d: &Json) {
    let header = |name| d.at("header").at(name).number();
    let (slots, stride, spsc) = (header("slots"), header("entry_stride") as usize, header("kind") == 1);
    fields(b, CONTROL_OFFSET as usize, &CONTROL_FIELDS, d.at("control"));
    for p in d.at("participants").list() {
        let id = p.at("id").number() as usize;
        fields(b, PARTICIPANTS_OFFSET as usize + id * PARTICIPANT_SIZE, &PARTICIPANT_FIELDS, p);
    }
    let (entries, accounts) = (header("entries_offset") as usize, header("accounts_offset") as usize);
    for e in d.at("entries").list() {
        let slot = e.at("slot").number();
        let at = entries + slot as usize * stride;
        fields(b, at, &ENTRY_FIELDS, e);
        let (w, length) = (word(b, at + ENTRY_STATE, 8), word(b, at + ENTRY_LENGTH, 8));
        let shift = if spsc { SPSC_SEQUENCE_SHIFT } else { MPMC_SEQUENCE_SHIFT };
        let (sequence, modulus) = (w >> shift, u64::MAX >> shift);
        let kind = match w & 0xFF {
            STATE_FREE if !spsc => "free",
            STATE_CLAIMED if !spsc => "claimed",
            STATE_DONE if !spsc => "done",
            s if s & 0xC0 == STATE_READY => "ready",
            s if s & 0xC0 == STATE_TAKEN && !spsc => "taken",
            _ => "none",
        };
        let last = sequence.wrapping_sub(1) & modulus;
        let head = if kind == "free" { sequence } else { last.wrapping_sub(last.wrapping_sub(slot) & (slots - 1)) & modulus };
        let given_back = if kind == "ready" || kind == "taken" { w & DELIVERIES_MASK } else { 0 };
        assert_eq!(kind, e.at("kind").text(), "slot {slot}");
        let flags = [("inline", FLAG_INLINE), ("run", FLAG_RUN), ("pad", FLAG_PAD), ("skip", FLAG_SKIP)];
        let flags: Vec<Json> = flags.iter().filter(|(_, f)| length & f != 0).map(|(name, _)| Json::Text(name.to_string())).collect();
        assert_eq!(flags, e.at("length_flags").list(), "slot {slot}");
        let owner = if spsc { 0 } else { w >> OWNER_SHIFT & OWNER_MASK };
        let decoded =
            [("sequence", sequence), ("position", head), ("owner", owner), ("given_back", given_back), ("bytes", length & LENGTH_MASK)];
        for (field, have) in decoded {
            if let Some(want) = e.get(field).filter(|_| kind != "none") {
                assert_eq!(have, want.number(), "slot {slot}: {field}");
            }
        }
    }
    let mut counted = Vec::new();
    for slot in 0..slots {
        let v = word(b, accounts + slot as usize * 8, 8);
        if v != 0 {
            counted.push([slot, v >> 40, v >> 20 & 0xFFFFF, v & 0xFFFFF]);
        }
    }
    let want: Vec<_> = d.at("accounts").list().iter().map(|a| ["slot", "tag", "lost", "skipped"].map(|f| a.at(f).number())).collect();
    assert_eq!(counted, want);
}

fn observe(r: &Ring, d: &Json) {
    let s = r.stats().unwrap();
    let want = |name| d.at("stats").at(name).number();
    let all = [
        ("slots", s.slots),
        ("used", s.used),
        ("producer_position", s.producer_position),
        ("consumer_position", s.consumer_position),
        ("sent", s.sent),
        ("received", s.received),
        ("redelivered", s.redelivered),
        ("lost", s.lost),
        ("skipped", s.skipped),
        ("padding", s.padding),
        ("discarded", s.discarded),
        ("recoveries", s.recoveries),
        ("sleeps", s.sleeps),
        ("wakes", s.wakes),
        ("producers_ever", s.producers_ever),
        ("producers_live", s.producers_live),
        ("producers_died", s.producers_died),
        ("consumers_ever", s.consumers_ever),
        ("consumers_live", s.consumers_live),
        ("consumers_died", s.consumers_died),
    ];
    for (name, have) in all {
        assert_eq!(have, want(name), "{name}");
    }
    let seen: Vec<_> = r.peek(1000).unwrap().into_iter().map(|u| (u.position, u.deliveries, u.payload)).collect();
    assert_eq!(seen, messages(d.at("unreleased")));
}

fn messages(list: &Json) -> Vec<(u64, u32, Vec<u8>)> {
    let one = |m: &Json| (m.at("position").number(), m.at("deliveries").number() as u32, m.at("payload").bytes());
    list.list().iter().map(one).collect()
}

fn receive(r: &Ring, d: &Json, file: &Path) {
    let end = d.at("end").text();
    if end == "removed" {
        assert!(matches!(r.consumer(), Err(Error::SegmentLost)));
        return;
    }
    let dead = d.at("participants").list().iter().filter(|p| p.at("open").text() != "none").count();
    assert_eq!(r.recover().unwrap().len(), dead);
    let after = |name| d.at("after").at(name).number();
    let s = r.stats().unwrap();
    assert_eq!((s.lost, s.skipped), (after("lost"), after("skipped")), "settled by recover");
    let journal = CONTROL_FIELDS.iter().find(|f| f.name == "journal").unwrap();
    assert_eq!(word(&fs::read(file).unwrap(), CONTROL_OFFSET as usize + journal.offset, 8), 0, "the journal is left over");
    let mut q = r.consumer().unwrap();
    let mut buf = vec![0; r.max_message()];
    let mut got = Vec::new();
    let ended = loop {
        match q.try_receive(&mut buf) {
            Ok(n) => got.push((q.last().position, q.last().deliveries, buf[..n].to_vec())),
            Err(e) => break e,
        }
    };
    let fresh: Vec<u64> = got.iter().filter(|m| m.1 == 1).map(|m| m.0).collect();
    assert!(fresh.is_sorted());
    got.sort();
    assert_eq!(got, messages(d.at("receive")));
    assert!(matches!((ended, end), (Error::End, "eof") | (Error::Empty, "waiting")));
    let s = r.stats().unwrap();
    assert_eq!((s.lost, s.skipped), (after("lost"), after("skipped")));
}
