//! Rings that are removed or cut short while they are in use.

mod common;

use std::thread;
use std::time::Duration;

use common::{options, ring, Dir, KINDS};
use millrace::{Error, Kind, OpenOptions, Partial, RemoveOptions};

#[test]
fn removal() {
    let dir = Dir::new();
    let remove = RemoveOptions::new().dir(&dir.0);
    let r = ring(&dir, Kind::Mpmc, 4, 16);
    r.producer().unwrap().send(b"left").unwrap();
    assert!(matches!(remove.remove("q"), Err(Error::InUse)));
    drop(r);
    assert!(matches!(remove.clone().if_drained().remove("q"), Err(Error::InUse)));
    remove.remove("q").unwrap();
    assert!(matches!(remove.remove("q"), Err(Error::NotFound)));
    let r = ring(&dir, Kind::Mpmc, 4, 16);
    let mut q = r.consumer().unwrap();
    let waiting = thread::spawn(move || q.next().map(|_| ()));
    thread::sleep(Duration::from_millis(20));
    remove.clone().force().remove("q").unwrap();
    assert!(matches!(waiting.join().unwrap(), Err(Error::SegmentLost)));
    assert!(matches!(r.producer(), Err(Error::SegmentLost)));
    for kind in KINDS {
        let r = options(&dir, kind, 4, 16).create("full").unwrap();
        let mut p = r.producer().unwrap();
        remove.clone().force().remove("full").unwrap();
        while p.try_send(b"x").is_ok() {}
        assert!(matches!(p.try_send(b"x"), Err(Error::SegmentLost)));
        assert!(matches!(p.try_reserve(1), Err(Error::SegmentLost)));
        assert!(matches!(p.try_send_batch(&[b"x"]), Err(Partial { sent: 0, error: Error::SegmentLost })));
    }
    std::fs::write(dir.0.join("text"), "no segment").unwrap();
    assert!(remove.clone().force().remove("text").is_err());
    assert!(dir.0.join("text").exists());
}

/// Somebody truncates the file: calls answer, and the process lives.
#[test]
fn a_truncated_segment_is_lost() {
    for kind in KINDS {
        let dir = Dir::new();
        let r = ring(&dir, kind, 1024, 4096);
        let (mut p, mut q) = (r.producer().unwrap(), r.consumer().unwrap());
        p.send(&[1; 4096]).unwrap();
        let m = q.next().unwrap();
        std::fs::File::options().write(true).open(dir.0.join("q")).unwrap().set_len(4096).unwrap();
        assert_eq!(m[0], 0); // it was 1, and nobody died
        drop(m);
        assert!(matches!(p.try_send(b"x"), Err(Error::SegmentLost)));
        assert!(matches!(q.try_next(), Err(Error::SegmentLost)));
        assert!(r.stats().is_err());
    }
}

/// The same before anybody has touched the mapping: nobody begins a session in memory that is not there, and nothing is sent into it.
#[test]
fn nobody_registers_with_a_truncated_segment() {
    for kind in KINDS {
        for n in 0..4 {
            let dir = Dir::new();
            drop(ring(&dir, kind, 8, 16));
            let r = OpenOptions::new().dir(&dir.0).open("q").unwrap();
            std::fs::File::options().write(true).open(dir.0.join("q")).unwrap().set_len(4096).unwrap();
            let lost = match n {
                0 => r.producer().err(),
                1 => r.consumer().err(),
                2 => r.recover().err(),
                _ => {
                    let e = r.producer().err();
                    assert!(matches!(r.producer(), Err(Error::SegmentLost)));
                    e
                }
            };
            assert!(matches!(lost, Some(Error::SegmentLost)), "{n}: {lost:?}");
        }
    }
}

#[test]
fn a_batch_into_a_truncated_segment_was_not_sent() {
    for kind in KINDS {
        let dir = Dir::new();
        let r = ring(&dir, kind, 1024, 4096);
        let mut p = r.producer().unwrap();
        std::fs::File::options().write(true).open(dir.0.join("q")).unwrap().set_len(4096).unwrap();
        let e = p.send_batch(&[&[1; 4096], &[2; 4096]]).unwrap_err();
        assert!(matches!(e, Partial { sent: 0, error: Error::SegmentLost }), "{e:?}");
    }
}
