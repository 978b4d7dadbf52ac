//! Deaths of processes, seen from this one: the test binary starts itself again in the role that a variable of the environment names.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::Dir;
use millrace::{Error, Kind, OpenOptions, Options, State};

const ROLE: &str = "MILLRACE_TEST_ROLE";

extern "C" {
    fn fork() -> i32;
    fn kill(pid: i32, signal: i32) -> i32;
}

/// What a started process does: it says when it is ready, and waits to be killed.
fn act(role: &str, dir: &str) -> ! {
    let ring = OpenOptions::new().dir(dir).open("q").unwrap();
    let mut p = ring.producer().unwrap();
    let mut child = 0;
    match role {
        "forks" => {
            p.send(b"before").unwrap();
            p.reserve(3).unwrap().keep();
            // SAFETY: the child only sleeps.
            child = unsafe { fork() };
        }
        "claims" => p.reserve(40).unwrap().keep(),
        other => panic!("no role {other}"),
    }
    if child != 0 || role == "claims" {
        println!("ready {child}");
    }
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Not a test of its own: the beginning of a started process.
#[test]
fn started() {
    if let Ok(role) = std::env::var(ROLE) {
        let (role, dir) = role.split_once(' ').unwrap();
        act(role, dir);
    }
}

/// Starts a process and waits until it is ready; returns what it says.
fn start(role: &str, dir: &Dir) -> (Child, i32) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "started", "--nocapture"])
        .env(ROLE, format!("{role} {}", dir.0.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = lines.map(Result::unwrap).find_map(|l| l.split_once("ready ").map(|(_, n)| n.parse().unwrap()));
    (child, said.expect("the process ended"))
}

/// A process dies whose forked child lives on. Property: it is dead, and what it held is recovered.
#[test]
fn a_forked_child_keeps_nobody_alive() {
    for kind in [Kind::Spsc, Kind::Mpmc] {
        let dir = Dir::new();
        let ring = Options::new().dir(&dir.0).kind(kind).slots(8).slot_size(16).create("q").unwrap();
        let mut q = ring.consumer().unwrap();
        let (mut parent, grandchild) = start("forks", &dir);
        assert_eq!(q.next().unwrap()[..], *b"before");
        assert!(ring.participants().iter().all(|i| i.state == State::Live));
        parent.kill().unwrap();
        parent.wait().unwrap();
        assert!(matches!(q.receive_timeout(&mut [0; 16], Duration::from_secs(30)), Err(Error::End)));
        drop(ring.producer().unwrap());
        assert_eq!(ring.stats().unwrap().skipped, 1);
        // SAFETY: plain system call; signal 0 only asks.
        unsafe {
            assert_eq!(kill(grandchild, 0), 0, "the child lives");
            kill(grandchild, 9);
        }
    }
}

/// A producer dies with a claim while a consumer polls, and while one is parked. Property: both go on.
#[test]
fn a_death_is_noticed_by_who_polls_and_by_who_waits() {
    let dir = Dir::new();
    let ring = Options::new().dir(&dir.0).slots(8).slot_size(16).create("q").unwrap();
    let mut p = ring.producer().unwrap();
    let mut q = ring.consumer().unwrap();
    for polls in [false, true] {
        let (mut claimer, _) = start("claims", &dir);
        p.send(b"behind it").unwrap();
        let mut buf = [0; 16];
        assert!(matches!(q.try_receive(&mut buf), Err(Error::Empty)));
        claimer.kill().unwrap();
        claimer.wait().unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        let n = loop {
            let r = if polls { q.try_receive(&mut buf) } else { q.receive_timeout(&mut buf, Duration::from_secs(30)) };
            match r {
                Ok(n) => break n,
                Err(Error::Empty) if Instant::now() < end => {}
                Err(e) => panic!("{e}"),
            }
        };
        assert_eq!(&buf[..n], b"behind it");
    }
    assert_eq!(ring.stats().unwrap().skipped, 2);
}
