//! Batches: one claim, one word to publish, for many messages; `docs/FORMAT.md` sections 9.2 and 10.1.

use std::time::{Duration, Instant};

use crate::error::{Error, Partial, Result};
use crate::layout::FLAG_RUN;
use crate::order;
use crate::producer::Producer;
use crate::word::*;

/// What the messages of a batch have in common.
#[derive(Clone, Copy)]
struct Shape {
    even: bool,  // one size
    small: bool, // one slot each
}

impl Producer {
    /// Commits copies of `msgs`, in order.
    ///
    /// All sizes are checked first. A batch that needs at most half of the slots is claimed whole, and waits until it fits; a longer one goes
    /// as several such parts. Within a part nothing comes between. Blocks as [`send`](Producer::send) does.
    /// Failure: if the process dies within a part, a prefix of it may be committed: never a hole, never a torn message.
    pub fn send_batch(&mut self, msgs: &[&[u8]]) -> std::result::Result<(), Partial> {
        self.batch_until(msgs, None)
    }

    /// [`send_batch`](Producer::send_batch) that gives up after a time.
    pub fn send_batch_timeout(&mut self, msgs: &[&[u8]], timeout: Duration) -> std::result::Result<(), Partial> {
        self.batch_until(msgs, Instant::now().checked_add(timeout))
    }

    fn batch_until(&mut self, msgs: &[&[u8]], deadline: Option<Instant>) -> std::result::Result<(), Partial> {
        let mut sent = 0;
        let r = self.h.enter().and_then(|()| {
            let shape = self.shape(msgs)?;
            while sent < msgs.len() {
                let rest = &msgs[sent..];
                sent += match self.send_part(rest, shape) {
                    Err(Error::Full) => self.wait(deadline, |p| p.send_part(rest, shape))?,
                    r => r?,
                };
            }
            Ok(())
        });
        self.h.leave(r).map_err(|error| Partial::new(sent, error))
    }

    /// Commits the longest prefix of `msgs` that fits; [`Error::Full`] when that is not all. Blocks: never.
    pub fn try_send_batch(&mut self, msgs: &[&[u8]]) -> std::result::Result<(), Partial> {
        let mut sent = 0;
        let r = self.h.enter().and_then(|()| {
            let shape = self.shape(msgs)?;
            let mut repaired = false;
            while sent < msgs.len() {
                let rest = &msgs[sent..];
                let n = match self.send_part(rest, shape) {
                    Err(Error::Full) => self.send_prefix(rest, shape)?,
                    r => r?,
                };
                sent += n;
                if n == 0 {
                    if repaired || !self.unblock() {
                        return Err(Error::Full);
                    }
                    repaired = true;
                }
            }
            Ok(())
        });
        self.h.leave(r).map_err(|error| Partial::new(sent, error))
    }

    /// Checks every size, and notes what they have in common.
    fn shape(&self, msgs: &[&[u8]]) -> Result<Shape> {
        let first = msgs.first().map_or(0, |m| m.len());
        let (mut largest, mut even) = (first, true);
        for m in msgs {
            largest = largest.max(m.len());
            even &= m.len() == first;
        }
        self.fits(largest as u64)?;
        Ok(Shape { even, small: largest as u64 <= self.h.c.slot_size })
    }

    /// How many messages make up the next part: as many as need at most half of the slots.
    fn part(&self, msgs: &[&[u8]], shape: Shape) -> usize {
        let c = &self.h.c;
        if shape.small {
            return msgs.len().min(c.max_slots as usize);
        }
        let mut slots = 0;
        msgs.iter()
            .take_while(|m| {
                slots += c.slots_for(m.len() as u64);
                slots <= c.max_slots
            })
            .count()
    }

    /// How many of `msgs` fit when they are laid out from `t` on and end at `room` at the latest, where they end, and the padding among them.
    fn lay_out(&self, msgs: &[&[u8]], shape: Shape, t: u64, room: u64) -> (usize, u64, u64) {
        let c = &self.h.c;
        if shape.small {
            let n = (distance(room, t).max(0) as u64).min(msgs.len() as u64);
            return (n as usize, t.wrapping_add(n), 0);
        }
        let (mut end, mut padding) = (t, 0);
        for (i, m) in msgs.iter().enumerate() {
            let k = c.slots_for(m.len() as u64);
            let pad = c.pad(end, k);
            let next = end.wrapping_add(pad + k);
            if distance(room, next) < 0 {
                return (i, end, padding);
            }
            end = next;
            padding += pad;
        }
        (msgs.len(), end, padding)
    }

    /// Commits the whole next part of `msgs`, or returns `Full`.
    fn send_part(&mut self, msgs: &[&[u8]], shape: Shape) -> Result<usize> {
        let c = self.h.c;
        let n = self.part(msgs, shape);
        let msgs = &msgs[..n];
        if c.spsc {
            let far = self.pos.wrapping_add(2 * c.slots);
            let (_, end, _) = self.lay_out(msgs, shape, self.pos, far);
            if end.wrapping_sub(self.limit) > c.slots {
                self.room(end)?;
            }
            self.spsc_batch(msgs, shape);
            return Ok(n);
        }
        for _ in 0..c.max_steps {
            let (t, w) = self.mpmc_peek()?;
            let (_, end, padding) = self.lay_out(msgs, shape, t, t.wrapping_add(2 * c.slots));
            let q = c.first_used(t.wrapping_add(1), end);
            if q != end {
                if order::load(c.state(t)) != w {
                    continue; // P2: t was claimed meanwhile
                }
                return Err(self.full(q));
            }
            if order::cas(c.state(t), w, claimed_word(end, self.h.id)) {
                self.mpmc_batch(msgs, t, padding); // P3
                return Ok(n);
            }
        }
        Err(self.lost_way())
    }

    /// Commits the longest prefix of the next part that fits, which may be nothing.
    fn send_prefix(&mut self, msgs: &[&[u8]], shape: Shape) -> Result<usize> {
        let c = self.h.c;
        let msgs = &msgs[..self.part(msgs, shape)];
        if c.spsc {
            match self.room(self.pos.wrapping_add(c.slots)) {
                Ok(()) | Err(Error::Full) => {} // it learned all there is
                Err(e) => return Err(e),
            }
            let (n, _, _) = self.lay_out(msgs, shape, self.pos, self.limit.wrapping_add(c.slots));
            self.spsc_batch(&msgs[..n], shape);
            return Ok(n);
        }
        for _ in 0..c.max_steps {
            let (t, w) = match self.mpmc_peek() {
                Err(Error::Full) => return Ok(0),
                r => r?,
            };
            let room = c.first_used(t.wrapping_add(1), t.wrapping_add(c.slots));
            let (n, end, padding) = self.lay_out(msgs, shape, t, room);
            if n == 0 {
                if order::load(c.state(t)) != w {
                    continue; // P2
                }
                self.full(room);
                return Ok(0);
            }
            if order::cas(c.state(t), w, claimed_word(end, self.h.id)) {
                self.mpmc_batch(&msgs[..n], t, padding); // P3
                return Ok(n);
            }
        }
        Err(self.lost_way())
    }

    /// Fills and publishes the extent claimed at `head`: everything behind the head first, the head last.
    fn mpmc_batch(&mut self, msgs: &[&[u8]], head: u64, padding: u64) {
        let c = self.h.c;
        let mut head_word = 0;
        let mut x = head;
        for msg in msgs {
            let n = msg.len() as u64;
            let k = c.slots_for(n);
            let pad = c.pad(x, k);
            if pad > 0 {
                let next = x.wrapping_add(pad);
                if x == head {
                    head_word = free_word(head.wrapping_add(c.slots)); // the extent begins with padding
                    self.h.free_stretch(x.wrapping_add(1), next);
                } else {
                    self.h.free_stretch(x, next);
                }
                x = next;
            }
            let (payload, length) = c.place(x, n);
            payload.put(msg);
            order::write(&c.entry(x).length, length); // P4
            let word = ready_word(x.wrapping_add(k), 0);
            if x == head {
                head_word = word;
            } else {
                order::store(c.state(x), word); // P5: reached only past the head
            }
            x = x.wrapping_add(k);
        }
        order::publish(c.state(head), head_word, self.h.fenced); // P6
        if padding > 0 {
            order::bump(&self.h.me().padding, padding);
        }
        self.advance(head, x, msgs.len() as u64);
        self.announce(msgs.len() as u64, padding > 0);
    }

    /// Publishes messages of an SPSC ring for which there is room.
    fn spsc_batch(&mut self, msgs: &[&[u8]], shape: Shape) {
        let c = self.h.c;
        let Some(first) = msgs.first() else { return };
        if msgs.len() > 1 && shape.even && shape.small {
            return self.spsc_run(msgs, first.len() as u64);
        }
        for msg in msgs {
            let n = msg.len() as u64;
            let k = c.slots_for(n);
            let pad = c.pad(self.pos, k);
            if pad > 0 {
                self.skip_to_start(pad);
            }
            let x = self.pos;
            let (payload, length) = c.place(x, n);
            payload.put(msg);
            order::write(&c.entry(x).length, length); // S3
            self.pos = x.wrapping_add(k);
            order::publish(c.state(x), spsc_word(self.pos, 0), self.h.fenced); // S4; the last one also for N1
        }
        self.committed(self.pos, msgs.len() as u64);
    }

    /// Publishes equally long messages of one slot each by one word.
    fn spsc_run(&mut self, msgs: &[&[u8]], size: u64) {
        let c = self.h.c;
        let t = self.pos;
        for (i, msg) in (0..).zip(msgs) {
            c.cell_for(t.wrapping_add(i), size).put(msg);
        }
        let end = t.wrapping_add(msgs.len() as u64);
        order::write(&c.entry(t).length, size | FLAG_RUN); // S3
        order::publish(c.state(t), spsc_word(end, 0), self.h.fenced); // S4
        self.committed(end, msgs.len() as u64);
    }
}
