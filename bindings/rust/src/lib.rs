//! A queue over shared memory between processes on one Linux machine, safe against SIGKILL at any instruction.
//!
//! A [`Ring`] is one segment of shared memory. Any number of processes, in any language that has a client, open it by name and register
//! producers and consumers: one of each for SPSC, up to 4,096 in all for MPMC. Committed messages stay whatever dies; a dead participant's
//! claims are repaired by whoever needs them; nothing is taken from a process that is merely slow. `docs/FORMAT.md` is the protocol that
//! this crate implements on its own, with nothing but `std`.
//!
//! ```no_run
//! use millrace::{Options, Ring};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ring = Ring::create("orders", &Options::new().slots(1024).slot_size(256))?;
//! let mut producer = ring.producer()?;
//! producer.send(b"by copying")?;
//! let mut room = producer.reserve(8)?;
//! room.copy_from_slice(b"in place");
//! room.commit()?;
//!
//! let mut consumer = ring.consumer()?;
//! let mut buf = [0; 256];
//! let n = consumer.receive(&mut buf)?;
//! assert_eq!(&buf[..n], b"by copying");
//! let message = consumer.next()?; // a slice of the ring, released when it is dropped
//! assert_eq!(&message[..], b"in place");
//! # Ok(()) }
//! ```
//!
//! Handles are used by one thread at a time, which `&mut self` says to the compiler; they may move between threads. Dropping a handle ends
//! its registration: an open reservation is discarded, an open lease given back. [`Stopper`] ends a blocked call from another thread.
//!
//! A forked child inherits no role: its handles return [`Error::Closed`], and the locks that it inherited are closed by a handler of
//! `pthread_atfork`. A raw `clone` goes round that and keeps its parent alive.
//!
//! The first mapping installs a handler for SIGBUS that acts on segments which somebody truncates, and passes everything else on; see
//! [`disable_fault_guard`].

#![warn(missing_docs)]

mod batch;
mod census;
mod consumer;
mod core;
mod create;
mod error;
mod event;
mod fork;
mod guard;
mod handle;
mod hash;
mod header;
#[rustfmt::skip] // generated
pub mod layout;
mod lease;
mod lock;
mod memory;
mod mpmc_receive;
mod mpmc_send;
mod order;
mod producer;
mod recover;
mod remove;
mod ring;
mod segment;
mod settle;
mod spsc_receive;
mod spsc_send;
mod stats;
mod sys;
mod sysv;
mod wait;
mod word;

pub use consumer::{Batch, Consumer, ConsumerOptions, Delivery, Message, View};
pub use error::{Error, FormatClass, FormatError, IoError, Partial, Result, Stalled};
pub use guard::disable_fault_guard;
pub use handle::Stopper;
pub use hash::xxh64;
pub use header::Header;
pub use producer::{Producer, ProducerOptions, Reservation};
pub use remove::{remove, RemoveOptions};
pub use ring::{Backing, Kind, OnConsumerDeath, OpenOptions, Options, Ring};
pub use segment::default_dir;
pub use stats::{Info, Role, State, Stats, Unreleased};
