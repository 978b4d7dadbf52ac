//! How fast messages go from one process to another:
//!
//! ```text
//! throughput KIND SIZE COUNT [MODE]      KIND spsc, mpmc; MODE copy (default), place (reserve and next), batch (of 32)
//! ```
//!
//! It starts itself once more to receive, and prints nanoseconds per message. Pin the two processes, and compare with what else runs on
//! the machine at the same time only.

use std::process::Command;
use std::time::Instant;

use millrace::{Kind, OpenOptions, Options, RemoveOptions};

const BATCH: usize = 32;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let (kind, size, count): (_, usize, usize) = (&args[1], args[2].parse()?, args[3].parse()?);
    let mode = args.get(4).map_or("copy", String::as_str);
    let name = format!("throughput-{}", args.get(5).cloned().unwrap_or_else(|| std::process::id().to_string()));
    if args.len() > 5 {
        return receive(&name, size, count, mode);
    }
    let kind = if kind == "spsc" { Kind::Spsc } else { Kind::Mpmc };
    let ring = Options::new().kind(kind).slots(1024).slot_size(size.max(1) as u64).create(&name)?;
    let mut p = ring.producer()?;
    let id = std::process::id().to_string();
    let mut receiver = Command::new(std::env::current_exe()?).args(&args[1..4]).args([mode, &id]).spawn()?;
    let msg = vec![1; size];
    match mode {
        "copy" => (0..count).try_for_each(|_| p.send(&msg))?,
        "place" => {
            for i in 0..count {
                let mut room = p.reserve(size)?;
                room.fill(i as u8);
                room.commit()?;
            }
        }
        _ => (0..count / BATCH).try_for_each(|_| p.send_batch(&[&msg[..]; BATCH]))?,
    }
    drop(p);
    let ok = receiver.wait()?.success();
    drop(ring);
    RemoveOptions::new().remove(&name)?;
    if ok {
        Ok(())
    } else {
        Err("the receiver failed".into())
    }
}

fn receive(name: &str, size: usize, count: usize, mode: &str) -> Result<(), Box<dyn std::error::Error>> {
    let ring = OpenOptions::new().open(name)?;
    let mut q = ring.consumer()?;
    let mut buf = vec![0; size];
    let mut start = None;
    let (mut n, mut sum) = (0, 0);
    loop {
        let r = match mode {
            "copy" => q.receive(&mut buf).map(|_| 1),
            "place" => q.next().map(|m| {
                sum += m.first().map_or(0, |x| u64::from(*x));
                1
            }),
            _ => q.next_batch(BATCH).map(|b| b.len()),
        };
        match r {
            Ok(k) => n += k,
            Err(millrace::Error::End) => break,
            Err(e) => return Err(e.into()),
        }
        if n >= count / 10 && start.is_none() {
            start = Some((Instant::now(), n));
        }
    }
    if let Some((t, first)) = start {
        println!("{:.1} ns", t.elapsed().as_nanos() as f64 / (n - first).max(1) as f64);
    }
    std::hint::black_box(sum);
    Ok(())
}
