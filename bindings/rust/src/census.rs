//! Who is registered and who is alive, `docs/FORMAT.md` sections 7 and 12.

use std::sync::OnceLock;
use std::time::Duration;

use crate::create::now;
use crate::error::{Error, Result};
use crate::layout::*;
use crate::lock::Lock;
use crate::order;
use crate::ring::Shared;
use crate::sys;
use crate::word::{is_ready, is_taken, state_of};
use crate::Role;

/// The byte that the one producer, or consumer, of an SPSC ring locks.
pub(crate) fn role_byte(role: Role) -> u64 {
    match role {
        Role::Producer => LOCK_PRODUCER,
        Role::Consumer => LOCK_CONSUMER,
    }
}

pub(crate) fn participant_byte(id: u32) -> u64 {
    LOCK_PARTICIPANT + u64::from(id)
}

/// Whether the kernel can execute the barrier that a sleeper needs (W2).
pub(crate) fn has_membarrier() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    const BOTH: i32 = sys::MEMBARRIER_GLOBAL_EXPEDITED | sys::MEMBARRIER_REGISTER_GLOBAL_EXPEDITED;
    *HAS.get_or_init(|| sys::membarrier_commands() & BOTH == BOTH)
}

/// How this process publishes (FORMAT 8.4). A forked child inherits the registration.
fn publishes() -> u32 {
    static HOW: OnceLock<u32> = OnceLock::new();
    *HOW.get_or_init(|| {
        if has_membarrier() && sys::membarrier(sys::MEMBARRIER_REGISTER_GLOBAL_EXPEDITED) {
            PUBLISH_MEMBARRIER as u32
        } else {
            PUBLISH_FENCED as u32
        }
    })
}

impl Shared {
    /// Whether participant `id` holds its lock.
    pub(crate) fn locked(&self, id: u32) -> bool {
        self.seg.keeper.locked(participant_byte(id))
    }

    /// Whether a session in the role was ever begun, and whether one is open and its owner alive. `hint` is where to look first.
    pub(crate) fn alive(&self, role: Role, hint: &mut u32) -> (bool, bool) {
        let c = &self.core;
        if *hint < c.participants && c.participant(*hint).session(role).open() && self.locked(*hint) {
            return (true, true);
        }
        let mut ever = false;
        for id in 0..c.participants {
            let s = c.participant(id).session(role);
            if s.ever() == 0 {
                continue;
            }
            ever = true;
            if s.open() && self.locked(id) {
                *hint = id;
                return (true, true);
            }
        }
        (ever, false)
    }

    /// Recovers participant `id` if the kernel says that it is dead.
    pub(crate) fn recover_if_dead(&self, id: u32) -> bool {
        id < self.core.participants && !self.locked(id) && self.recover(id)
    }

    /// Recovers everybody who is dead and not yet retired.
    pub(crate) fn recover_all(&self) -> bool {
        let mut any = false;
        for id in 0..self.core.participants {
            any |= self.core.participant(id).open() && self.recover_if_dead(id);
        }
        any
    }

    /// Whether the producer session that ended last ended by death.
    pub(crate) fn last_producer_died(&self) -> bool {
        let all = (0..self.core.participants).map(|id| self.core.participant(id));
        let last = all.filter(|m| m.session(Role::Producer).ever() != 0).map(|m| order::peek(&m.ended)).max(); // E2
        last.is_some_and(|ended| ended & 1 != 0)
    }

    /// Whether some message of the last N positions is claimed, ready or leased.
    pub(crate) fn unreleased(&self) -> bool {
        (0..self.core.slots).any(|i| {
            let w = order::load(self.core.state(i)); // C2
            is_ready(w) || is_taken(w) || state_of(w) == STATE_CLAIMED
        })
    }

    /// R1..R5: returns the id, the lock that is the proof of life, and how this process publishes.
    pub(crate) fn register(&self, role: Role) -> Result<(u32, Lock, u32)> {
        let c = &self.core;
        let lock = Lock::new(&self.seg.keeper.file)?;
        let publish = publishes();
        if c.spsc {
            self.lock_role(&lock, role)?; // R1
        }
        for i in 0..100 {
            let (id, again) = self.take_entry(&lock)?;
            if let Some(id) = id {
                let m = c.participant(id);
                order::write(&m.pid, std::process::id()); // R3
                order::write(&m.publish, publish);
                order::write(&m.since, now());
                order::write(&m.held, 0);
                order::add(m.session(role).registered, 1); // R4
                order::add(&c.ctl().roster, 1); // R5
                return Ok((id, lock, publish));
            }
            if !again && i > 0 {
                break; // a second look in any case: an entry that somebody else tries for a moment looks as if its dead owner lived
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(Error::TooManyParticipants)
    }

    /// Locks an entry of the table that no session is open in: R2. The bool says that one was locked by somebody who recovers its dead owner,
    /// or is about to leave it.
    fn take_entry(&self, lock: &Lock) -> Result<(Option<u32>, bool)> {
        let c = &self.core;
        let mut again = false;
        for retire in [false, true] {
            // Free entries first, then those of the dead.
            for id in 0..c.participants {
                let m = c.participant(id);
                if m.open() && !(retire && (self.recover_if_dead(id) || !m.open())) {
                    continue; // it lives; otherwise somebody else may just have retired it
                }
                if !lock.add(participant_byte(id))? {
                    again = true;
                    continue;
                }
                if !m.open() {
                    return Ok((Some(id), false));
                }
                lock.drop_byte(participant_byte(id))?; // somebody came, and died, between the look and the lock
            }
        }
        Ok((None, again))
    }

    /// Takes the one role of an SPSC ring. A lock that nobody alive explains is a recoverer's, or a process on its way out: it is waited for.
    fn lock_role(&self, lock: &Lock, role: Role) -> Result<()> {
        let mut hint = 0;
        for _ in 0..100 {
            if lock.add(role_byte(role))? {
                return Ok(());
            }
            if self.alive(role, &mut hint).1 {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(Error::RoleTaken)
    }
}
