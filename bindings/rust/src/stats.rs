//! Observers: they take nothing and change nothing, and everything they return is a guess as soon as it is returned.

use std::collections::HashMap;
use std::fmt;
use std::time::Instant;

use crate::census::role_byte;
use crate::core::{Core, Session};
use crate::error::{Error, Result};
use crate::layout::*;
use crate::lock::Lock;
use crate::order;
use crate::recover::{COUNT, LOST};
use crate::ring::{Ring, Shared};
use crate::wait::STALL_AFTER;
use crate::word::*;

/// What a participant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It sends.
    Producer,
    /// It receives.
    Consumer,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Producer => "producer",
            Role::Consumer => "consumer",
        })
    }
}

/// Counters and positions of a ring, of all its participants since it was created. The counters of a participant that was killed may lack its
/// last operation; `lost`, `skipped` and the numbers of participants are exact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the names are those of docs/FORMAT.md
pub struct Stats {
    pub slots: u64,
    /// Slots that are not free.
    pub used: u64,
    /// Next position to claim.
    pub producer_position: u64,
    /// Next position to receive for the first time.
    pub consumer_position: u64,
    pub sent: u64,
    pub received: u64,
    pub redelivered: u64,
    /// Committed messages that were given up.
    pub lost: u64,
    /// Claims that dead producers left uncommitted.
    pub skipped: u64,
    pub padding: u64,
    pub discarded: u64,
    pub recoveries: u64,
    pub sleeps: u64,
    pub wakes: u64,
    pub producers_ever: u64,
    pub producers_live: u64,
    pub producers_died: u64,
    pub consumers_ever: u64,
    pub consumers_live: u64,
    pub consumers_died: u64,
}

/// How a participant is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its lock is held.
    Live,
    /// Alive, but it has held the same claim or lease in two looks at least 100 ms apart.
    Stalled,
    /// Its lock is gone, and what it held is not recovered yet.
    Dead,
}

/// One registered producer or consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Its place in the table.
    pub id: u32,
    /// What it is.
    pub role: Role,
    /// For people: pids differ between namespaces.
    pub pid: u32,
    /// How it is doing.
    pub state: State,
    /// The first position of the claim or lease that it holds.
    pub holding: Option<u64>,
}

/// What one participant was seen to hold, in which session, and since when.
pub(crate) type Sight = (u64, u64, Instant);

/// A message that is not released yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreleased {
    /// Its place in the order of the ring.
    pub position: u64,
    /// The delivery that it waits for or is in.
    pub deliveries: u32,
    /// A copy of its bytes.
    pub payload: Vec<u8>,
}

/// One stop of a walk: position, end, state word, standing, length word.
type Visit = (u64, u64, u64, Stand, u64);

impl Ring {
    /// Reads the counters, also those of rings that others use. It takes time in proportion to slots and participants.
    pub fn stats(&self) -> Result<Stats> {
        let s = self.shared.stats();
        self.shared.seg.sound()?;
        Ok(s)
    }

    /// Everybody who is registered. `Stalled` needs two looks at least 100 ms apart through the same `Ring`.
    pub fn participants(&self) -> Vec<Info> {
        let (c, now) = (&self.shared.core, Instant::now());
        let held = c.holdings();
        let mut sights = self.shared.sights.lock().unwrap_or_else(|e| e.into_inner());
        let mut seen = HashMap::new();
        let mut list = Vec::new();
        for (id, role) in c.registered() {
            let m = c.participant(id);
            let session = order::peek(&m.since); // E3
            let holding = held.get(&id).copied();
            let mut state = State::Live;
            if let Some(p) = holding {
                let since = match sights.get(&id) {
                    Some((at, of, since)) if (*at, *of) == (p, session) => *since,
                    _ => now,
                };
                seen.insert(id, (p, session, since));
                if now - since >= STALL_AFTER {
                    state = State::Stalled;
                }
            }
            if !self.shared.locked(id) {
                state = State::Dead;
            }
            list.push(Info { id, role, pid: order::peek(&m.pid), state, holding });
            // E3
        }
        *sights = seen;
        list
    }

    /// Copies of up to `n` unreleased messages in the order of their positions, without receiving them.
    pub fn peek(&self, n: usize) -> Result<Vec<Unreleased>> {
        let c = &self.shared.core;
        let mut found = Vec::new();
        c.walk(|(p, e, w, s, length)| {
            if s != Stand::Ready && s != Stand::Taken {
                return found.len() < n;
            }
            let mut k = e.wrapping_sub(p);
            if s == Stand::Taken {
                k = k.min(c.slots_for((length & LENGTH_MASK).min(c.max_message)));
                // the word speaks for the lease
            }
            if let Some(at) = c.payload(p, k, length).filter(|_| found.len() < n) {
                let mut payload = vec![0; at.len as usize];
                at.get(&mut payload);
                let same = match c.spsc {
                    true => distance(order::load(&c.ctl().consumer_position), p) <= 0, // D4
                    false => order::load(c.state(p)) == w,                             // C2
                };
                if same {
                    found.push(Unreleased { position: p, deliveries: deliveries(given_back(w)), payload });
                }
            }
            found.len() < n
        });
        self.shared.seg.sound()?;
        Ok(found)
    }

    /// Gives back what dead participants hold, and returns who they were. Rings repair themselves as they are used; this does it for one
    /// that nobody uses.
    pub fn recover(&self) -> Result<Vec<Info>> {
        self.may_register()?;
        let dead: Vec<Info> = self.participants().into_iter().filter(|i| i.state == State::Dead).collect();
        if self.shared.core.spsc {
            // Whoever found them dead may have retired them, and settled nothing.
            self.shared.settle_role(Role::Producer)?;
            self.shared.settle_role(Role::Consumer)?;
        }
        for i in &dead {
            self.shared.recover_if_dead(i.id);
        }
        self.shared.seg.sound()?;
        Ok(dead)
    }
}

impl Shared {
    /// Whether the ring is gone: removed by force, or truncated. The first look may be what finds the memory gone.
    pub(crate) fn gone(&self) -> Result<()> {
        if order::load(&self.core.ctl().removed) != 0 {
            return Err(Error::SegmentLost); // X6
        }
        self.seg.sound()
    }

    fn stats(&self) -> Stats {
        let c = &self.core;
        let mut s = Stats { slots: c.slots, recoveries: order::peek(&c.ctl().recoveries), ..Stats::default() }; // K2
        for i in 0..c.slots {
            let v = order::peek(c.account(i)); // K2
            s.lost += (v / LOST) & COUNT;
            s.skipped += v & COUNT;
        }
        for id in 0..c.participants {
            let m = c.participant(id);
            let sums = [
                (&mut s.sent, &m.sent),
                (&mut s.received, &m.received),
                (&mut s.redelivered, &m.redelivered),
                (&mut s.padding, &m.padding),
                (&mut s.discarded, &m.discarded),
                (&mut s.sleeps, &m.sleeps),
                (&mut s.wakes, &m.wakes),
            ];
            for (sum, counter) in sums {
                *sum = sum.wrapping_add(order::peek(counter)); // K2
            }
            let count = |x: Session<'_>, ever: &mut u64, live: &mut u64, died: &mut u64| {
                *ever += u64::from(x.ever());
                *died += u64::from(order::load(x.died)); // X5
                if x.open() {
                    *(if self.locked(id) { live } else { died }) += 1;
                }
            };
            count(m.session(Role::Producer), &mut s.producers_ever, &mut s.producers_live, &mut s.producers_died);
            count(m.session(Role::Consumer), &mut s.consumers_ever, &mut s.consumers_live, &mut s.consumers_died);
        }
        (s.used, s.producer_position, s.consumer_position) = c.positions();
        s
    }

    /// Takes over the role of a dead SPSC participant for as long as it takes to settle what it held. When it is taken, a successor has.
    fn settle_role(&self, role: Role) -> Result<()> {
        let lock = Lock::new(&self.seg.keeper.file)?;
        if !lock.add(role_byte(role))? {
            return Ok(());
        }
        match role {
            Role::Producer => self.core.settle_producer().map(|_| ()),
            Role::Consumer => {
                self.core.settle_consumer();
                Ok(())
            }
        }
    }
}

impl Core {
    /// Who has an open session, and in which role.
    fn registered(&self) -> impl Iterator<Item = (u32, Role)> + '_ {
        (0..self.participants).filter_map(|id| {
            let m = self.participant(id);
            [Role::Producer, Role::Consumer].into_iter().find(|r| m.session(*r).open()).map(|r| (id, r))
        })
    }

    /// The first position that each participant holds: from the state words for MPMC, from their entries for SPSC.
    fn holdings(&self) -> HashMap<u32, u64> {
        let mut held = HashMap::new();
        if self.spsc {
            for id in 0..self.participants {
                let v = order::load(&self.participant(id).held); // V0
                if v != 0 {
                    held.insert(id, v - 1);
                }
            }
            return held;
        }
        self.walk(|(p, _, w, s, _)| {
            if s != Stand::Ready && owner(w) < self.participants {
                held.entry(owner(w)).or_insert(p);
            }
            true
        });
        held
    }

    /// Whether something is committed and not released, or claimed.
    pub(crate) fn unread(&self) -> bool {
        let mut any = false;
        self.walk(|(_, _, _, s, _)| {
            any |= matches!(s, Stand::Ready | Stand::Taken | Stand::Claimed);
            !any
        });
        any
    }

    /// How many slots are in use, the next position to claim and the next position to receive.
    fn positions(&self) -> (u64, u64, u64) {
        let ctl = self.ctl();
        let mut next = order::load(&ctl.producer_position); // P0 S5
        let mut taken = order::load(&ctl.consumer_position); // C1 D4
        if self.spsc {
            for _ in 0..self.slots {
                match spsc_end(order::load(self.state(next)), next, self.slots) {
                    Some(e) => next = e, // D1
                    None => break,
                }
            }
            return (next.wrapping_sub(taken).min(self.slots), next, taken);
        }
        let walk_on = |p: &mut u64, over: fn(Stand) -> bool| {
            for _ in 0..4 * self.slots {
                let w = order::load(self.state(*p)); // P1 C2
                match stand(w, *p, self.slots) {
                    (Stand::Passed, e) => *p = beyond(w, *p, e, self.slots),
                    (s, e) if over(s) => *p = e,
                    _ => return,
                }
            }
        };
        walk_on(&mut next, |s| matches!(s, Stand::Claimed | Stand::Ready | Stand::Taken | Stand::Done));
        walk_on(&mut taken, |s| matches!(s, Stand::Taken | Stand::Done));
        let mut used = 0;
        let mut p = self.oldest(next);
        while distance(next, p) > 0 {
            let w = order::load(self.state(p)); // C2
            match stand(w, p, self.slots) {
                (Stand::Claimed | Stand::Ready | Stand::Taken | Stand::Done, e) => {
                    used += e.wrapping_sub(p);
                    p = e;
                }
                _ => p = p.wrapping_add(1),
            }
        }
        (used.min(self.slots), next, taken)
    }

    /// Visits every message in use, in the order of positions, until `f` returns false. A lease's word is that of its first message; those
    /// behind it are visited as ready. A run is visited message by message.
    fn walk(&self, f: impl FnMut(Visit) -> bool) {
        if self.spsc {
            self.walk_spsc(f);
        } else {
            self.walk_mpmc(f);
        }
    }

    fn walk_mpmc(&self, mut f: impl FnMut(Visit) -> bool) {
        let (_, next, _) = self.positions(); // the hint alone may lag by laps
        let mut p = self.oldest(next);
        for _ in 0..4 * self.slots {
            let w = order::load(self.state(p)); // C2
            let (s, mut e) = stand(w, p, self.slots);
            match s {
                // Behind the end, or inside a message of several slots that is leased.
                Stand::Free | Stand::Old if distance(p, next) >= 0 => return,
                Stand::Free | Stand::Old | Stand::Passed => {
                    p = p.wrapping_add(1);
                    continue;
                }
                Stand::Corrupt => return,
                _ => {}
            }
            if e.wrapping_sub(p) > self.slots {
                return;
            }
            let length = order::peek(&self.entry(p).length); // C3
            if !f((p, e, w, s, length)) {
                return;
            }
            if s == Stand::Taken {
                // The messages behind the first have words of their own.
                e = earlier(p.wrapping_add(self.slots_for((length & LENGTH_MASK).min(self.max_message))), e);
            }
            p = e;
        }
    }

    fn walk_spsc(&self, mut f: impl FnMut(Visit) -> bool) {
        let mut p = order::load(&self.ctl().consumer_position); // D4
        for _ in 0..=self.slots {
            let w = order::load(self.state(p)); // D1
            let (e, length, given) = match spsc_end(w, p, self.slots) {
                Some(e) => (e, order::peek(&self.entry(p).length), given_back(w)), // D2
                None => match self.inside_run(p) {
                    Some((e, n)) => (e, n | FLAG_RUN, 0), // w is of an earlier lap
                    None => return,
                },
            };
            if length & FLAG_PAD != 0 || self.max_deliveries > 0 && given >= self.max_deliveries {
                p = e; // no message, or lost and waits to be stepped over
                continue;
            }
            if length & FLAG_RUN == 0 {
                if !f((p, e, w, Stand::Ready, length)) {
                    return;
                }
                p = e;
            }
            while p != e {
                let next = p.wrapping_add(1);
                if !f((p, next, spsc_word(next, 0), Stand::Ready, length & !FLAG_RUN)) {
                    return;
                }
                p = next;
            }
        }
    }
}
