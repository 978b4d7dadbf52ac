//! The calls of one process, both kinds of ring.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::{bytes, options, ring, Dir, KINDS};
use millrace::{Consumer, Error, Kind, OnConsumerDeath, OpenOptions, Options, ProducerOptions, State};

/// Every size from nothing to the maximum, over several laps, so that messages pad before the end of the ring.
#[test]
fn every_size_goes_round() {
    for kind in KINDS {
        for slots in [1, 2, 4, 8] {
            let dir = Dir::new();
            let r = ring(&dir, kind, slots, 24);
            let (mut p, mut q) = (r.producer().unwrap(), r.consumer().unwrap());
            let mut buf = vec![0; r.max_message()];
            for i in 0..40 * (r.max_message() as u64 + 1) {
                let msg = bytes(i, (i as usize * 7919) % (r.max_message() + 1));
                p.send(&msg).unwrap();
                if i % 2 == 0 {
                    let n = q.receive(&mut buf).unwrap();
                    assert_eq!(&buf[..n], msg);
                } else {
                    let m = q.next().unwrap();
                    assert_eq!((&m[..], m.deliveries()), (&msg[..], 1));
                }
            }
            let too_large = vec![0; r.max_message() + 1];
            assert!(matches!(p.send(&too_large), Err(Error::TooLarge { .. })));
            assert!(matches!(q.try_receive(&mut buf), Err(Error::Empty)));
            assert_eq!(r.stats().unwrap().used, 0);
        }
    }
}

/// Full and empty, and a drained ring accepts the largest message.
#[test]
fn full_and_empty() {
    for kind in KINDS {
        let dir = Dir::new();
        let r = ring(&dir, kind, 4, 8);
        let (mut p, mut q) = (r.producer().unwrap(), r.consumer().unwrap());
        for lap in 0..10 {
            for i in 0..4 {
                p.try_send(&[lap, i]).unwrap();
            }
            assert!(matches!(p.try_send(b"x"), Err(Error::Full)));
            assert!(matches!(p.send_timeout(b"x", Duration::from_millis(5)), Err(Error::TimedOut)));
            assert!(matches!(p.try_reserve(1), Err(Error::Full)));
            let mut buf = [0; 8];
            assert!(matches!(q.try_receive(&mut buf[..1]), Err(Error::ShortBuffer { need: 2 })));
            for i in 0..4 {
                assert_eq!(q.try_receive(&mut buf).unwrap(), 2);
                assert_eq!(buf[..2], [lap, i]);
            }
            assert!(matches!(q.try_next(), Err(Error::Empty)));
            assert!(matches!(q.receive_timeout(&mut buf, Duration::from_millis(5)), Err(Error::TimedOut)));
            p.try_send(&vec![lap; r.max_message()]).unwrap();
            assert_eq!(q.try_next().unwrap().len(), r.max_message());
        }
    }
}

#[test]
fn reservations_are_committed_shortened_and_discarded() {
    for kind in KINDS {
        let dir = Dir::new();
        let r = ring(&dir, kind, 16, 16);
        let (mut p, mut q) = (r.producer().unwrap(), r.consumer().unwrap());
        for i in 0..50u8 {
            let mut room = p.reserve(40).unwrap();
            room.fill(i);
            room.commit_len(33).unwrap();
            p.reserve(17).unwrap().discard();
            assert!(matches!(p.reserve(3).unwrap().commit_len(4), Err(Error::TooLarge { got: 4, max: 3 })));
            let mut room = p.reserve(64).unwrap();
            room.fill(!i);
            room.commit_len(5).unwrap();
            assert_eq!(q.next().unwrap()[..], [i; 33]);
            assert_eq!(q.next().unwrap()[..], [!i; 5]);
        }
        assert!(matches!(q.try_next(), Err(Error::Empty)));
        let s = r.stats().unwrap();
        assert_eq!((s.sent, s.received, s.discarded, s.used), (100, 100, 100, 0));
    }
}

#[test]
fn a_leaked_reservation_or_lease_is_misuse_and_ends_with_the_handle() {
    for kind in KINDS {
        let dir = Dir::new();
        let r = ring(&dir, kind, 8, 16);
        let (mut p, mut q) = (r.producer().unwrap(), r.consumer().unwrap());
        p.send(b"one").unwrap();
        std::mem::forget(p.reserve(3).unwrap());
        assert!(matches!(p.send(b"two"), Err(Error::Misuse)));
        std::mem::forget(q.next().unwrap());
        assert!(matches!(q.try_next(), Err(Error::Misuse)));
        drop(q);
        drop(p);
        let mut q = r.consumer().unwrap();
        {
            let m = q.next().unwrap();
            assert_eq!((&m[..], m.deliveries(), m.redelivered()), (&b"one"[..], 2, true));
        }
        assert!(matches!(q.next(), Err(Error::End)));
        assert_eq!(r.stats().unwrap().used, 0);
    }
}

#[test]
fn messages_are_given_back_and_counted() {
    for kind in KINDS {
        let dir = Dir::new();
        let r = options(&dir, kind, 8, 16).max_deliveries(3).create("q").unwrap();
        let (mut p, mut q) = (r.producer().unwrap(), r.consumer().unwrap());
        p.send(b"again").unwrap();
        p.send(b"then").unwrap();
        for count in 1..=3 {
            let m = q.next().unwrap();
            assert_eq!((&m[..], m.deliveries()), (&b"again"[..], count));
            m.give_back();
        }
        assert_eq!(q.next().unwrap()[..], *b"then");
        assert!(matches!(q.try_next(), Err(Error::Empty)));
        assert_eq!(r.stats().unwrap().lost, 1);
    }
}

#[test]
fn a_panic_gives_the_message_back() {
    for kind in KINDS {
        let dir = Dir::new();
        let r = ring(&dir, kind, 8, 16);
        r.producer().unwrap().send(b"hot").unwrap();
        let mut q = r.consumer().unwrap();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _m = q.next().unwrap();
            panic!("in the middle of the work");
        }));
        assert!(caught.is_err());
        assert_eq!(q.next().unwrap().deliveries(), 2);
        assert!(matches!(q.next(), Err(Error::End)));
    }
}

#[test]
fn batches() {
    for kind in KINDS {
        for sizes in [&[5usize, 5, 5][..], &[0, 0, 0, 0], &[3, 40, 0, 9], &[30, 1], &[64]] {
            let dir = Dir::new();
            let r = ring(&dir, kind, 8, 16);
            let (mut p, mut q) = (r.producer().unwrap(), r.consumer().unwrap());
            for lap in 0..30u64 {
                let msgs: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(i, n)| bytes(lap * 8 + i as u64, *n)).collect();
                let refs: Vec<&[u8]> = msgs.iter().map(|m| &m[..]).collect();
                p.send_batch(&refs).unwrap();
                let mut got = Vec::new();
                while got.len() < msgs.len() {
                    let mut b = q.next_batch(3).unwrap();
                    let first: Vec<Vec<u8>> = b.iter().map(|v| v.bytes.to_vec()).collect();
                    assert!(!first.is_empty() && first.len() <= 3);
                    got.push(first[0].clone());
                    b.release_first(1);
                    assert_eq!(b.len(), first.len() - 1);
                    if lap % 3 == 0 {
                        b.give_back();
                    } else {
                        got.extend_from_slice(&first[1..]);
                    }
                }
                assert_eq!(got, msgs);
            }
            assert_eq!(r.stats().unwrap().used, 0);
        }
    }
}

#[test]
fn a_batch_is_cut_where_the_ring_ends() {
    for kind in KINDS {
        let dir = Dir::new();
        let r = ring(&dir, kind, 8, 16);
        let (mut p, mut q) = (r.producer().unwrap(), r.consumer().unwrap());
        let msgs: Vec<Vec<u8>> = (0..13).map(|i| bytes(i, 10)).collect();
        let refs: Vec<&[u8]> = msgs.iter().map(|m| &m[..]).collect();
        let e = p.try_send_batch(&refs).unwrap_err();
        assert!(matches!(e.error, Error::Full) && e.sent == 8, "{e}");
        let mut got = 0;
        while let Ok(m) = q.try_next() {
            assert_eq!(m[..], msgs[got]);
            got += 1;
        }
        assert_eq!(got, 8);
        let e = p.try_send_batch(&[b"small", &[0; 65]]).unwrap_err();
        assert!(matches!(e.error, Error::TooLarge { got: 65, max: 64 }) && e.sent == 0);
    }
}

#[test]
fn the_stream_ends_and_begins_again() {
    for kind in KINDS {
        let dir = Dir::new();
        let r = ring(&dir, kind, 8, 16);
        let mut q = r.consumer().unwrap();
        let mut buf = [0; 16];
        assert!(matches!(q.try_receive(&mut buf), Err(Error::Empty)));
        for i in 0..3u8 {
            let mut p = r.producer().unwrap();
            p.send(&[i]).unwrap();
            drop(p);
            assert_eq!(q.receive(&mut buf).unwrap(), 1);
            assert!(matches!(q.receive(&mut buf), Err(Error::End)));
            assert!(matches!(q.try_receive(&mut buf), Err(Error::End)));
        }
    }
}

#[test]
fn nobody_to_read() {
    for kind in KINDS {
        let dir = Dir::new();
        let r = ring(&dir, kind, 2, 16);
        let mut p = r.producer().unwrap();
        drop(r.consumer().unwrap());
        p.send(b"a").unwrap();
        p.send(b"b").unwrap();
        assert!(matches!(p.send(b"c"), Err(Error::NoConsumers)));
        assert!(matches!(p.try_send(b"c"), Err(Error::Full)));
        drop(p);
        let mut p = r.producer_with(ProducerOptions { wait_for_consumers: true }).unwrap();
        assert!(matches!(p.send_timeout(b"c", Duration::from_millis(20)), Err(Error::TimedOut)));
    }
}

/// A sleeper is woken, in both directions, many times.
#[test]
fn threads_wait_for_each_other() {
    for kind in KINDS {
        let dir = Dir::new();
        let r = ring(&dir, kind, 2, 16);
        let (mut p, mut q) = (r.producer().unwrap(), r.consumer().unwrap());
        const N: u64 = 20_000;
        let sender = thread::spawn(move || (0..N).for_each(|i| p.send(&i.to_le_bytes()).unwrap()));
        let mut buf = [0; 16];
        for i in 0..N {
            assert_eq!(q.receive(&mut buf).unwrap(), 8);
            assert_eq!(buf[..8], i.to_le_bytes());
        }
        sender.join().unwrap();
        assert!(matches!(q.receive(&mut buf), Err(Error::End)));
    }
}

/// Many threads on one MPMC ring, with every way to send and to receive: each message arrives once.
#[test]
fn many_of_both() {
    for _ in 0..30 {
        many();
    }
}

fn many() {
    let dir = Dir::new();
    let r = ring(&dir, Kind::Mpmc, 16, 16);
    const N: u64 = 5_000;
    let received = thread::scope(|s| {
        let consumers: Vec<_> = (0..3)
            .map(|i| {
                let mut q = r.consumer().unwrap();
                s.spawn(move || {
                    let mut got = Vec::new();
                    let mut buf = [0; 128];
                    let number = |b: &[u8]| u64::from_le_bytes(b[..8].try_into().unwrap());
                    loop {
                        let r = match (got.len() + i) % 3 {
                            0 => q.receive(&mut buf).map(|n| got.push(number(&buf[..n]))),
                            1 => q.next().map(|m| got.push(number(&m))),
                            _ => q.next_batch(4).map(|b| got.extend(b.iter().map(|v| number(v.bytes)))),
                        };
                        match r {
                            Ok(()) => {}
                            Err(Error::End) => return got,
                            Err(e) => panic!("{e}"),
                        }
                    }
                })
            })
            .collect();
        for from in 0..3 {
            let mut p = r.producer().unwrap();
            s.spawn(move || {
                let mut i = from * N;
                while i < (from + 1) * N {
                    let msg = |i: u64| [&i.to_le_bytes()[..], &vec![7; (i % 50) as usize]].concat();
                    match i % 3 {
                        0 => p.send(&msg(i)).unwrap(),
                        1 => {
                            let m = msg(i);
                            let mut room = p.reserve(m.len()).unwrap();
                            room.copy_from_slice(&m);
                            room.commit().unwrap();
                        }
                        _ => {
                            let n = ((from + 1) * N - i).min(3);
                            let msgs: Vec<_> = (i..i + n).map(msg).collect();
                            p.send_batch(&msgs.iter().map(|m| &m[..]).collect::<Vec<_>>()).unwrap();
                            i += n - 1;
                        }
                    }
                    i += 1;
                }
            });
        }
        consumers.into_iter().flat_map(|c| c.join().unwrap()).collect::<Vec<_>>()
    });
    let mut sorted = received;
    sorted.sort_unstable();
    assert_eq!(sorted, (0..3 * N).collect::<Vec<_>>());
    let s = r.stats().unwrap();
    assert_eq!((s.sent, s.received, s.used, s.lost, s.skipped), (3 * N, 3 * N, 0, 0, 0));
}

#[test]
fn a_blocked_call_is_stopped() {
    for kind in KINDS {
        let dir = Dir::new();
        let r = ring(&dir, kind, 2, 16);
        let mut q = r.consumer().unwrap();
        let stopper = q.stopper();
        let waiting = thread::spawn(move || {
            let mut buf = [0; 16];
            (q.receive(&mut buf), q.try_receive(&mut buf))
        });
        thread::sleep(Duration::from_millis(20));
        stopper.stop();
        assert!(matches!(waiting.join().unwrap(), (Err(Error::Closed), Err(Error::Closed))));
    }
}

#[test]
fn roles_names_and_options() {
    let dir = Dir::new();
    let r = ring(&dir, Kind::Spsc, 4, 16);
    let p = r.producer().unwrap();
    assert!(matches!(r.producer(), Err(Error::RoleTaken)));
    drop(p);
    let _p = r.producer().unwrap();
    assert!(matches!(options(&dir, Kind::Spsc, 4, 16).create("q"), Err(Error::Exists)));
    assert!(matches!(options(&dir, Kind::Mpmc, 4, 16).open_or_create("q"), Err(Error::Mismatch("kind"))));
    assert!(matches!(Options::new().dir(&dir.0).open_or_create("q"), Ok((_, false))));
    assert!(matches!(OpenOptions::new().dir(&dir.0).open("none"), Err(Error::NotFound)));
    for name in ["", ".", "a/b", "a.b", "a\n", &"x".repeat(201)] {
        assert!(matches!(options(&dir, Kind::Spsc, 4, 16).create(name), Err(Error::Option("name", _))), "{name}");
    }
    for bad in [
        options(&dir, Kind::Spsc, 3, 16),
        options(&dir, Kind::Spsc, 0, 16),
        options(&dir, Kind::Spsc, 4, 0),
        options(&dir, Kind::Spsc, 1 << 24, 1 << 30),
        options(&dir, Kind::Spsc, 4, 16).participants(4097),
        options(&dir, Kind::Spsc, 4, 16).max_deliveries(49),
        options(&dir, Kind::Spsc, 4, 16).mode(0o1777),
    ] {
        assert!(matches!(bad.create("bad"), Err(Error::Option(..))));
    }
    let all: Vec<_> = std::fs::read_dir(&dir.0).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(all, ["q"]);
}

#[test]
fn the_table_of_participants_is_finite() {
    let dir = Dir::new();
    let r = options(&dir, Kind::Mpmc, 4, 16).participants(2).create("q").unwrap();
    let (a, _b) = (r.producer().unwrap(), r.consumer().unwrap());
    assert!(matches!(r.producer(), Err(Error::TooManyParticipants)));
    drop(a);
    let _c = r.consumer().unwrap();
}

#[test]
fn observers_see_and_change_nothing() {
    for kind in KINDS {
        let dir = Dir::new();
        let r = options(&dir, kind, 8, 16).on_consumer_death(OnConsumerDeath::Drop).create("q").unwrap();
        let mut p = r.producer().unwrap();
        let mut q = r.consumer().unwrap();
        p.send_batch(&[b"a", b"b"]).unwrap();
        p.send(&[9; 40]).unwrap();
        let m = q.next().unwrap();
        let o = OpenOptions::new().dir(&dir.0).read_only().open("q").unwrap();
        assert!(matches!(o.producer(), Err(Error::ReadOnly)));
        let seen = o.peek(10).unwrap();
        assert_eq!(seen.iter().map(|u| &u.payload[..]).collect::<Vec<_>>(), [b"a", b"b", &[9; 40][..]]);
        assert_eq!(o.peek(1).unwrap().len(), 1);
        let s = o.stats().unwrap();
        assert_eq!((s.used, s.sent, s.received, s.producers_live, s.consumers_live), (5, 3, 1, 1, 1));
        o.participants();
        thread::sleep(Duration::from_millis(110));
        let stalled: Vec<_> = o.participants().into_iter().filter(|i| i.state == State::Stalled).collect();
        assert_eq!(stalled.len(), 1);
        assert_eq!(stalled[0].holding, Some(m.position()));
    }
}

/// What a destructor releases while a panic unwinds is released; what it only drops is given back.
#[test]
fn released_while_a_panic_unwinds() {
    struct Drain<'a>(&'a mut Consumer, bool);
    impl Drop for Drain<'_> {
        fn drop(&mut self) {
            let m = self.0.try_next().unwrap();
            if self.1 {
                m.release();
            }
        }
    }
    for kind in KINDS {
        for releases in [true, false] {
            let dir = Dir::new();
            let r = ring(&dir, kind, 8, 16);
            let (mut p, mut q) = (r.producer().unwrap(), r.consumer().unwrap());
            p.send(b"a").unwrap();
            p.send(b"b").unwrap();
            let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let _d = Drain(&mut q, releases);
                std::panic::resume_unwind(Box::new(()));
            }));
            assert!(unwound.is_err());
            let m = q.try_next().unwrap();
            assert_eq!((&m[..], m.deliveries()), if releases { (&b"b"[..], 1) } else { (&b"a"[..], 2) });
        }
    }
}

#[test]
fn a_parked_consumer_is_idle() {
    let dir = Dir::new();
    let r = ring(&dir, Kind::Mpmc, 4, 16);
    let _p = r.producer().unwrap();
    let mut q = r.consumer().unwrap();
    let start = Instant::now();
    assert!(matches!(q.receive_timeout(&mut [0; 16], Duration::from_millis(400)), Err(Error::TimedOut)));
    assert!(start.elapsed() >= Duration::from_millis(400));
    let s = r.stats().unwrap();
    assert!((1..40).contains(&s.sleeps), "{} sleeps", s.sleeps);
}
