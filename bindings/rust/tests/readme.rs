//! The program of the README is the example, and does what it says.

mod common;

use std::process::Command;

#[test]
fn the_readme_program_runs() {
    let source = include_str!("../examples/readme.rs");
    let readme = include_str!("../README.md");
    let block = readme.split("```rust\n").nth(1).and_then(|s| s.split("```").next());
    assert_eq!(block, Some(source));
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().and_then(|p| p.parent()).unwrap().join("examples/readme");
    let dir = common::Dir::new();
    let run = || Command::new(&program).env("MILLRACE_DIR", &dir.0).output().unwrap();
    let out = run();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(String::from_utf8_lossy(&out.stdout), "hello, whoever you are\n");
    assert!(!run().status.success(), "the ring is still there: create says so");
}
